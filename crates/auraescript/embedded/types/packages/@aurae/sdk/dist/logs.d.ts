import type { CallOptions } from "@connectrpc/connect";
import type { AuraeNode } from "./node.js";
/** An output of an executable. */
export type OutputName = "stdout" | "stderr";
/** Which lines of an executable's output. */
export interface LogOptions {
    /** Goes on with what comes until the executable ends. */
    follow?: boolean;
    /** Starts with the last so many of the kept lines. Unset: all that were kept. */
    tail?: number;
    /** Leaves out what was read before this time. */
    since?: Date;
    /** Which output. Unset: both. */
    output?: OutputName;
}
/** A line of output. */
export interface LogLine {
    /** The line, without its end. Bytes that are not UTF-8 are replaced by U+FFFD. */
    text: string;
    /** The line, byte for byte. */
    bytes: Uint8Array;
    /** Which output it was on. */
    output: OutputName;
    /** When the node read it, in nanoseconds since the epoch. */
    unixNanos: bigint;
    /** No line end followed: the line goes on in the next one, or the output ended here. */
    partial: boolean;
    /** How many lines before this one were lost because we were too slow, or no longer kept. */
    missed: number;
}
/** Reads an executable's output line by line. Leaving the loop ends the call. */
export declare function readLogs(node: AuraeNode, which: {
    cellName?: string;
    executableName: string;
}, { follow, tail, since, output, ...options }?: LogOptions & CallOptions): AsyncGenerator<LogLine, void, undefined>;
