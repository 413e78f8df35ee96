// The test matrix of a release: each ticket, its test cases, their results in each environment, and what nobody tested.

import { base, dagId, element, link, read, runId, runPath, sendFile } from "./airflow.js";
import { at, code, defectTable, isolated, pill, plural, quiet, section, size, table } from "./parts.js";

const STATES = {
  passed: ["passed", "passed"],
  failed: ["failed", "failed"],
  blocked: ["blocked", "waiting"],
  not_applicable: ["not applicable", "waiting"],
  not_run: ["not run", "failed"],
  not_demanded: ["not demanded", ""],
  no_case: ["no test case", "failed"],
};
const main = document.getElementById("matrix");
const query = `dag_id=${encodeURIComponent(dagId)}&run_id=${encodeURIComponent(runId)}`;
const MANY = 20; // rows of what nobody tested that are shown at once


const inApi = `interlock/api/v1/${runPath}`;

// Files that testers attached, to be kept as files: nothing of them is shown on a page.
const fileLinks = (files) =>
  files.map(({ name, file }) => element("div", {}, element("a", { href: `${base}${inApi}/files/${file.sha256}`, download: "", title: `SHA-256 ${file.sha256}` }, isolated(name)), quiet(size(file.size))));

// A test case that waits for the reader's result: what they attached to it, and a way to attach more.
function ownCase(one, most) {
  const files = element("div", {}, fileLinks(one.files));
  const said = element("div", { role: "status" });
  const chosen = async (event) => {
    const field = event.target;
    const [file] = field.files;
    if (!file) return;
    field.disabled = true;
    said.className = "quiet";
    said.replaceChildren(`${file.name} is sent …`);
    try {
      if (file.size > most) throw new Error(`The file was not attached: it has ${size(file.size)}; at most ${size(most)} are allowed.`);
      const path = `${inApi}/taskInstances/${encodeURIComponent(one.task_id)}/${one.map_index}/files?name=${encodeURIComponent(file.name)}`;
      const made = await sendFile(path, file);
      one.files = [...one.files.filter((known) => known.file.sha256 !== made.file.sha256), made];
      files.replaceChildren(...fileLinks(one.files));
      said.replaceChildren("It is attached. It belongs to the result that you give.");
    } catch (error) {
      said.className = "reason bad";
      said.replaceChildren(error.message);
    }
    field.value = "";
    field.disabled = false;
  };
  const field = element("input", { type: "file", "aria-label": `Attach a file to ${one.title}`, onchange: chosen });
  return [[isolated(one.title), quiet(code(one.case))], one.environment, [files, field, said], link("Give the result", one.path)];
}

function ownCases({ cases, total_entries: total, most_bytes: most }) {
  const rest = total - cases.length;
  return section(
    "Your test cases",
    table(["Test case", "Environment", "Your files", "Result"], cases.map((one) => ownCase(one, most)), "", "cards"),
    quiet(`Attach files before you give the result: screenshots, PDF, logs, zip files or videos, at most ${size(most)} each.`),
    rest ? quiet(`${plural(rest, "more test case waits", "more test cases wait")} for you; they are here when you have given results.`) : null,
  );
}

function row(one, names) {
  const called = (user) => names[user] ?? user;
  return [
    one.ticket ? isolated(one.ticket) : quiet("no ticket"),
    one.case ? [isolated(one.title), quiet(code(one.case), one.proves.length ? `, proves ${one.proves.join(", ")}` : "")] : "",
    one.environment,
    pill(...STATES[one.state]),
    one.by ? [called(one.by), at(one.at)] : one.testers.length ? quiet(`for ${one.testers.map(called).join(" or ")}`) : "",
    [
      one.comment ? isolated(one.comment) : "",
      one.evidence ? element("div", {}, code(one.evidence)) : "",
      fileLinks(one.files),
      one.step ? quiet("at the step “", isolated(one.step), "”") : "",
      one.defect ? quiet("known as ", code(one.defect)) : "",
    ],
    one.because.length ? quiet(one.because.join("; ")) : "",
  ];
}

// How many rows have which result, as links that leave only these on the page.
function summary(rows, shown, choose) {
  const counts = Object.keys(STATES).map((state) => [state, rows.filter((one) => one.state === state).length]).filter(([, number]) => number);
  const button = (state, text) => element("button", { type: "button", "aria-pressed": String(shown === state), onclick: () => choose(state) }, text);
  return element("p", { class: "choices" }, button("", `All ${rows.length}`), counts.map(([state, number]) => [" ", button(state, `${number} ${STATES[state][0]}`)]));
}

function missing(untested) {
  if (!untested.length) return element("p", { class: "reason good" }, "Everything that must be tested has a result.");
  const items = untested.map((what) => element("li", {}, isolated(what)));
  const rest = items.slice(MANY);
  return element(
    "div",
    { class: "reason bad" },
    element("strong", {}, `Nobody tested (${untested.length}):`),
    element("ul", {}, items.slice(0, MANY)),
    rest.length ? element("details", {}, element("summary", {}, `and ${plural(rest.length, "more", "more")}`), element("ul", {}, rest)) : null,
  );
}

function matrix(rows, names) {
  const heads = ["Ticket", "Test case", "Environment", "Result", "Tester", "Comment and evidence", "Why it must be run"];
  const place = element("div");
  const choose = (state) => {
    const chosen = rows.filter((one) => !state || one.state === state);
    place.replaceChildren(summary(rows, state, choose), table(heads, chosen.map((one) => row(one, names)), "", "cards"));
    place.querySelector('button[aria-pressed="true"]').focus({ preventScroll: true }); // for the keyboard: it was replaced
  };
  choose("");
  return place;
}

try {
  const [{ rows, untested, defects }, own, names] = await Promise.all([read(`interlock/matrix?${query}`), read(`${inApi}/cases?limit=100`), read("interlock/names").catch(() => ({}))]);
  main.append(element("h1", {}, "Test matrix"));
  if (!rows.length) {
    main.append(element("p", { class: "quiet" }, "This run has no test cases that people run. A service gets them with “cases” in its file."));
  } else {
    if (own.total_entries) main.append(ownCases(own));
    main.append(missing(untested), matrix(rows, names));
    if (defects.length) main.append(section("Defects", defectTable(defects)));
    main.append(quiet("All times on this page are in UTC."));
  }
} catch (error) {
  main.append(element("h1", {}, "Test matrix"), element("p", { class: "reason bad", role: "alert" }, `The test matrix cannot be loaded: ${error.message}`));
}
