// Build the scripts that Airflow imports into its own page: node build.mjs [folder].
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const sources = ["package-lock.json", "build.mjs", ...readdirSync("src").sort().map((name) => `src/${name}`)];
const digest = createHash("sha256");
for (const name of sources) digest.update(`${name}\0`).update(readFileSync(name)).update("\0");

const folder = process.argv[2] ?? "../static";
const { metafile } = await build({
  entryPoints: { pages: "src/main.tsx", calendar: "src/calendar.tsx" }, // only the calendar needs FullCalendar
  outdir: folder,
  metafile: true,
  loader: { ".css": "text" },
  bundle: true,
  minify: true,
  format: "iife", // nothing of it becomes a global of Airflow's page, but for the pages themselves
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  banner: { js: `// Built from console/ui by make ui; sources ${digest.digest("hex")}` },
});

// The licences of what is in the scripts that is not ours.
const theirs = new Set(Object.keys(metafile.inputs).flatMap((name) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(name)?.[1] ?? []));
const texts = [...theirs].sort().map((name) => {
  const file = readdirSync(`node_modules/${name}`).find((one) => /^licen[cs]e/i.test(one));
  return `${name}\n\n${readFileSync(`node_modules/${name}/${file}`, "utf8").trim()}\n`;
});
writeFileSync(`${folder}/LICENSES.txt`, texts.join("\n---\n\n"));
