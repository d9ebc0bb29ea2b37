import { readFileSync, writeFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";

export const args: readonly string[] = process.argv.slice(2);

export const env: Record<string, string | undefined> = process.env;

export function exit(code?: number): never {
  return process.exit(code);
}

export function readTextFile(path: string): Promise<string> {
  return readFile(path, "utf8");
}

export function readTextFileSync(path: string): string {
  return readFileSync(path, "utf8");
}

export function writeTextFile(path: string, text: string): Promise<void> {
  return writeFile(path, text);
}

export function writeTextFileSync(path: string, text: string): void {
  writeFileSync(path, text);
}
