// The test matrix of a release: each ticket, its test cases, their results in each environment, and what nobody tested.

import { dagId, element, read, runId } from "./airflow.js";

const STATES = {
  passed: "passed",
  failed: "failed",
  blocked: "blocked",
  not_applicable: "not applicable",
  not_run: "not run",
  not_demanded: "not demanded",
  no_case: "no test case",
};
const KINDS = { passed: "passed", failed: "failed", not_run: "failed", no_case: "failed", blocked: "waiting", not_applicable: "waiting" };
const main = document.getElementById("matrix");
const query = `dag_id=${encodeURIComponent(dagId)}&run_id=${encodeURIComponent(runId)}`;

const when = (at) => (at ? `${at.slice(0, 10)} ${at.slice(11, 16)} UTC` : "");

function row(one, names) {
  const who = one.by ? `${names[one.by] ?? one.by}, ${when(one.at)}` : one.testers.map((user) => names[user] ?? user).join(", ");
  return element(
    "tr",
    {},
    element("td", {}, one.ticket || "–"),
    element("td", {}, one.case ? [one.title, element("div", { class: "quiet" }, `${one.case}${one.proves.length ? `, proves ${one.proves.join(", ")}` : ""}`)] : "–"),
    element("td", {}, one.environment || "–"),
    element("td", {}, element("span", { class: `pill ${KINDS[one.state] ?? ""}` }, STATES[one.state] ?? one.state)),
    element("td", {}, who),
    element("td", {}, one.comment, one.evidence ? element("div", {}, element("code", {}, one.evidence)) : ""),
    element("td", { class: "quiet" }, one.because.join("; ")),
  );
}

function table(rows, names) {
  const head = ["Ticket", "Test case", "Environment", "Result", "Tester", "Comment and evidence", "Why it must be run"];
  return element(
    "div",
    { class: "wide" },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, head.map((name) => element("th", {}, name)))),
      element("tbody", {}, rows.map((one) => row(one, names))),
    ),
  );
}

const ENDS = { fixed: "fixed by this release", new: "brought along by this release", open: "open from before", accepted: "accepted as known" };

function defectTable(defects) {
  const cells = (one) => [`${one.id}: ${one.title}`, one.severity, `${one.version}, ${one.environment}`, `${ENDS[one.state]}${one.until ? ` until ${when(one.until)}` : ""}${one.stops ? `: ${one.stops}` : ""}`];
  const head = ["Defect", "Severity", "Found in", "Now"];
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, head.map((name) => element("th", {}, name)))),
    element("tbody", {}, defects.map((one) => element("tr", {}, cells(one).map((cell) => element("td", {}, cell))))),
  );
}

try {
  const [{ rows, untested, defects }, names] = await Promise.all([read(`interlock/matrix?${query}`), read("interlock/names").catch(() => ({}))]);
  main.append(element("h1", {}, "Test matrix"));
  if (!rows.length) {
    main.append(element("p", { class: "quiet" }, "This run has no test cases that people run."));
  } else {
    const open = untested.map((what) => element("li", {}, what));
    main.append(
      untested.length
        ? element("div", { class: "reason bad" }, element("strong", {}, "Nobody tested:"), element("ul", {}, open))
        : element("p", { class: "reason good" }, "Everything that must be tested has a result."),
      table(rows, names),
      ...(defects.length ? [element("h2", {}, "Defects"), defectTable(defects)] : []),
    );
  }
} catch (error) {
  main.append(element("p", { class: "reason bad" }, `The test matrix cannot be loaded: ${error.message}`));
}
