import { AuraeNode } from "./node.js";
/** What came of it on one node. */
export type Outcome<T> = {
    node: string;
    ok: true;
    value: T;
} | {
    node: string;
    ok: false;
    error: Error;
};
/**
 * Does something on several nodes at once. Nothing is thrown: what fails on a node, connecting to it
 * included, is its outcome. The outcomes are in the order of the nodes.
 */
export declare function fanOut<T>(nodes: Iterable<string | AuraeNode>, action: (node: AuraeNode) => Promise<T> | T): Promise<Outcome<T>[]>;
