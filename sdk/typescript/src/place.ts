// Where the reader of a stream is, and what the stream is asked for again with.
import type { DescMethodStreaming } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type {
  CellServiceWatchRequest,
  CellServiceWatchResponse,
} from "../gen/aurae/cells/v0/cells_pb.js";
import type {
  GetExecutableLogsRequest,
  GetExecutableLogsResponse,
} from "../gen/aurae/observe/v0/observe_pb.js";

const NANOS_PER_SECOND = 1_000_000_000n;

/** So many of the last changes are recognized if they come again: half of what a daemon keeps. */
const RECOGNIZED = 1024;

/** Where a reader is. */
export interface Place {
  /** The request: that of the beginning, or one that goes on where the reader is. */
  resume(request: unknown): unknown;
  /** Moves on by a message, and takes out of it what came before. False: nothing is left. */
  pass(message: unknown): boolean;
}

/** The place at the beginning of a stream; `undefined`: such streams cannot be gone on with. */
export function placeOf(method: DescMethodStreaming): Place | undefined {
  switch (`${method.parent.typeName}/${method.name}`) {
    case "aurae.cells.v0.CellService/Watch":
      return new WatchPlace();
    case "aurae.observe.v0.ObserveService/GetExecutableLogs":
      return new LogsPlace();
    default:
      return undefined;
  }
}

/** In an executable's output, whose entries have their times. */
class LogsPlace implements Place {
  /** The time of the last entry, and how many of that time were read. */
  #last: { nanos: bigint; count: number } | undefined;
  /** So many entries of that time come again. */
  #repeated = 0;
  #askedAgain = false;
  #isWhole = true;
  /** What was read or told as missed. */
  #told = { entries: 0n, bytes: 0n };

  resume(asked: unknown): unknown {
    const request = asked as Partial<GetExecutableLogsRequest>;
    if (this.#last === undefined) {
      return request;
    }
    const { nanos, count } = this.#last;
    this.#repeated = count;
    this.#askedAgain = true;
    this.#isWhole = request.tail === undefined && request.since === undefined;
    const since = { seconds: nanos / NANOS_PER_SECOND, nanos: Number(nanos % NANOS_PER_SECOND) };
    return { ...request, tail: undefined, since };
  }

  pass(message: unknown): boolean {
    const logs = message as GetExecutableLogsResponse;
    const all = logs.entries.length;
    logs.entries = logs.entries.filter(({ unixNanos }) => !this.#cameBefore(unixNanos));
    if (this.#askedAgain && this.#isWhole) {
      // Counted from the first entry on: what we know of is among it.
      logs.missedEntries = less(logs.missedEntries, this.#told.entries);
      logs.missedBytes = less(logs.missedBytes, this.#told.bytes);
    }
    this.#askedAgain = false;
    this.#told.entries += logs.missedEntries + BigInt(logs.entries.length);
    this.#told.bytes += logs.missedBytes;
    for (const { unixNanos: nanos, data } of logs.entries) {
      this.#told.bytes += BigInt(data.length);
      this.#last = { nanos, count: this.#last?.nanos === nanos ? this.#last.count + 1 : 1 };
    }
    return logs.entries.length > 0 || logs.missedEntries > 0n || all === 0;
  }

  /** Those of the last time come first. */
  #cameBefore(nanos: bigint): boolean {
    this.#repeated = this.#last?.nanos === nanos ? this.#repeated : 0;
    const cameBefore = this.#repeated > 0;
    this.#repeated -= cameBefore ? 1 : 0;
    return cameBefore;
  }
}

function less(count: bigint, known: bigint): bigint {
  return count > known ? count - known : 0n;
}

/** Among the changes of a zone. Those of the last second may come again, under other numbers. */
class WatchPlace implements Place {
  #after: bigint | undefined;
  readonly #recent: string[] = [];
  #repeated: string[] = [];
  #missed = 0n;

  resume(asked: unknown): unknown {
    this.#repeated = [...this.#recent];
    const request = asked as Partial<CellServiceWatchRequest>;
    return this.#after === undefined ? request : { ...request, after: this.#after, onlyNew: false };
  }

  pass(message: unknown): boolean {
    const change = message as CellServiceWatchResponse;
    this.#after = change.sequence;
    const known = unnumbered(change);
    const place = this.#repeated.indexOf(known);
    if (place >= 0) {
      this.#repeated.splice(place, 1);
      this.#missed += change.missed;
      return false;
    }
    this.#recent.push(known);
    this.#recent.splice(0, this.#recent.length - RECOGNIZED);
    change.missed += this.#missed;
    this.#missed = 0n;
    return true;
  }
}

function unnumbered({ time, kind, cellName, executableName, pid, reason }: CellServiceWatchResponse): string {
  return JSON.stringify([at(time), kind, cellName, executableName, pid, reason]);
}

function at(time: Timestamp | undefined): string {
  return time === undefined ? "" : `${time.seconds}.${time.nanos}`;
}
