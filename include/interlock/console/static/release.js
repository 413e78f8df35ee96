// The release at a glance: what Airflow's public API says of this run, put together.

import { base, dagId, element, link, read, readText, runId, runPath } from "./airflow.js";

const STAGES = [
  ["policy", "Release policy"],
  ["planning", "Release planning"],
  ["design", "Hardware and software design"],
  ["build", "Build and configure"],
  ["quality", "Quality review"],
  ["acceptance", "Release accepted"],
  ["rollout", "Rollout plan and CAB"],
  ["communication", "Communicate and train"],
  ["implementation", "Implement release"],
  ["verification", "Verify implementation"],
  ["closure", "Closure"],
];
const TITLES = Object.fromEntries(STAGES);
const SUITES = {
  tests: "Tests",
  coverage: "Test coverage",
  performance: "Response times and errors",
  components: "Components and licences",
  record: "Release record",
  smoke: "Smoke requests",
  load: "Load, compared with before the release",
};
const CLERK = "board_clerk";
const RECORDS = {
  "policy.resolve_policy": "policy",
  "planning.plan_release": "plan",
  "planning.decide_plan": "planDecision",
  "design.check_assets": "assets",
  "build.build_artifact": "artifact",
  "quality.deploy_to_test": "test",
  "quality.judge_quality": "quality",
  "acceptance.decide_acceptance": "acceptance",
  "rollout.freeze_plan": "rollout",
  "rollout.await_board": "board",
  "communication.record_communication": "communication",
  "verification.judge_verification": "verification",
  "verification.back_out": "backOut",
  "closure.close_release": "outcome",
};
const LEAVES_FILES = new Set(["communication.write_notes", "communication.write_rollback_notes", "closure.pack_evidence"]);
const ENDED = new Set(["success", "failed", "skipped", "upstream_failed", "removed"]);
const EVERY = 5000;
const page = document.getElementById("release");
const known = new Map();

// --- reading -----------------------------------------------------------------------------------------------------

async function readAll(path, key) {
  const found = [];
  for (;;) {
    const part = await read(`api/v2/${path}${path.includes("?") ? "&" : "?"}limit=100&offset=${found.length}`);
    found.push(...part[key]);
    if (!part[key].length || found.length >= part.total_entries) return found;
  }
}

async function readXCom(entry) {
  const seen = `${entry.task_id} ${entry.map_index} ${entry.key} ${entry.timestamp}`;
  if (!known.has(seen)) {
    const task = encodeURIComponent(entry.task_id);
    const path = `api/v2/${runPath}/taskInstances/${task}/xcomEntries/${entry.key}?map_index=${entry.map_index}`;
    const { value } = await read(path);
    known.set(seen, typeof value === "string" && entry.key === "return_value" ? JSON.parse(value) : value);
  }
  return known.get(seen);
}

async function readRelease() {
  const [run, tasks, entries, questions] = await Promise.all([
    read(`api/v2/${runPath}`),
    readAll(`${runPath}/taskInstances`, "task_instances"),
    readAll(`${runPath}/taskInstances/~/xcomEntries`, "xcom_entries"),
    readAll(`${runPath}/hitlDetails`, "hitl_details"),
  ]);
  const records = { waves: [] };
  const reasons = {};
  await Promise.all(
    entries.map(async (entry) => {
      const wave = /^implementation\.wave_(\d+)$/.exec(entry.task_id);
      if (entry.key === "reason") reasons[entry.task_id] = await readXCom(entry);
      else if (entry.key === "return_value" && RECORDS[entry.task_id]) records[RECORDS[entry.task_id]] = await readXCom(entry);
      else if (entry.key === "return_value" && wave) records.waves[Number(wave[1]) - 1] = await readXCom(entry);
    }),
  );
  records.waves = records.waves.filter(Boolean);
  const [files, names] = await Promise.all([readFiles(entries), readNames(questions)]);
  return { run, tasks, questions, records, reasons, files, names };
}

// How people call everybody: as the catalogue does, and who is not in it any more as they were asked.
async function readNames(questions) {
  if (!known.has("names")) known.set("names", await read("interlock/names").catch(() => ({})));
  return new Map([...questions.flatMap(asked).map((user) => [user.id, user.name]), ...Object.entries(known.get("names"))]);
}

// What lies in the artifact store by the ledger; asked again only when one of the tasks that put it there has ended.
const filesPath = `interlock/files/${encodeURIComponent(dagId)}/${encodeURIComponent(runId)}`;
async function readFiles(entries) {
  const left = entries.filter((entry) => entry.key === "return_value" && LEAVES_FILES.has(entry.task_id));
  const seen = `files ${left.map((entry) => entry.timestamp).join(" ")}`;
  if (!left.length) return {};
  if (!known.has(seen)) {
    try {
      const files = await read(`interlock/files?dag_id=${encodeURIComponent(dagId)}&run_id=${encodeURIComponent(runId)}`);
      if (files.notes) files.notes.text = await readText(`${filesPath}/notes`);
      known.set(seen, files);
    } catch (error) {
      return { problem: error.message }; // the rest of the page is worth showing
    }
  }
  return known.get(seen);
}

// --- saying ------------------------------------------------------------------------------------------------------

const short = (digest) => (digest ? digest.slice(0, 12) : "—");
const when = (instant) => (instant ? new Date(instant).toISOString().slice(0, 16).replace("T", " ") + " UTC" : "—");
const brief = (reason) => (reason?.length > 240 ? `${reason.slice(0, 239)}…` : reason); // the whole is at the top
const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

function took(tasks) {
  const starts = tasks.map((task) => task.start_date).filter(Boolean).sort();
  const ends = tasks.map((task) => task.end_date).filter(Boolean).sort();
  if (!starts.length) return "";
  const running = tasks.some((task) => task.start_date && !task.end_date);
  const seconds = ((running ? Date.now() : Date.parse(ends.at(-1))) - Date.parse(starts[0])) / 1000;
  if (!(seconds >= 0)) return "";
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function stateOf(tasks) {
  const states = tasks.map((task) => task.state);
  if (states.includes("failed")) return "failed";
  if (states.some((state) => state === "awaiting_input")) return "waiting for answers";
  if (states.some((state) => state && !ENDED.has(state))) return "running";
  if (states.some((state) => state === "upstream_failed")) return "not reached";
  if (states.length && states.every((state) => state === "skipped" || state === "removed")) return "skipped";
  if (states.length && states.every((state) => ENDED.has(state))) return "done";
  return states.some(Boolean) ? "running" : "pending";
}

const SAYS = {
  policy: ({ policy }) => policy && `${policy.change_type} change; catalogue ${short(policy.digest)}`,
  planning: ({ plan }) =>
    plan && `${plan.previous_version ?? "nothing"} → ${plan.version}, ${plural(plan.commit_count, "commit")}, risk ${plan.risk.score}`,
  design: ({ assets }) =>
    assets &&
    [
      ...Object.entries(assets.hosts).map(([name, hosts]) => `${name}: ${plural(hosts.length, "host")}`),
      ...(assets.lacking ?? []).map((sentence) => `in production: ${sentence}`),
    ].join(", "),
  build: ({ artifact }) => artifact && `${artifact.tool}, ${artifact.seconds.toFixed(1)} s, sha256 ${short(artifact.bundle.sha256)}`,
  quality: ({ quality }) =>
    quality && (quality.success ? `${plural(quality.suites.length, "suite")} passed` : `${plural(quality.failures.length, "expectation")} failed`),
  acceptance: ({ acceptance }) => acceptance?.reason,
  rollout: ({ rollout, board }) => board?.reason ?? (rollout && `frozen: ${plural(rollout.waves.length, "wave")}`),
  communication: ({ communication }) =>
    communication && `${plural(Object.keys(communication.sent).length, "audience")} notified`,
  implementation: ({ waves, rollout }) => waves.length && `${waves.length} of ${plural(rollout?.waves.length ?? waves[0].of, "wave")}`,
  verification: ({ verification, backOut }) =>
    backOut ? `backed out${backOut.verified ? ", verified" : ", NOT verified"}` : verification?.success && "verification passed",
  closure: ({ outcome }) => outcome && `recorded as ${outcome.outcome.replace("_", " ")}`,
};

// --- showing -----------------------------------------------------------------------------------------------------

const pill = (state) => element("span", { class: `pill ${state.replaceAll(" ", "-").replaceAll("_", "-")}` }, state.replaceAll("_", " "));
const titleOf = (run) =>
  run.dag_display_name && run.dag_display_name !== dagId
    ? run.dag_display_name.replace(/^Release /, "")
    : dagId.replace(/^release_/, "").replaceAll("_", "-");
const asked = (question) => question.assigned_users.filter((user) => user.id !== CLERK);
const code = (text) => element("code", {}, text ?? "—");

function table(heads, rows, empty = "", kind = null) {
  if (!rows.length) return element("p", { class: "quiet" }, empty);
  const cells = (row) => element("tr", {}, row.map((cell) => element("td", {}, cell ?? "—")));
  const head = element("thead", {}, element("tr", {}, heads.map((name) => element("th", { scope: "col" }, name))));
  return element("div", { class: "wide" }, element("table", { class: kind }, head, element("tbody", {}, rows.map(cells))));
}

const section = (title, ...content) => element("section", {}, element("h2", {}, title), ...content);

// Who is waited for, and until when silence approves nothing.
function waiting({ questions, records: { rollout } }) {
  const open = questions.filter((question) => !question.response_received && question.task_instance.state === "awaiting_input");
  if (!open.length) return null;
  const people = [...new Set(open.map((question) => asked(question).map((user) => user.name).join(" or ")))];
  const board = open.some((question) => question.task_instance.task_id.startsWith("rollout."));
  const until = board && rollout?.decide_by ? `, until ${when(rollout.decide_by)}` : "";
  return element("p", { class: "reason wait" }, `Waiting for ${people.join(", ")}${until}.`);
}

function heading({ run, records, reasons, tasks, questions }) {
  const { plan, rollout, outcome } = records;
  const conf = run.conf ?? {};
  const version = plan?.version ?? rollout?.version ?? conf.version ?? "";
  const state = outcome?.outcome ?? run.state;
  const failed = tasks.filter((task) => task.state === "failed").map((task) => reasons[task.task_id]).find(Boolean);
  const reason = outcome ? outcome.reason : failed;
  return [
    element("h1", {}, `${titleOf(run)} ${version} `, pill(state)),
    element("p", { class: "summary" }, plan?.summary ?? conf.summary ?? ""),
    reason && (outcome || failed)
      ? element("p", { class: `reason ${["deployed", "rehearsed"].includes(state) ? "good" : "bad"}` }, outcome ? `Decided in ${TITLES[outcome.stage] ?? outcome.stage}: ${reason}` : reason)
      : null,
    waiting({ questions, records }),
  ];
}

function glance({ run, records, names }) {
  const { policy, plan, artifact, rollout, board } = records;
  const requester = plan?.requested_by ?? run.triggering_user_name;
  const facts = [
    ["Commit", plan && [code(short(plan.commit.sha)), ` ${plan.commit.subject}`]],
    ["Ref", plan && code(plan.ref)],
    ["Change type", plan?.change_type],
    ["Requested by", names.get(requester) ?? requester],
    ["Target", plan && `${plan.target}${plan.rehearsal ? " (rehearsal)" : ""}`],
    ["Tickets", plan?.tickets.join(", ")],
    ["Not before", plan?.not_before && when(plan.not_before)],
    ["Risk", plan && `${plan.risk.score} of 100`],
    ["Artifact", artifact && [`${artifact.version}, sha256 `, code(artifact.bundle.sha256)]],
    ["Catalogue", policy && code(policy.digest)],
    ["Plan voted on", board && code(board.digest)],
    ["Decide by", rollout?.decide_by && when(rollout.decide_by)],
  ].filter(([, value]) => value);
  return element("dl", {}, facts.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function stages({ tasks, records, reasons }) {
  const rows = STAGES.map(([id, title], index) => {
    const label = id === "closure" ? title : `${index + 1} ${title}`;
    const own = tasks.filter((task) => task.task_id.startsWith(`${id}.`));
    const failed = own.find((task) => task.state === "failed");
    const reason = failed && brief(reasons[failed.task_id]);
    const closed = id === "closure" && records.outcome; // its task fails to say that the release did
    const both = id === "verification";
    const said = both ? [reason, SAYS[id](records)] : [(!closed && reason) || SAYS[id](records)];
    const state = closed ? "done" : stateOf(own);
    const name = own.length ? link(label, `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}/tasks/group/${id}`) : label;
    return [name, pill(state), state === "not reached" ? "" : took(own), said.filter(Boolean).join(" — ")];
  });
  return section("Stages", table(["Stage", "State", "Duration", "Result"], rows, "", "stages"));
}

function decisions({ run, questions, records, names }) {
  const decided = [
    ["Plan", records.planDecision],
    ["Acceptance", records.acceptance],
    ["Board", records.board],
  ].filter(([, decision]) => decision);
  const rows = decided.map(([name, decision]) => [
    name,
    pill(decision.required ? (decision.approved ? "approved" : "rejected") : "not asked"),
    decision.reason,
    code(short(decision.digest)),
  ]);
  return section(
    "Decisions",
    table(["Decision on", "Result", "Reason", "Digest"], rows, "No decisions yet.", "decisions"),
    element("h3", {}, "Questions and answers"),
    table(["Assigned to", "Question", "Answer", "Answered by", "At", "Comment"], inOrder(questions).map(answer(names)), ENDED.has(run.state) ? "No questions were asked." : "No questions yet."),
  );
}

// In the order in which the stages asked, and within a stage in that of the people.
function inOrder(questions) {
  const began = new Map();
  for (const { task_instance: task, created_at: at } of questions)
    if (!began.has(task.task_id) || at < began.get(task.task_id)) began.set(task.task_id, at);
  const key = ({ task_instance: task }) => [began.get(task.task_id), task.map_index];
  return [...questions].sort((one, other) => {
    const [[first, number], [second, next]] = [key(one), key(other)];
    return `${first}`.localeCompare(`${second}`) || number - next;
  });
}

const answer = (names) => (question) => {
  const task = question.task_instance;
  const forged = ENDED.has(task.state) && task.state === "success" && !question.response_received;
  const by = question.responded_by_user?.name;
  const closed = by === CLERK;
  const answered = question.response_received
    ? pill(closed ? "closed" : question.chosen_options.join(", "))
    : pill(forged ? "marked manually, no answer" : ENDED.has(task.state) ? "no answer" : "waiting");
  const path = `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}/tasks/${encodeURIComponent(task.task_id)}`;
  const place = task.map_index >= 0 ? `${path}/mapped/${task.map_index}/required_actions` : `${path}/required_actions`;
  return [
    asked(question).map((user) => user.name).join(" or "),
    link(question.subject, place),
    answered,
    closed ? "closed: no longer needed" : by ? (names.get(by) ?? by) : question.response_received ? "no answer in time" : "",
    question.responded_at ? when(question.responded_at) : "",
    closed ? "" : said(question.params_input),
  ];
};

function said(form) {
  const conditions = form?.conditions ? [element("br"), `Conditions: ${form.conditions}`] : [];
  return [form?.comment ?? "", ...conditions];
}

function changes({ records: { plan } }) {
  if (!plan) return null;
  const rows = plan.commits.slice(0, 20).map((commit) => [code(short(commit.sha)), commit.subject, commit.author]);
  const more = plan.commit_count - rows.length;
  return section(
    plan.previous_version ? `Changes since ${plan.previous_version}` : "Changes",
    table(["Commit", "Subject", "Author"], rows, "No commits since then."),
    more > 0 ? element("p", { class: "quiet" }, `… and ${plural(more, "more commit")}.`) : null,
  );
}

function risk({ records: { plan } }) {
  if (!plan) return null;
  const rows = plan.risk.terms.map((term) => [term.name, String(term.points), term.why]);
  return section(`Risk ${plan.risk.score} of 100`, table(["Factor", "Points", "Reason"], rows, "No risk factor applies."));
}

function failures(found) {
  const rows = found.map((one) => [
    SUITES[one.suite] ?? one.suite,
    one.expected,
    one.rows.length ? element("ul", {}, one.rows.map((row) => element("li", {}, row))) : "the table as a whole",
    String(one.row_count || ""),
  ]);
  return table(["Suite", "Expected", "Broken by", "Rows"], rows);
}

function waived(waivers, names) {
  const rows = waivers.map((one) => [
    `${SUITES[one.suite] ?? one.suite}: ${one.expectation}`,
    names.get(one.by) ?? one.by,
    when(one.until),
    one.reason,
  ]);
  return [element("h3", {}, "Waivers (the expectations still count as failed)"), table(["Expected", "By", "Until", "Reason"], rows)];
}

function quality({ names, records: { quality: report, verification, rollout } }) {
  if (!report && !verification) return null;
  const suites = (report?.suites ?? []).map((suite) => [
    SUITES[suite.suite] ?? suite.suite,
    pill(suite.success ? "passed" : "failed"),
    `${suite.evaluated - suite.failed} of ${suite.evaluated}`,
  ]);
  const broken = [...(report?.failures ?? []), ...(verification?.failures ?? [])];
  const docs = `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}/plugin/quality-report`;
  return section(
    "Quality",
    table(["Suite", "Result", "Expectations met"], suites),
    broken.length ? failures(broken) : null,
    rollout?.waivers?.length ? waived(rollout.waivers, names) : null,
    element("p", {}, link("Quality report with all rows", docs)),
  );
}

function hosts({ run, records: { rollout, waves, backOut, outcome } }) {
  if (!rollout) return null;
  const ended = ENDED.has(run.state);
  const deployed = new Map(waves.flatMap((wave) => wave.results).map((result) => [result.host, result]));
  const taken = new Map((backOut?.results ?? []).map((result) => [result.host, result]));
  const rows = rollout.waves.flatMap((wave, index) =>
    wave.map((host) => {
      const first = deployed.get(host.address) ?? deployed.get(host.name);
      const last = taken.get(host.address) ?? taken.get(host.name) ?? first;
      const runs = outcome?.running?.[host.address] ?? outcome?.running?.[host.name];
      const goesBack = rollout.back_out.releases[host.address];
      return [
        String(index + 1),
        host.name,
        host.address,
        code(first?.before ?? goesBack),
        code(last?.after),
        pill(last ? last.outcome : ended ? "not changed" : "pending"),
        runs ?? "",
        last?.error ?? "",
      ];
    }),
  );
  const heads = ["Wave", "Host", "Address", "Before", "After", "Outcome", "Current version", "Error"];
  return section(`Hosts of ${rollout.environment}`, table(heads, rows));
}

function people({ names, records: { communication } }) {
  if (!communication) return null;
  const told = Object.entries(communication.sent).map(([name, addresses]) => [name, addresses.join(", ")]);
  const trained = Object.entries(communication.acknowledged).map(([role, user]) => [role, `acknowledged by ${names.get(user) ?? user}`]);
  return section("Notifications", table(["Audience or role", "Recipients"], [...told, ...trained], "No notifications were needed."));
}

const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function documents({ files: { notes, evidence, problem } }) {
  if (!notes && !evidence && !problem) return null;
  const unfolded = page.querySelector("details")?.open; // as the reader left it
  return section(
    "Documents",
    problem ? element("p", { class: "bad" }, `The documents cannot be loaded: ${problem}`) : null,
    notes ? element("details", { open: unfolded && "" }, element("summary", {}, "Release notes"), element("pre", {}, notes.text)) : null,
    evidence
      ? element(
          "p",
          {},
          element("a", { href: `${base}${filesPath}/evidence`, download: "" }, "Download the evidence pack"),
          ` (${size(evidence.size)}, sha256 `,
          code(evidence.sha256),
          "): the signed evidence of this release. docs/evidence.md describes how to verify it offline.",
        )
      : null,
  );
}

function show(release) {
  const parts = [heading, glance, stages, decisions, changes, risk, quality, hosts, people, documents];
  page.replaceChildren(...parts.flatMap((part) => part(release)).filter(Boolean));
}

// --- and again, while it runs --------------------------------------------------------------------------------------

async function refresh() {
  try {
    if (!dagId.startsWith("release_")) throw new Error(`${dagId || "This page"} is not a release.`);
    const release = await readRelease();
    show(release);
    if (["queued", "running"].includes(release.run.state)) setTimeout(refresh, EVERY);
  } catch (error) {
    page.replaceChildren(element("p", { class: "bad" }, `The release cannot be loaded: ${error.message}`));
  }
}

await refresh();
