import { Code, ConnectError, type CallOptions } from "@connectrpc/connect";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type {
  CellSchema,
  CellServiceInspectResponse,
  CellServiceStartRequestSchema,
  ExecutableSchema,
  ExecutableStatus,
} from "../gen/aurae/cells/v0/cells_pb.js";
import { readLogs, type LogLine, type LogOptions } from "./logs.js";
import type { AuraeNode } from "./node.js";

type Init<T> = Omit<Exclude<T, { $typeName: string }>, "$typeName">;

/** A cell's limits and isolation; every field is described at `Cell`. */
export type CellInit = Omit<Init<MessageInitShape<typeof CellSchema>>, "name">;

/** What to start: the fields of `Executable`, and who it runs as. */
export type ExecutableInit = Omit<Init<MessageInitShape<typeof ExecutableSchema>>, "name"> &
  Pick<Init<MessageInitShape<typeof CellServiceStartRequestSchema>>, "uid" | "gid">;

/** How long executables have between SIGTERM and SIGKILL. */
export interface Grace {
  /** In milliseconds. Unset: the daemon's default, 10 s. 0: killed at once. */
  gracePeriodMs?: number;
}

function gracePeriod({ gracePeriodMs }: Grace) {
  return gracePeriodMs === undefined ? {} : { gracePeriod: durationFromMs(gracePeriodMs) };
}

/** A cell that this script allocated. At the end of an `await using` block it is freed. */
export class CellHandle implements AsyncDisposable {
  #freed = false;

  constructor(
    /** The node it is on. */
    readonly node: AuraeNode,
    /** Its name. */
    readonly name: string,
  ) {}

  /** Starts an executable: a command line for the shell, or an `ExecutableInit`. */
  async start(
    name: string,
    what: string | ExecutableInit,
    options?: CallOptions,
  ): Promise<ExecutableHandle> {
    const { uid, gid, ...executable } = typeof what === "string" ? { command: what } : what;
    const request = { cellName: this.name, executable: { ...executable, name }, uid, gid };
    const { pid } = await this.node.cells.start(request, options);
    return new ExecutableHandle(this, name, pid);
  }

  /** Shows the cell as the kernel has it. */
  inspect(options?: CallOptions): Promise<CellServiceInspectResponse> {
    return this.node.cells.inspect({ cellName: this.name }, options);
  }

  /** Frees the cell: when it is done, no process of it exists any more. */
  async free(options: CallOptions & Grace = {}): Promise<void> {
    await this.node.cells.free({ cellName: this.name, ...gracePeriod(options) }, options);
    this.#freed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#freed) {
      return;
    }
    try {
      await this.free();
    } catch (error) {
      // Somebody else freed it: that is what was wanted.
      if (ConnectError.from(error).code !== Code.NotFound) {
        throw error;
      }
    }
  }
}

/** An executable that this script started. */
export class ExecutableHandle {
  constructor(
    /** The cell it is in. */
    readonly cell: CellHandle,
    /** Its name. */
    readonly name: string,
    /** The process id of its first process, as the node sees it. */
    readonly pid: number,
  ) {}

  /** Its output, line by line: what was kept, then what comes until it ends. */
  logs(options: LogOptions & CallOptions = {}): AsyncGenerator<LogLine, void, undefined> {
    const request = { cellName: this.cell.name, executableName: this.name };
    return readLogs(this.cell.node, request, { follow: true, ...options });
  }

  /** Waits until it has ended; `exitStatus` of the answer says how. */
  async wait(options?: CallOptions): Promise<ExecutableStatus> {
    const response = await this.cell.node.cells.wait(this.#id(), options);
    if (response.executable === undefined) {
      throw new ConnectError(`Wait for ${this.cell.name}/${this.name} answered nothing`, Code.Internal);
    }
    return response.executable;
  }

  /** Stops it: when it is done, no process of its tree exists any more. */
  async stop(options: CallOptions & Grace = {}): Promise<void> {
    await this.cell.node.cells.stop({ ...this.#id(), ...gracePeriod(options) }, options);
  }

  /** Sends a signal, to its first process or to the whole tree. */
  async signal(signal: number, options: CallOptions & { tree?: boolean } = {}): Promise<void> {
    await this.cell.node.cells.signal({ ...this.#id(), signal, tree: options.tree ?? false }, options);
  }

  #id() {
    return { cellName: this.cell.name, executableName: this.name };
  }
}
