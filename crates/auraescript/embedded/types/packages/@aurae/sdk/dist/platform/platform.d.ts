import type { Transport } from "@connectrpc/connect";
/** Which configuration, and which node in it. */
export interface Where {
    /** The node's name in the configuration. Unset: the node of `[system]`. */
    node?: string;
    /** The configuration file. Unset: the one `AURAE_CONFIG` names, else the first that exists of
     *  `$HOME/.aurae/config`, `/etc/aurae/config` and `/var/lib/aurae/config`. */
    config?: string;
    /** The zone below the node that every call is for, `cells/web/cells/api` for example. Unset: the
     *  node's own. */
    zone?: string;
}
/** A connection to a node. */
export interface Connection {
    /** The node's name in the configuration; its address where it has none. */
    readonly name: string;
    readonly transport: Transport;
    /** Ends the connection and the calls on it. */
    close(): void;
}
/** What a runtime has to provide. */
export interface Platform {
    connect(where: Where): Promise<Connection>;
    nodeNames(config: string | undefined): Promise<string[]>;
}
