import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { Caller } from "./caller.js";
import { host, type End, type Pairs, type Request } from "./host.js";

/** ES2026; the engine has it, TypeScript's library does not know it yet. */
interface Base64 {
  toBase64(): string;
}

/** A connect-es transport over the host's connection. */
export class HostTransport implements Transport {
  readonly #connection: number;

  constructor(connection: number) {
    this.#connection = connection;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    _contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const caller = new Caller();
    throwIfAborted(signal);
    const message = encode(method.input, input);
    const call = host.unary(this.#request(method, message, header, timeoutMs));
    const reply = await abortable(call.id, call.promise, signal, caller);
    const trailer = headers(reply.trailer);
    if (reply.code !== 0 || reply.body === undefined) {
      throw caller.blame(errorOf(reply, trailer));
    }
    return {
      stream: false,
      service: method.parent,
      method,
      header: headers(reply.header),
      trailer,
      message: fromBinary(method.output, reply.body),
    };
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    _contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const caller = new Caller();
    throwIfAborted(signal);
    const single =
      method.methodKind === "server_streaming"
        ? encode(method.input, await first(input))
        : undefined;
    const call = host.stream(this.#request(method, single, header, timeoutMs));
    if (single === undefined) {
      const broken = new AbortController();
      signal = AbortSignal.any(signal === undefined ? [broken.signal] : [signal, broken.signal]);
      pump(call.id, method.input, input).catch((error: unknown) => broken.abort(error));
    }
    const opened = await abortable(call.id, call.promise, signal, caller);
    const trailer = headers(opened.trailer);
    if (opened.code !== 0) {
      host.cancel(call.id);
      throw caller.blame(errorOf(opened, trailer));
    }
    return {
      stream: true,
      service: method.parent,
      method,
      header: headers(opened.header),
      trailer,
      message: receive(call.id, method.output, trailer, signal, caller),
    };
  }

  #request(
    method: DescMethod,
    message: string | undefined,
    header: HeadersInit | undefined,
    timeoutMs: number | undefined,
  ): Request {
    const path = `/${method.parent.typeName}/${method.name}`;
    return { connection: this.#connection, path, message, header: pairs(header), timeoutMs };
  }
}

/** Sends what a client-streaming call has to say. A send that fails has ended the call. */
async function pump<I extends DescMessage>(
  id: number,
  schema: I,
  input: AsyncIterable<MessageInitShape<I>>,
): Promise<void> {
  for await (const message of input) {
    if (!(await host.send(id, encode(schema, message)))) {
      return;
    }
  }
  host.closeSend(id);
}

async function* receive<O extends DescMessage>(
  id: number,
  schema: O,
  trailer: Headers,
  signal: AbortSignal | undefined,
  caller: Caller,
): AsyncGenerator<MessageShape<O>> {
  try {
    for (;;) {
      const next = await abortable(id, host.next(id), signal, caller);
      if (next instanceof Uint8Array) {
        yield fromBinary(schema, next);
        continue;
      }
      for (const [name, value] of headers(next.trailer)) {
        trailer.append(name, value);
      }
      if (next.code !== 0) {
        throw caller.blame(errorOf(next, trailer));
      }
      return;
    }
  } finally {
    host.cancel(id);
  }
}

/** Waits for a call, and cancels it when the signal says so. */
function abortable<T>(
  id: number,
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  caller: Caller,
): Promise<T> {
  if (signal === undefined) {
    return promise;
  }
  return new Promise((resolve, reject) => {
    const abort = () => {
      host.cancel(id);
      reject(caller.blame(aborted(signal)));
    };
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw aborted(signal);
  }
}

function aborted(signal: AbortSignal): ConnectError {
  return ConnectError.from(signal.reason, Code.Canceled);
}

function errorOf(end: End, trailer: Headers): ConnectError {
  const details = findTrailerError(trailer);
  if (details !== undefined && details.details.length > 0) {
    return details;
  }
  return new ConnectError(end.message, end.code in Code ? end.code : Code.Unknown, trailer);
}

function encode<I extends DescMessage>(schema: I, input: MessageInitShape<I>): string {
  return (toBinary(schema, create(schema, input)) as unknown as Base64).toBase64();
}

function pairs(init: HeadersInit | undefined): Pairs {
  return init === undefined ? [] : [...new Headers(init)].flat();
}

function headers(pairs: Pairs): Headers {
  const headers = new Headers();
  for (let i = 0; i + 1 < pairs.length; i += 2) {
    headers.append(pairs[i]!, pairs[i + 1]!);
  }
  return headers;
}

async function first<T>(items: AsyncIterable<T>): Promise<T> {
  for await (const item of items) {
    return item;
  }
  throw new ConnectError("a server-streaming call needs a request", Code.Internal);
}
