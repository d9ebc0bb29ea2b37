import { type CallOptions } from "@connectrpc/connect";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CellSchema, CellServiceInspectResponse, CellServiceStartRequestSchema, ExecutableSchema, ExecutableStatus } from "../gen/aurae/cells/v0/cells_pb.js";
import { type LogLine, type LogOptions } from "./logs.js";
import type { AuraeNode } from "./node.js";
type Init<T> = Omit<Exclude<T, {
    $typeName: string;
}>, "$typeName">;
/** A cell's limits and isolation; every field is described at `Cell`. */
export type CellInit = Omit<Init<MessageInitShape<typeof CellSchema>>, "name">;
/** What to start: the fields of `Executable`, and who it runs as. */
export type ExecutableInit = Omit<Init<MessageInitShape<typeof ExecutableSchema>>, "name"> & Pick<Init<MessageInitShape<typeof CellServiceStartRequestSchema>>, "uid" | "gid">;
/** How long executables have between SIGTERM and SIGKILL. */
export interface Grace {
    /** In milliseconds. Unset: the daemon's default, 10 s. 0: killed at once. */
    gracePeriodMs?: number;
}
/** A cell that this script allocated. At the end of an `await using` block it is freed. */
export declare class CellHandle implements AsyncDisposable {
    #private;
    /** The node it is on. */
    readonly node: AuraeNode;
    /** Its name. */
    readonly name: string;
    constructor(
    /** The node it is on. */
    node: AuraeNode, 
    /** Its name. */
    name: string);
    /** Starts an executable: a command line for the shell, or an `ExecutableInit`. */
    start(name: string, what: string | ExecutableInit, options?: CallOptions): Promise<ExecutableHandle>;
    /** Shows the cell as the kernel has it. */
    inspect(options?: CallOptions): Promise<CellServiceInspectResponse>;
    /** Frees the cell: when it is done, no process of it exists any more. */
    free(options?: CallOptions & Grace): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}
/** An executable that this script started. */
export declare class ExecutableHandle {
    #private;
    /** The cell it is in. */
    readonly cell: CellHandle;
    /** Its name. */
    readonly name: string;
    /** The process id of its first process, as the node sees it. */
    readonly pid: number;
    constructor(
    /** The cell it is in. */
    cell: CellHandle, 
    /** Its name. */
    name: string, 
    /** The process id of its first process, as the node sees it. */
    pid: number);
    /** Its output, line by line: what was kept, then what comes until it ends. */
    logs(options?: LogOptions & CallOptions): AsyncGenerator<LogLine, void, undefined>;
    /** Waits until it has ended; `exitStatus` of the answer says how. */
    wait(options?: CallOptions): Promise<ExecutableStatus>;
    /** Stops it: when it is done, no process of its tree exists any more. */
    stop(options?: CallOptions & Grace): Promise<void>;
    /** Sends a signal, to its first process or to the whole tree. */
    signal(signal: number, options?: CallOptions & {
        tree?: boolean;
    }): Promise<void>;
}
export {};
