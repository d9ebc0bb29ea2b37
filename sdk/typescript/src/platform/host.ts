// What the runtime offers to the SDK; crates/auraescript/src/host/rpc.rs is the other side.

/** Metadata as names and values in turn. */
export type Pairs = string[];

/** How a call ended: gRPC's status and trailers. Code 0 is success. */
export interface End {
  code: number;
  message: string;
  trailer: Pairs;
}

/** A call to start. */
export interface Request {
  connection: number;
  path: string;
  /** Messages go out in base64 and come in as bytes: the engine has no safe way to lend bytes. */
  message: string | undefined;
  header: Pairs;
  timeoutMs: number | undefined;
}

/** A call that was started; `cancel(id)` ends it. */
export interface Call<T> {
  id: number;
  promise: Promise<T>;
}

export interface Host {
  connect(
    node: string | undefined,
    config: string | undefined,
  ): Promise<{ id: number; name: string } | { error: string; kind: "config" | "connect" }>;
  disconnect(connection: number): void;
  nodeNames(config: string | undefined): string[] | string;
  unary(request: Request): Call<End & { header: Pairs; body?: Uint8Array }>;
  /** Opens a stream; without a message, requests follow with `send` and `closeSend`. */
  stream(request: Request): Call<End & { header: Pairs }>;
  send(stream: number, message: string): Promise<boolean>;
  closeSend(stream: number): void;
  next(stream: number): Promise<Uint8Array | End>;
  cancel(id: number): void;
}

export const host = (globalThis as unknown as Record<symbol, Host>)[Symbol.for("aurae.host")]!;
