#!/usr/bin/env auraescript
// Allocates a cell whose limits are computed from what the node has, runs a program in it, prints
// what it wrote, and frees the cell.
import { connect, cpus, MiB } from "@aurae/sdk";

const node = await connect();
const { cpus: count, memoryAvailable } = await node.node.info({});

// A tenth of the node's CPUs, and a quarter of its free memory, but no more than 64 MiB.
const quarter = memoryAvailable / 4n;
const limits = {
  cpu: cpus(count / 10),
  memory: { max: quarter < MiB(64) ? quarter : MiB(64) },
};

const cell = await node.cell("hello", limits);
try {
  const echo = await cell.start("echo", { args: ["echo", "hello from a cell"] });
  for await (const line of echo.logs()) {
    console.log(line.text);
  }
} finally {
  await cell.free();
  node.close();
}
