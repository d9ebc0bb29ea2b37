// auraescript: messages are encoded here, and moved by the host as bytes.
import { Code, ConnectError } from "@connectrpc/connect";
import { ConfigError } from "../errors.js";
import { Caller } from "./caller.js";
import { host } from "./host.js";
import { HostTransport } from "./host-transport.js";
import type { Connection, Platform, Where } from "./platform.js";

export const platform: Platform = {
  async connect({ node, config }: Where): Promise<Connection> {
    const caller = new Caller();
    const opened = await host.connect(node, config);
    if ("error" in opened) {
      throw caller.blame(
        opened.kind === "config"
          ? new ConfigError(opened.error)
          : new ConnectError(opened.error, Code.Unavailable),
      );
    }
    const { id, name } = opened;
    return { name, transport: new HostTransport(id), close: () => host.disconnect(id) };
  },

  async nodeNames(config: string | undefined): Promise<string[]> {
    const names = host.nodeNames(config);
    if (typeof names === "string") {
      throw new ConfigError(names);
    }
    return names;
  },
};
