// What the page of a run reads of Airflow's own API, with the reader's rights: as much of its answers as is shown.
import { ofAirflow } from "./client";
import { Run } from "./sheet";
import { CLERK } from "./vocabulary";

export interface AirflowRun {
  dag_run_id: string;
  dag_display_name?: string;
  state: string;
  conf: Record<string, string> | null;
  triggering_user_name: string | null;
}

export interface Task {
  task_id: string;
  map_index: number;
  state: string | null;
  start_date: string | null;
  end_date: string | null;
}

export interface Asked {
  subject: string;
  created_at: string;
  response_received: boolean;
  responded_at: string | null;
  responded_by_user: { name: string } | null;
  chosen_options: string[] | null;
  params_input: Record<string, string> | null;
  assigned_users: { id: string; name: string }[];
  task_instance: Task & { dag_id: string; dag_run_id: string; task_display_name: string | null };
}

const runsOf = (dag: string): string => `dags/${encodeURIComponent(dag)}/dagRuns`;
const pathOf = ({ dagId, runId }: Run): string => `${runsOf(dagId)}/${encodeURIComponent(runId)}`;

async function readAll<T>(path: string, key: string): Promise<T[]> {
  const found: T[] = [];
  for (;;) {
    const part = await ofAirflow<Record<string, unknown> & { total_entries: number }>(`${path}?limit=100&offset=${found.length}`);
    const more = part[key] as T[];
    found.push(...more);
    if (!more.length || found.length >= part.total_entries) return found;
  }
}

export const readRun = (run: Run): Promise<AirflowRun> => ofAirflow(pathOf(run));
export const readTasks = (run: Run): Promise<Task[]> => readAll(`${pathOf(run)}/taskInstances`, "task_instances");
export const readAsked = (run: Run): Promise<Asked[]> => readAll(`${pathOf(run)}/hitlDetails`, "hitl_details");

/** The run of a Dag that is under way: of each Dag, Airflow runs one at a time. */
export async function readUnderWay(dag: string): Promise<AirflowRun | undefined> {
  const found = await ofAirflow<{ dag_runs: AirflowRun[] }>(`${runsOf(dag)}?state=running&order_by=run_after&limit=1`);
  return found.dag_runs[0];
}

export const ENDED = new Set<string | null>(["success", "failed", "skipped", "upstream_failed", "removed"]);
export const PARKED = new Set<string | null>(["deferred", "up_for_reschedule"]);

export const isOpen = (one: Asked): boolean => !one.response_received && one.task_instance.state === "awaiting_input";
export const peopleAsked = (one: Asked): Asked["assigned_users"] => one.assigned_users.filter((user) => user.id !== CLERK);
/** Who is waited for, in words. */
export const peopleOf = (open: readonly Asked[]): string =>
  [...new Set(open.map((one) => peopleAsked(one).map((user) => user.name).join(" or ")))].join(", ");

export function questionPage({ dag_id, dag_run_id, task_id, map_index }: Asked["task_instance"]): string {
  const path = `/dags/${encodeURIComponent(dag_id)}/runs/${encodeURIComponent(dag_run_id)}/tasks/${encodeURIComponent(task_id)}`;
  return `${path}${map_index >= 0 ? `/mapped/${map_index}` : ""}/required_actions`;
}

/** In the order in which the stages asked, and within a stage in that of the people. */
export function inOrder(questions: readonly Asked[]): Asked[] {
  const began = new Map<string, string>();
  for (const { task_instance: { task_id }, created_at: at } of questions) {
    const first = began.get(task_id);
    if (first === undefined || at < first) began.set(task_id, at);
  }
  const stage = (one: Asked) => began.get(one.task_instance.task_id) ?? "";
  return [...questions].sort((one, other) => stage(one).localeCompare(stage(other)) || one.task_instance.map_index - other.task_instance.map_index);
}

/** How long tasks took, or have run so far. */
export function took(tasks: readonly Task[]): string {
  const starts = tasks.map((task) => task.start_date).filter((at) => at !== null).sort();
  const ends = tasks.map((task) => task.end_date).filter((at) => at !== null).sort();
  if (!starts[0]) return "";
  const running = tasks.some((task) => task.start_date && !task.end_date);
  const seconds = ((running ? Date.now() : Date.parse(ends.at(-1) ?? "")) - Date.parse(starts[0])) / 1000;
  if (!(seconds >= 0)) return "";
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** The state of a stage, by those of its tasks. */
export function stateOf(tasks: readonly Task[]): string {
  const states = tasks.map((task) => task.state);
  if (states.includes("failed")) return "failed";
  if (states.includes("awaiting_input")) return "waiting for answers";
  if (states.some((state) => state && !ENDED.has(state))) return "running";
  if (states.includes("upstream_failed")) return "not reached";
  if (states.length && states.every((state) => state === "skipped" || state === "removed")) return "skipped";
  if (states.length && states.every((state) => ENDED.has(state))) return "done";
  return states.some(Boolean) ? "running" : "pending";
}
