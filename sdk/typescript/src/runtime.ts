// What a script needs of the machine it runs on, the same under auraescript, Deno and Node.
import * as runtime from "#runtime";

/** The arguments after the script's name. */
export const args: readonly string[] = runtime.args;

/** The environment. */
export const env: Record<string, string | undefined> = runtime.env;

/** Ends the program at once. Unset: 0. */
export const exit: (code?: number) => never = runtime.exit;

/** Reads a file as UTF-8. */
export const readTextFile: (path: string) => Promise<string> = runtime.readTextFile;

/** Reads a file as UTF-8, and waits for it. */
export const readTextFileSync: (path: string) => string = runtime.readTextFileSync;

/** Writes a file, replacing what was in it. */
export const writeTextFile: (path: string, text: string) => Promise<void> = runtime.writeTextFile;

/** Writes a file, replacing what was in it, and waits for it. */
export const writeTextFileSync: (path: string, text: string) => void = runtime.writeTextFileSync;
