import { type CallOptions, type Client } from "@connectrpc/connect";
import type { DescService } from "@bufbuild/protobuf";
import { CellService } from "../gen/aurae/cells/v0/cells_pb.js";
import { DiscoveryService } from "../gen/aurae/discovery/v0/discovery_pb.js";
import { NodeService } from "../gen/aurae/node/v0/node_pb.js";
import { ObserveService } from "../gen/aurae/observe/v0/observe_pb.js";
import { CellHandle, type CellInit } from "./cell.js";
import type { Connection, Where } from "./platform/platform.js";
/**
 * Connects to a node: the one of that name in the configuration, or the default node. With `zone`,
 * all calls are for that zone below the node: `connect({ zone: "cells/web" })`.
 *
 * It fails with a `ConfigError` when there is no usable configuration, and with a `ConnectError`
 * when the node cannot be reached.
 */
export declare function connect(where?: string | Where): Promise<AuraeNode>;
/** The names of the nodes in the configuration, in their order. */
export declare function nodeNames(config?: string): Promise<string[]>;
/** A node, connected. `await using node = await connect()` closes the connection at the end. */
export declare class AuraeNode implements AsyncDisposable {
    #private;
    /** The node's name in the configuration; its address where it has none. */
    readonly name: string;
    constructor(connection: Connection);
    /** Cells and the executables in them. */
    get cells(): Client<typeof CellService>;
    /** Whether a daemon is there, and which one. */
    get discovery(): Client<typeof DiscoveryService>;
    /** The machine itself. */
    get node(): Client<typeof NodeService>;
    /** Logs, as streams. */
    get observe(): Client<typeof ObserveService>;
    /** A client of any service the node has, from protobuf-es's generated code. */
    client<S extends DescService>(service: S): Client<S>;
    /**
     * Allocates a cell that is freed at the end of the block:
     * `await using cell = await node.cell("web", { memory: { max: MiB(64) } })`.
     */
    cell(name: string, init?: CellInit, options?: CallOptions): Promise<CellHandle>;
    /** Ends the connection and the calls on it. */
    close(): void;
    [Symbol.asyncDispose](): Promise<void>;
}
