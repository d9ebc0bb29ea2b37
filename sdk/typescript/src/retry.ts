// Calls that a node ends because its daemon is replaced: what changes nothing is asked again, and
// streams of logs and changes go on where they were. The rest is told to the caller: it may have been done.
import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ContextValues, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { placeOf, type Place } from "./place.js";

/** gRPC's word for: ask again after so many milliseconds. */
const PUSHBACK = "grpc-retry-pushback-ms";

/** No node is waited for longer than this at once, whatever it says. */
const MAX_PAUSE_MS = 10_000;

/** How long a node may ask to try again without an answer in between; `aer` waits as long. */
const PATIENCE_MS = 30_000;

/** A call that took longer than this was under way: being told to try again takes no such time. */
const UNDER_WAY_MS = 10_000;

/** The RPCs that change nothing. */
const READS = new Set(["Check", "Discover", "Info", "Inspect", "List", "Wait"]);

/** A transport that asks again when the node says so. */
export class RetryingTransport implements Transport {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const call = (leftMs: number | undefined) =>
      this.#transport.unary(method, signal, leftMs, header, input, contextValues);
    if (!READS.has(method.name)) {
      return call(timeoutMs);
    }
    return new Patience(signal, timeoutMs).call(call);
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const call = (messages: AsyncIterable<MessageInitShape<I>>, leftMs: number | undefined) =>
      this.#transport.stream(method, signal, leftMs, header, messages, contextValues);
    const place = placeOf(method);
    if (place === undefined) {
      return call(input, timeoutMs);
    }
    let request: MessageInitShape<I> | undefined;
    const noted = async function* () {
      for await (const message of input) {
        request = message;
        yield message;
      }
    };
    // Once it is known, the request is made anew.
    const messages = () =>
      request === undefined ? noted() : only(place.resume(request) as MessageInitShape<I>);
    const patience = new Patience(signal, timeoutMs);
    const begin = () => patience.call((leftMs) => call(messages(), leftMs));
    const first = await begin();
    return { ...first, message: goOn(first.message, begin, place, patience) };
  }
}

async function* only<T>(message: T): AsyncGenerator<T> {
  yield message;
}

async function* goOn<M, R extends { message: AsyncIterable<M> }>(
  messages: AsyncIterable<M>,
  begin: () => Promise<R>,
  place: Place,
  patience: Patience,
): AsyncGenerator<M> {
  for (;;) {
    try {
      for await (const message of messages) {
        patience.answered();
        if (place.pass(message)) {
          yield message;
        }
      }
      return;
    } catch (error) {
      await patience.wait(error);
    }
    messages = (await begin()).message;
  }
}

/** Decides whether a call is made again, and waits before it. */
class Patience {
  readonly #signal: AbortSignal | undefined;
  readonly #deadline: number | undefined;
  #awaySince: number | undefined;
  #asked: number | undefined;

  constructor(signal: AbortSignal | undefined, timeoutMs: number | undefined) {
    this.#signal = signal;
    this.#deadline = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  }

  answered(): void {
    this.#awaySince = undefined;
  }

  /** Makes a call, again where that is worth it. */
  async call<T>(call: (leftMs: number | undefined) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        // A time that is over is told by the call itself.
        const left = this.#deadline && Math.max(1, Math.ceil(this.#deadline - performance.now()));
        return await call(left);
      } catch (error) {
        await this.wait(error);
      }
    }
  }

  /** Waits until the call that failed so is worth making again; otherwise it throws the error. */
  async wait(error: unknown): Promise<void> {
    const pause = pauseOf(error);
    const now = performance.now();
    if (this.#asked !== undefined && now - this.#asked > UNDER_WAY_MS) {
      this.answered();
    }
    this.#awaySince ??= now;
    const isOver = now - this.#awaySince >= PATIENCE_MS;
    if (pause === undefined || isOver || this.#signal?.aborted) {
      throw error;
    }
    if (this.#deadline !== undefined && now + pause >= this.#deadline) {
      throw new ConnectError("the time for the call is over", Code.DeadlineExceeded, undefined, undefined, error);
    }
    await sleep(pause, this.#signal);
    this.#asked = performance.now();
  }
}

/** How long the node asks to wait; `undefined`: it does not ask. */
function pauseOf(error: unknown): number | undefined {
  if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) {
    return undefined;
  }
  const pause = error.metadata.get(PUSHBACK);
  return pause !== null && /^\d+$/.test(pause) ? Math.min(Number(pause), MAX_PAUSE_MS) : undefined;
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(ConnectError.from(signal?.reason, Code.Canceled));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
