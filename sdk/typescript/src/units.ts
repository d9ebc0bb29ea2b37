// Numbers with units. The API counts bytes and microseconds in 64 bits, which are bigints here.

/** So many KiB, in bytes. */
export function KiB(count: number): bigint {
  return BigInt(Math.round(count * 1024));
}

/** So many MiB, in bytes. */
export function MiB(count: number): bigint {
  return BigInt(Math.round(count * 1024 ** 2));
}

/** So many GiB, in bytes. */
export function GiB(count: number): bigint {
  return BigInt(Math.round(count * 1024 ** 3));
}

/** The period over which `cpus` counts, in microseconds: the kernel's default. */
const PERIOD = 100_000;

/** A limit of so many CPUs' time, `cpus(0.5)` for example: the value of a cell's `cpu`. */
export function cpus(count: number): { max: bigint; period: bigint } {
  return { max: BigInt(Math.round(count * PERIOD)), period: BigInt(PERIOD) };
}
