interface RuntimeHost {
  args: string[];
  env: Record<string, string>;
  exit(code: number): never;
  readTextFile(path: string): string;
  writeTextFile(path: string, text: string): void;
}

const host = (globalThis as unknown as Record<symbol, RuntimeHost>)[Symbol.for("aurae.host")]!;

export const args: readonly string[] = Object.freeze(host.args);

export const env: Record<string, string | undefined> = host.env;

export function exit(code = 0): never {
  return host.exit(code);
}

export async function readTextFile(path: string): Promise<string> {
  return host.readTextFile(path);
}

export function readTextFileSync(path: string): string {
  return host.readTextFile(path);
}

export async function writeTextFile(path: string, text: string): Promise<void> {
  host.writeTextFile(path, text);
}

export function writeTextFileSync(path: string, text: string): void {
  host.writeTextFile(path, text);
}
