// What our pages need of Airflow: its public API with the reader's own cookie, and its address bar.

// Airflow's own page, in which home.js runs, says where Airflow is; ours stand below that.
const said = document.querySelector("base");
export const base = said ? new URL(said.href).pathname : location.pathname.replace(/interlock\/.*/, "");
export const asked = new URLSearchParams(location.search);
export const dagId = asked.get("dag_id") ?? "";
export const runId = asked.get("run_id") ?? "";
export const runPath = `dags/${encodeURIComponent(dagId)}/dagRuns/${encodeURIComponent(runId)}`;

// Airflow keeps its theme in the class of its own page; a page of ours that is opened by itself follows the system.
if (parent !== window) {
  const outer = parent.document.documentElement.classList;
  const theme = ["dark", "light"].find((name) => outer.contains(name));
  if (theme) document.documentElement.dataset.theme = theme;
  document.documentElement.style.setProperty("--page", getComputedStyle(parent.document.body).backgroundColor);
}

export const read = async (path) => (await answered(path, "application/json")).json();
export const readText = async (path) => (await answered(path, "text/plain")).text();

export const sendFile = async (path, file) =>
  (await answered(path, "application/json", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file })).json();

async function answered(path, kind, { headers = {}, ...options } = {}) {
  const answer = await fetch(base + path, { headers: { Accept: kind, ...headers }, ...options });
  if (answer.status === 401) {
    parent.location.reload(); // Airflow shows its login
    throw new Error("Your session has expired. Log in again.");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(typeof body.detail === "string" ? body.detail : `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

export async function readAll(path, key) {
  const found = [];
  for (;;) {
    const part = await read(`api/v2/${path}${path.includes("?") ? "&" : "?"}limit=100&offset=${found.length}`);
    found.push(...part[key]);
    if (!part[key].length || found.length >= part.total_entries) return found;
  }
}

// Who reads this, and which questions are theirs: those assigned to their user name, or to FAB's number of it.
export const reader = () => read("ui/auth/me");
export const isFor = (question, who) => question.assigned_users.some(({ id }) => id === (/^\d+$/.test(id) ? who.id : who.username));
export const isOpen = (question) => !question.response_received && question.task_instance.state === "awaiting_input";
export const openQuestions = () => readAll("dags/~/dagRuns/~/hitlDetails?response_received=false&state=awaiting_input", "hitl_details");

export function questionPage(task) {
  const path = `dags/${encodeURIComponent(task.dag_id)}/runs/${encodeURIComponent(task.dag_run_id)}/tasks/${encodeURIComponent(task.task_id)}`;
  return task.map_index >= 0 ? `${path}/mapped/${task.map_index}/required_actions` : `${path}/required_actions`;
}

// The questions of one task of one run, of which a tester may have hundreds: the first ones, and how many more there are.
export function inGroups(questions, most = 3) {
  const of = new Map();
  for (const question of questions) {
    const { dag_id: dag, dag_run_id: run, task_id: task } = question.task_instance;
    const key = `${dag}/${run}/${task}`;
    of.set(key, [...(of.get(key) ?? []), question]);
  }
  return [...of.values()].map((all) => (all.length > most + 1 ? { shown: all.slice(0, most), more: all.length - most } : { shown: all, more: 0 }));
}

export function questionsPage({ dag_id: dag, dag_run_id: run }) {
  return `dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}/required_actions`;
}

// The emergency stops and freezes in force, in words; of a Dag, those of its service.
export const inForce = (dagId = "") =>
  read(`interlock/in_force${dagId ? `?dag_id=${encodeURIComponent(dagId)}` : ""}`).then(
    ({ stops, freezes }) => [...stops.map((stop) => `Emergency stop in force: ${stop}`), ...freezes.map((freeze) => `Freeze in force: ${freeze}`)],
    (error) => [`Whether an emergency stop or a freeze is in force is not known: ${error.message}`],
  );

export const banners = async (dagId = "") => (await inForce(dagId)).map((said) => element("p", { class: "reason bad", role: "alert" }, said));

// Our frame may not navigate Airflow's page; an anchor that lives in that page may.
export function visit(path) {
  const anchor = parent.document.createElement("a");
  anchor.href = base + path;
  parent.document.body.append(anchor);
  anchor.click();
  anchor.remove();
}

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export function link(text, path) {
  const go = (event) => {
    event.preventDefault();
    visit(path);
  };
  return element("a", { href: base + path, onclick: go }, text);
}
