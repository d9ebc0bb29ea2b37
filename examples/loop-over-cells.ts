#!/usr/bin/env auraescript
// Allocates several cells in a loop, treats them differently, and says what became of each.
import { connect, cpus, MiB } from "@aurae/sdk";

const jobs = [
  { name: "job-ok", command: "echo done", heavy: false },
  { name: "job-heavy", command: "seq 1 1000 | wc -l", heavy: true },
  { name: "job-broken", command: "exit 3", heavy: false },
];

const node = await connect();
for (const { name, command, heavy } of jobs) {
  const cell = await node.cell(name, {
    cpu: cpus(heavy ? 0.5 : 0.1),
    memory: { max: MiB(heavy ? 64 : 16) },
  });
  try {
    const job = await cell.start("job", command);
    const { exitStatus } = await job.wait();
    const reason = exitStatus?.reason;
    if (reason?.case === "code" && reason.value === 0) {
      const lines: string[] = [];
      for await (const line of job.logs()) {
        lines.push(line.text.trim());
      }
      console.log(`${name}: ${lines.join(" ")}`);
    } else {
      console.log(`${name}: failed with ${reason?.case} ${reason?.value}`);
    }
  } finally {
    await cell.free();
  }
}

const left = (await node.cells.list({})).cells.map(({ cell }) => cell?.name);
console.log(`cells left of ours: ${left.filter((name) => name?.startsWith("job-")).length}`);
node.close();
