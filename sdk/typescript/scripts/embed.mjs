// Makes what auraescript carries inside: the SDK and the libraries it stands on as a few modules,
// their declarations for editors, and the libraries' licences. What it writes is committed, so that
// building the project needs no Node; `node scripts/embed.mjs --check` says whether it is current.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync, existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const sdk = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = join(sdk, "../../crates/auraescript/embedded");

/**
 * Each module's file name (also its name after `aurae:`), what it is imported as, and its source.
 *
 * The SDK has the libraries inside, as far as it needs them: what is not there is not parsed. A
 * script that imports a library by its own name gets all of it, as a second copy; messages, schemas
 * and errors of one are understood by the other.
 */
const GROUPS = {
  sdk: [
    ["sdk", "@aurae/sdk", "src/index.ts"],
    ["runtime", "@aurae/sdk/runtime", "src/runtime.ts"],
    ["audit", "@aurae/sdk/audit", "gen/aurae/audit/v0/audit_pb.js"],
    ["auth", "@aurae/sdk/auth", "gen/aurae/auth/v0/auth_pb.js"],
    ["cells", "@aurae/sdk/cells", "gen/aurae/cells/v0/cells_pb.js"],
    ["discovery", "@aurae/sdk/discovery", "gen/aurae/discovery/v0/discovery_pb.js"],
    ["node", "@aurae/sdk/node", "gen/aurae/node/v0/node_pb.js"],
    ["observe", "@aurae/sdk/observe", "gen/aurae/observe/v0/observe_pb.js"],
  ],
  lib: [
    ["protobuf", "@bufbuild/protobuf", "node_modules/@bufbuild/protobuf/dist/esm/index.js"],
    ["protobuf-wkt", "@bufbuild/protobuf/wkt", "node_modules/@bufbuild/protobuf/dist/esm/wkt/index.js"],
    ["protobuf-codegen", "@bufbuild/protobuf/codegenv2", "node_modules/@bufbuild/protobuf/dist/esm/codegenv2/index.js"],
    ["connect", "@connectrpc/connect", "node_modules/@connectrpc/connect/dist/esm/index.js"],
  ],
};
const MODULES = Object.values(GROUPS).flat();

/** Third-party packages whose code is in the modules. */
const PACKAGES = ["@bufbuild/protobuf", "@connectrpc/connect"];

const files = new Map();

const bundle = (group, modules) => build({
  absWorkingDir: sdk,
  entryPoints: modules.map(([name, , source]) => ({ in: join(sdk, source), out: name })),
  outdir: join(out, "modules"),
  write: false,
  bundle: true,
  splitting: true,
  chunkNames: `${group}-[hash]`,
  format: "esm",
  platform: "neutral",
  mainFields: ["module", "main"],
  conditions: ["import"],
  target: "es2023",
  charset: "utf8",
  legalComments: "none",
  // Names stay: they are in stack traces.
  minifySyntax: true,
  minifyWhitespace: true,
  alias: {
    "#platform": join(sdk, "src/platform/auraescript.ts"),
    "#runtime": join(sdk, "src/platform/runtime.auraescript.ts"),
  },
  logLevel: "warning",
});
for (const [group, modules] of Object.entries(GROUPS)) {
  for (const { path, text } of (await bundle(group, modules)).outputFiles) {
    files.set(relative(out, path), text);
  }
}

function table() {
  const aliases = new Map(MODULES.map(([name, alias]) => [name, alias]));
  const names = [...files.keys()]
    .filter((path) => path.startsWith("modules/"))
    .map((path) => path.slice("modules/".length, -".js".length))
    .sort();
  const rows = names.map((name) => {
    const alias = aliases.has(name) ? `Some("${aliases.get(name)}")` : "None";
    return `    Embedded {
        name: "aurae:${name}",
        alias: ${alias},
        code: include_str!("modules/${name}.js"),
    },\n`;
  });
  return `// Made by \`npm run embed\` in sdk/typescript.\nconst MODULES: &[Embedded] = &[\n${rows.join("")}];\n`;
}
files.set("modules.rs", table());

/** Where a module's declarations are. */
function declarationOf(source) {
  if (source.startsWith("src/")) return source.replace(/^src/, "dist").replace(/\.ts$/, ".d.ts");
  return source.replace(/\.js$/, ".d.ts");
}

/** The path that declarations have below the directory that `auraescript types` writes. */
const shipped = (file) => `packages/${file.startsWith("node_modules/") ? file.slice("node_modules/".length) : `@aurae/sdk/${file}`}`;

/** Every declaration that a script's imports reach. */
function declarations() {
  const byAlias = new Map(MODULES.map(([, alias, source]) => [alias, declarationOf(source)]));
  const queue = [...byAlias.values()];
  const texts = new Map();
  for (let file; (file = queue.pop()) !== undefined; ) {
    if (texts.has(shipped(file))) continue;
    const text = readFileSync(join(sdk, file), "utf8");
    texts.set(shipped(file), text);
    for (const [, name] of text.matchAll(/(?:from|import|import\() ?"([^"]+)"/g)) {
      if (name.startsWith(".")) queue.push(join(dirname(file), name.replace(/\.js$/, ".d.ts")));
      else if (name === "#runtime") continue;
      else if (!byAlias.has(name)) throw new Error(`${file} imports ${name}, which is not embedded`);
    }
  }
  return texts;
}
const types = declarations();
for (const [path, text] of types) files.set(join("types", path), text);

/** Where a module's declarations are, by its names. */
function typePaths() {
  return MODULES.flatMap(([name, alias, source]) => {
    const file = shipped(declarationOf(source));
    return [[`aurae:${name}`, file], [alias, file]];
  });
}
const rows = (entries) => entries.map((entry) => `    ${entry},\n`).join("");
files.set(
  "types.rs",
  `// Made by \`npm run embed\` in sdk/typescript.\nconst TYPES: &[Declaration] = &[\n${rows([...types.keys()].sort().map((path) => `("${path}", include_str!("types/${path}"))`))}];\n\nconst PATHS: &[(&str, &str)] = &[\n${rows(typePaths().map(([name, file]) => `("${name}", "${file}")`))}];\n`,
);

/** The packages come without licence files: the notices stand at the top of their sources. */
function licences() {
  const texts = PACKAGES.map((name) => {
    const directory = join(sdk, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    const notices = new Set();
    for (const file of readdirSync(join(directory, "dist/esm"), { recursive: true }).sort()) {
      if (!file.endsWith(".js")) continue;
      const source = readFileSync(join(directory, "dist/esm", file), "utf8");
      for (const [notice] of source.matchAll(/^(?:\/\/.*\n)+/gm)) {
        if (/^\/\/ Copyright/m.test(notice)) notices.add(notice.replace(/^\/\/ ?/gm, "").trim());
      }
    }
    return `${name} ${version} (${license})\n\n${[...notices].sort().join("\n\n")}`;
  });
  const apache = "The text of the Apache License, Version 2.0, is in the file LICENSE of this project.";
  return `The modules beside this file contain code of these packages.\n${apache}\n\n${texts.join("\n\n---\n\n")}\n`;
}
files.set("modules/LICENSES.txt", licences());

const check = process.argv.includes("--check");
const stale = [];
for (const [path, text] of files) {
  const file = join(out, path);
  const committed = existsSync(file) ? readFileSync(file, "utf8") : undefined;
  if (committed === text) continue;
  stale.push(relative(process.cwd(), file));
  if (!check) {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
}
for (const entry of existsSync(out) ? readdirSync(out, { recursive: true, withFileTypes: true }) : []) {
  const path = join(entry.parentPath, entry.name);
  if (entry.isFile() && !files.has(relative(out, path))) {
    stale.push(relative(process.cwd(), path));
    if (!check) rmSync(path);
  }
}
if (check && stale.length > 0) {
  console.error(`out of date: ${stale.join(", ")}\nrun \`npm run embed\` in sdk/typescript`);
  process.exit(1);
}
