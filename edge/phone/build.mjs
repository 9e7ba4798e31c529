// Builds the app's scripts into static/ with pinned packages: `npm ci && node build.mjs`, or `make phone`.
// The same sources and lock give the same bytes; static/BUILD.json says which sources they were.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const inHere = (...parts) => join(here, ...parts);
const out = process.argv[2] ?? inHere("static");
const LITERT = ["litert_wasm_compat_internal.js", "litert_wasm_compat_internal.wasm"]; // any WebAssembly SIMD
const LICENCES = ["LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "license", "LICENSE-MIT"];

const APACHE = "Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0";
const NO_FILE = {
  "@litertjs/core": `Copyright Google LLC. ${APACHE}
The WebAssembly in litert/ also holds XNNPACK, pthreadpool and cpuinfo (BSD), Abseil, FlatBuffers, gemmlowp and
ruy (Apache-2.0), Eigen (MPL-2.0), FarmHash and Emscripten's system libraries (MIT).`,
};
const HEAD = "What the phone app bundles, and under which licences. The app itself: Apache-2.0, see LICENSE.\n";

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "litert"), { recursive: true });

await build({
  absWorkingDir: here,
  entryPoints: ["src/app.js", "src/worker.js", "src/decode.js"],
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  platform: "browser",
  target: ["chrome109", "safari16.4", "firefox115"],
  charset: "ascii",
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"', global: "globalThis" },
});
copyFileSync(inHere("src/sw.js"), join(out, "sw.js"));
for (const name of LITERT) {
  // Not copied: the package marks them executable.
  writeFileSync(join(out, "litert", name), readFileSync(inHere("node_modules/@litertjs/core/wasm", name)));
}
writeFileSync(join(out, "THIRD_PARTY.txt"), licences(packages()));
writeFileSync(join(out, "BUILD.json"), `${JSON.stringify({ sources: sourceHashes() }, null, 1)}\n`);

/* All that is installed to run: MQTT.js comes as one file that holds what it needs. */
function packages() {
  const { packages: locked } = JSON.parse(readFileSync(inHere("package-lock.json"), "utf8"));
  const run = Object.entries(locked).filter(([path, { dev, optional }]) => path && !dev && !optional);
  return run.map(([path]) => path.slice("node_modules/".length)).sort();
}

function licences(names) {
  const parts = names.map((name) => {
    const folder = inHere("node_modules", name);
    const { version, license, author } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = LICENCES.map((each) => join(folder, each)).find(existsSync);
    const by = typeof author === "string" ? author : (author?.name ?? "its authors");
    const text = file ? readFileSync(file, "utf8").trim() : (NO_FILE[name] ?? `By ${by}; the package has no licence file.`);
    return `${name} ${version} (${license})\n\n${text}\n`;
  });
  return [HEAD, ...parts].join(`\n${"=".repeat(100)}\n\n`);
}

function sourceHashes() {
  const paths = ["build.mjs", "package.json", "package-lock.json"];
  paths.push(...readdirSync(inHere("src")).sort().map((name) => `src/${name}`));
  const hash = (path) => createHash("sha256").update(readFileSync(inHere(path))).digest("hex");
  return Object.fromEntries(paths.map((path) => [relative(here, inHere(path)), hash(path)]));
}
