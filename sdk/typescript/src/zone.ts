import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import type { ContextValues, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";

/** The request metadata that addresses a call to a zone below the node. */
const ZONE = "aurae-zone";

/** A transport whose calls, streams included, are all for one zone. */
export class ZoneTransport implements Transport {
  readonly #transport: Transport;
  readonly #zone: string;

  constructor(transport: Transport, zone: string) {
    this.#transport = transport;
    this.#zone = zone;
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    return this.#transport.unary(method, signal, timeoutMs, this.#addressed(header), input, contextValues);
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    return this.#transport.stream(method, signal, timeoutMs, this.#addressed(header), input, contextValues);
  }

  #addressed(header: HeadersInit | undefined): Headers {
    const headers = new Headers(header);
    headers.set(ZONE, this.#zone);
    return headers;
  }
}
