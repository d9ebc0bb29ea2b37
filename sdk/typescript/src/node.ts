import { createClient, type CallOptions, type Client } from "@connectrpc/connect";
import type { DescService } from "@bufbuild/protobuf";
import { platform } from "#platform";
import { CellService } from "../gen/aurae/cells/v0/cells_pb.js";
import { DiscoveryService } from "../gen/aurae/discovery/v0/discovery_pb.js";
import { NodeService } from "../gen/aurae/node/v0/node_pb.js";
import { ObserveService } from "../gen/aurae/observe/v0/observe_pb.js";
import { CellHandle, type CellInit } from "./cell.js";
import type { Connection, Where } from "./platform/platform.js";
import { RetryingTransport } from "./retry.js";
import { ZoneTransport } from "./zone.js";

/**
 * Connects to a node: the one of that name in the configuration, or the default node. With `zone`,
 * all calls are for that zone below the node: `connect({ zone: "cells/web" })`.
 *
 * It fails with a `ConfigError` when there is no usable configuration, and with a `ConnectError`
 * when the node cannot be reached.
 */
export async function connect(where: string | Where = {}): Promise<AuraeNode> {
  const asked = typeof where === "string" ? { node: where } : where;
  const connection = retrying(await platform.connect(asked));
  return new AuraeNode(asked.zone === undefined ? connection : inZone(connection, asked.zone));
}

function retrying(connection: Connection): Connection {
  const { name, transport } = connection;
  return { name, transport: new RetryingTransport(transport), close: () => connection.close() };
}

function inZone(connection: Connection, zone: string): Connection {
  const { name, transport } = connection;
  return { name, transport: new ZoneTransport(transport, zone), close: () => connection.close() };
}

/** The names of the nodes in the configuration, in their order. */
export function nodeNames(config?: string): Promise<string[]> {
  return platform.nodeNames(config);
}

/** A node, connected. `await using node = await connect()` closes the connection at the end. */
export class AuraeNode implements AsyncDisposable {
  /** The node's name in the configuration; its address where it has none. */
  readonly name: string;
  readonly #connection: Connection;
  readonly #clients = new Map<DescService, Client<DescService>>();

  constructor(connection: Connection) {
    this.#connection = connection;
    this.name = connection.name;
  }

  /** Cells and the executables in them. */
  get cells(): Client<typeof CellService> {
    return this.client(CellService);
  }

  /** Whether a daemon is there, and which one. */
  get discovery(): Client<typeof DiscoveryService> {
    return this.client(DiscoveryService);
  }

  /** The machine itself. */
  get node(): Client<typeof NodeService> {
    return this.client(NodeService);
  }

  /** Logs, as streams. */
  get observe(): Client<typeof ObserveService> {
    return this.client(ObserveService);
  }

  /** A client of any service the node has, from protobuf-es's generated code. */
  client<S extends DescService>(service: S): Client<S> {
    let client = this.#clients.get(service);
    if (client === undefined) {
      client = createClient(service, this.#connection.transport) as Client<DescService>;
      this.#clients.set(service, client);
    }
    return client as Client<S>;
  }

  /**
   * Allocates a cell that is freed at the end of the block:
   * `await using cell = await node.cell("web", { memory: { max: MiB(64) } })`.
   */
  async cell(name: string, init: CellInit = {}, options?: CallOptions): Promise<CellHandle> {
    await this.cells.allocate({ cell: { ...init, name } }, options);
    return new CellHandle(this, name);
  }

  /** Ends the connection and the calls on it. */
  close(): void {
    this.#connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
