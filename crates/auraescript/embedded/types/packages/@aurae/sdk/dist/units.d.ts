/** So many KiB, in bytes. */
export declare function KiB(count: number): bigint;
/** So many MiB, in bytes. */
export declare function MiB(count: number): bigint;
/** So many GiB, in bytes. */
export declare function GiB(count: number): bigint;
/** A limit of so many CPUs' time, `cpus(0.5)` for example: the value of a cell's `cpu`. */
export declare function cpus(count: number): {
    max: bigint;
    period: bigint;
};
