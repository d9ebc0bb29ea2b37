#!/usr/bin/env auraescript
// Follows the output of a running executable as an async iterator, and stops when it has seen enough.
import { connect } from "@aurae/sdk";

const node = await connect();
const cell = await node.cell("follow");
try {
  const counter = await cell.start("counter", "for i in 1 2 3 4 5; do echo tick $i; sleep 0.1; done");
  for await (const { text, output } of counter.logs({ follow: true, output: "stdout" })) {
    console.log(`${output}: ${text}`);
    if (text === "tick 3") {
      break; // ends the call
    }
  }
} finally {
  await cell.free({ gracePeriodMs: 0 });
  node.close();
}
