import { AuraeNode, connect } from "./node.js";

/** What came of it on one node. */
export type Outcome<T> =
  | { node: string; ok: true; value: T }
  | { node: string; ok: false; error: Error };

/**
 * Does something on several nodes at once. Nothing is thrown: what fails on a node, connecting to it
 * included, is its outcome. The outcomes are in the order of the nodes.
 */
export function fanOut<T>(
  nodes: Iterable<string | AuraeNode>,
  action: (node: AuraeNode) => Promise<T> | T,
): Promise<Outcome<T>[]> {
  return Promise.all(Array.from(nodes, (node) => on(node, action)));
}

async function on<T>(
  node: string | AuraeNode,
  action: (node: AuraeNode) => Promise<T> | T,
): Promise<Outcome<T>> {
  const name = typeof node === "string" ? node : node.name;
  try {
    if (typeof node !== "string") {
      return { node: name, ok: true, value: await action(node) };
    }
    const connected = await connect(node);
    try {
      return { node: name, ok: true, value: await action(connected) };
    } finally {
      connected.close();
    }
  } catch (error) {
    return { node: name, ok: false, error: error instanceof Error ? error : new Error(String(error)) };
  }
}
