#!/usr/bin/env auraescript
// Asks several nodes at once. One that fails is one line of the result, and does not fail the others.
//
// Nodes are named by the arguments; without any, it asks the default node and one that does not exist.
import { connect, fanOut } from "@aurae/sdk";
import { args } from "@aurae/sdk/runtime";

const nodes = args.length > 0 ? args : [await connect(), "no-such-node"];

const outcomes = await fanOut(nodes, async (node) => {
  const { healthy } = await node.discovery.discover({}, { timeoutMs: 10_000 });
  return healthy ? "healthy" : "not healthy";
});

let failed = 0;
for (const [index, outcome] of outcomes.entries()) {
  if (outcome.ok) {
    console.log(`node ${index + 1}: ${outcome.value}`);
  } else {
    failed += 1;
    console.log(`node ${index + 1}: ${outcome.error.name}`);
  }
}
console.log(`${outcomes.length - failed} of ${outcomes.length} answered`);

for (const node of nodes) {
  if (typeof node !== "string") node.close();
}
