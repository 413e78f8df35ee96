// The data docs of a release, stage by stage.

import { base, dagId, element, read, runId } from "./airflow.js";

const TITLES = { quality: "Quality review", canary: "Canary", verification: "Verification" };
const bar = document.getElementById("reports");
const frame = document.getElementById("docs");

const title = (stage) => TITLES[stage] ?? stage.replace(/^quality-/, "Environment ");

function show(stage) {
  frame.src = `${base}interlock/docs/${encodeURIComponent(dagId)}/${encodeURIComponent(runId)}/${stage}/index.html`;
  frame.hidden = false;
  for (const button of bar.querySelectorAll("button")) button.setAttribute("aria-pressed", button.name === stage);
}

frame.addEventListener("load", () => {
  const theme = document.documentElement.dataset.theme;
  if (theme) frame.contentDocument.documentElement.style.colorScheme = theme;
});

try {
  const query = `dag_id=${encodeURIComponent(dagId)}&run_id=${encodeURIComponent(runId)}`;
  const { stages } = await read(`interlock/reports?${query}`);
  bar.append(...stages.map((stage) => element("button", { name: stage, onclick: () => show(stage) }, title(stage))));
  if (stages.length) show(stages[0]);
  else bar.append(element("p", { class: "quiet" }, "This run has no quality report yet."));
} catch (error) {
  bar.append(element("p", { class: "bad" }, `The quality report cannot be loaded: ${error.message}`));
}
