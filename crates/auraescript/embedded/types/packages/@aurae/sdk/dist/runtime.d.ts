/** The arguments after the script's name. */
export declare const args: readonly string[];
/** The environment. */
export declare const env: Record<string, string | undefined>;
/** Ends the program at once. Unset: 0. */
export declare const exit: (code?: number) => never;
/** Reads a file as UTF-8. */
export declare const readTextFile: (path: string) => Promise<string>;
/** Reads a file as UTF-8, and waits for it. */
export declare const readTextFileSync: (path: string) => string;
/** Writes a file, replacing what was in it. */
export declare const writeTextFile: (path: string, text: string) => Promise<void>;
/** Writes a file, replacing what was in it, and waits for it. */
export declare const writeTextFileSync: (path: string, text: string) => void;
