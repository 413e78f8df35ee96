// Build the pages into one script, which Airflow imports into its own page: node build.mjs [file].
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { build } from "esbuild";

const sources = ["package-lock.json", "build.mjs", ...readdirSync("src").sort().map((name) => `src/${name}`)];
const digest = createHash("sha256");
for (const name of sources) digest.update(`${name}\0`).update(readFileSync(name)).update("\0");

await build({
  entryPoints: ["src/main.tsx"],
  outfile: process.argv[2] ?? "../static/pages.js",
  bundle: true,
  minify: true,
  format: "iife", // nothing of it becomes a global of Airflow's page, but for the pages themselves
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  banner: { js: `// Built from console/ui by make ui; sources ${digest.digest("hex")}` },
});
