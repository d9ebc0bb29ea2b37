// Drive Aurae nodes from TypeScript. The same script runs under auraescript, Deno and Node.
export { AuraeNode, connect, nodeNames } from "./node.js";
export { CellHandle, ExecutableHandle } from "./cell.js";
export type { CellInit, ExecutableInit, Grace } from "./cell.js";
export { readLogs } from "./logs.js";
export type { LogLine, LogOptions, OutputName } from "./logs.js";
export { fanOut } from "./fanout.js";
export type { Outcome } from "./fanout.js";
export { cpus, GiB, KiB, MiB } from "./units.js";
export { ConfigError } from "./errors.js";
export type { Where } from "./platform/platform.js";
export { Code, ConnectError } from "@connectrpc/connect";
export type { CallOptions, Client } from "@connectrpc/connect";
export { CellService, ExecutableState } from "../gen/aurae/cells/v0/cells_pb.js";
export { DiscoveryService } from "../gen/aurae/discovery/v0/discovery_pb.js";
export { NodeService } from "../gen/aurae/node/v0/node_pb.js";
export { LogChannelType, ObserveService } from "../gen/aurae/observe/v0/observe_pb.js";
