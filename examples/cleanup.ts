#!/usr/bin/env auraescript
// Clean-up that cannot be forgotten: `await using` frees the cell at the end of the block, however
// the block ends.
import { connect, MiB } from "@aurae/sdk";

await using node = await connect();

async function work(): Promise<void> {
  await using cell = await node.cell("cleanup", { memory: { max: MiB(32) } });
  console.log(`allocated ${cell.name}`);
  await cell.start("sleeper", "true");
  throw new Error("something went wrong in the middle");
}

try {
  await work();
} catch (error) {
  console.log(`caught: ${(error as Error).message}`);
}

const { cells } = await node.cells.list({});
const left = cells.some(({ cell }) => cell?.name === "cleanup");
console.log(left ? "the cell is still there" : "the cell is gone");
