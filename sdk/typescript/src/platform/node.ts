// Node, Deno and Bun: connect-es's transport over node:http2 with mutual TLS.
import { readFile } from "node:fs/promises";
import { connect as connectTls } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { configuredNode, readConfig, type ConfiguredNode } from "./config.js";
import type { Connection, Platform, Where } from "./platform.js";

/** The name that every node's certificate carries beside its own. */
const SERVER_NAME = "server.unsafe.aurae.io";

/** The largest message, sent or received: gRPC's usual bound, and the daemon's. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

export const platform: Platform = {
  async connect(where: Where): Promise<Connection> {
    const node = configuredNode(await readConfig(where.config), where.node);
    const [ca, cert, key] = await Promise.all([
      readAuth(node.identity.ca_crt),
      readAuth(node.identity.client_crt),
      readAuth(node.identity.client_key),
    ]);
    const baseUrl = `https://${node.address.kind === "tcp" ? node.address.authority : SERVER_NAME}`;
    const tls = { ca, cert, key, servername: SERVER_NAME, minVersion: "TLSv1.3" as const };
    const sessions = new Http2SessionManager(baseUrl, undefined, {
      ...tls,
      ...(node.address.kind === "unix" ? { createConnection: dialUnix(node.address.path, tls) } : {}),
    });
    if ((await sessions.connect()) === "error") {
      throw unreachable(node, sessions.error());
    }
    const transport = createGrpcTransport({
      baseUrl,
      sessionManager: sessions,
      readMaxBytes: MAX_MESSAGE_BYTES,
      writeMaxBytes: MAX_MESSAGE_BYTES,
      acceptCompression: [],
    });
    return { name: node.name, transport, close: () => sessions.abort() };
  },

  async nodeNames(config: string | undefined): Promise<string[]> {
    return Object.keys((await readConfig(config)).nodes).sort();
  },
};

function dialUnix(path: string, tls: { ca: string; cert: string; key: string; servername: string }) {
  return () => connectTls({ ...tls, path, ALPNProtocols: ["h2"] });
}

async function readAuth(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new ConnectError(`failed to read ${path}: ${reason(error)}`, Code.Unavailable, undefined, undefined, error);
  }
}

function unreachable(node: ConfiguredNode, cause: unknown): ConnectError {
  const at = node.address.kind === "tcp" ? node.address.authority : node.address.path;
  return new ConnectError(
    `failed to connect to ${at}: ${reason(cause)}`,
    Code.Unavailable,
    undefined,
    undefined,
    cause,
  );
}

function reason(error: unknown): string {
  const inner = error instanceof ConnectError && error.cause !== undefined ? error.cause : error;
  return inner instanceof Error ? inner.message || String((inner as { code?: unknown }).code) : String(inner);
}
