/**
 * Remembers who called. What a node answers arrives on an empty stack: an error's stack should show
 * the script's line that asked.
 */
export class Caller {
  readonly #at = new Error();

  /** The error, with the caller's stack. */
  blame<E extends Error>(error: E): E {
    error.stack = this.#at.stack;
    return error;
  }
}
