// The client configuration, read as the command line and auraescript read it.
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { parse } from "smol-toml";
import { ConfigError } from "../errors.js";

const IDENTITY_KEYS = ["ca_crt", "client_crt", "client_key"] as const;

/** The files that prove who we are, and by which we know a node. */
export type Identity = Record<(typeof IDENTITY_KEYS)[number], string>;

/** Where a daemon listens. */
export type Address = { kind: "unix"; path: string } | { kind: "tcp"; authority: string };

/** A node: where it listens, and who we are to it. */
export interface ConfiguredNode {
  name: string;
  address: Address;
  identity: Identity;
}

/** A configuration that was read. */
export interface Config {
  path: string;
  auth: Partial<Identity> | undefined;
  system: string | undefined;
  nodes: Record<string, Partial<Identity> & { socket: string }>;
}

/** The socket of a daemon on this machine, used where the configuration names no node. */
const DEFAULT_SOCKET = "/var/run/aurae/aurae.sock";

function places(): string[] {
  return [join(homedir(), ".aurae/config"), "/etc/aurae/config", "/var/lib/aurae/config"];
}

/** Reads `explicit`, else the file that `AURAE_CONFIG` names, else the first that exists. */
export async function readConfig(explicit: string | undefined): Promise<Config> {
  const named = explicit ?? (process.env["AURAE_CONFIG"] || undefined);
  if (named !== undefined) {
    return parseConfig(named, await readNamed(named));
  }
  for (const path of places()) {
    const text = await readFile(path, "utf8").catch((error: unknown) => {
      if (isAbsent(error)) return undefined;
      throw failedToRead(path, error);
    });
    if (text !== undefined) return parseConfig(path, text);
  }
  throw new ConfigError(
    `no client configuration found: looked at ${places().join(", ")}; write one of them, or name a file with AURAE_CONFIG`,
  );
}

async function readNamed(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw failedToRead(path, error);
  }
}

function failedToRead(path: string, cause: unknown): ConfigError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ConfigError(`failed to read the client configuration ${path}: ${why}`, { cause });
}

function isAbsent(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === "ENOENT" || code === "ENOTDIR";
}

function parseConfig(path: string, text: string): Config {
  const wrong = (why: string) => new ConfigError(`the client configuration ${path} is wrong: ${why}`);
  let file: Record<string, unknown>;
  try {
    file = parse(text);
  } catch (error) {
    throw wrong(error instanceof Error ? error.message : String(error));
  }
  const table = (value: unknown, name: string, keys: readonly string[]): Record<string, string> => {
    if (typeof value !== "object" || value === null) throw wrong(`${name} is not a table`);
    for (const [key, entry] of Object.entries(value)) {
      if (!keys.includes(key)) {
        throw wrong(`unknown key \`${key}\` in [${name}], expected ${keys.join(", ")}`);
      }
      if (typeof entry !== "string") throw wrong(`${name}.${key} is not a string`);
    }
    return value as Record<string, string>;
  };
  for (const key of Object.keys(file)) {
    if (!["auth", "system", "nodes"].includes(key)) {
      throw wrong(`unknown key \`${key}\`, expected auth, system or nodes`);
    }
  }
  const nodes: Config["nodes"] = {};
  for (const [name, value] of Object.entries((file["nodes"] ?? {}) as object)) {
    const keys = table(value, `nodes.${name}`, ["socket", ...IDENTITY_KEYS]);
    if (keys["socket"] === undefined) throw wrong(`[nodes.${name}] has no socket`);
    nodes[name] = keys as Config["nodes"][string];
  }
  const auth = file["auth"] === undefined ? undefined : table(file["auth"], "auth", IDENTITY_KEYS);
  const system = file["system"] === undefined ? undefined : table(file["system"], "system", ["socket"]);
  if (system !== undefined && system["socket"] === undefined) throw wrong("[system] has no socket");
  return { path, auth, system: system?.["socket"], nodes };
}

/** The node of that name; without one, that of `[system]`, or the only one of `[nodes]`. */
export function configuredNode(config: Config, name: string | undefined): ConfiguredNode {
  const names = Object.keys(config.nodes).sort();
  const only = config.system === undefined && names.length === 1 ? names[0] : undefined;
  const chosen = name ?? only;
  if (chosen !== undefined) {
    const node = config.nodes[chosen];
    if (node === undefined) {
      const has = names.length === 0 ? "none; add a [nodes.NAME] table" : names.join(", ");
      throw new ConfigError(`the client configuration ${config.path} has no node \`${chosen}\`: it has ${has}`);
    }
    const identity = identityOf(config, { ...config.auth, ...node }, `[nodes.${chosen}]`);
    return { name: chosen, address: address(config, node.socket), identity };
  }
  if (config.system === undefined && names.length > 1) {
    throw new ConfigError(
      `which node? The client configuration ${config.path} has no [system] and more than one node: name one of ${names.join(", ")}`,
    );
  }
  const socket = config.system ?? DEFAULT_SOCKET;
  return { name: socket, address: address(config, socket), identity: identityOf(config, { ...config.auth }, socket) };
}

function identityOf(config: Config, keys: Partial<Identity>, of: string): Identity {
  const identity: Partial<Identity> = {};
  for (const key of IDENTITY_KEYS) {
    const path = keys[key];
    if (path === undefined) {
      throw new ConfigError(`the client configuration ${config.path} has no ${key} for ${of}: add it to [auth]`);
    }
    identity[key] = expand(config, path);
  }
  return identity as Identity;
}

/** An IPv4 or IPv6 address (with `%scope`) and a port; anything else is a path. */
function address(config: Config, socket: string): Address {
  const tcp = /^(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+(?:%[^\]]+)?\]):\d+$/.test(socket);
  return tcp ? { kind: "tcp", authority: socket } : { kind: "unix", path: expand(config, socket) };
}

function expand(config: Config, path: string): string {
  return path === "~" || path.startsWith("~/")
    ? join(homedir(), path.slice(1))
    : resolve(dirname(config.path), path);
}
