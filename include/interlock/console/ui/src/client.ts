// The API, typed by its OpenAPI document: the paths and what they answer come from api.ts, which make ui generates.
import type { components, paths } from "./api";

export type Schemas = components["schemas"];
type Query<P extends keyof paths> = paths[P]["get"] extends { parameters: { query?: infer Q } }
  ? [Q & {}] extends [never]
    ? Record<string, never>
    : Q
  : never;
type Answer<P extends keyof paths> = paths[P]["get"] extends {
  responses: { 200: { content: { "application/json": infer A } } };
}
  ? A
  : never;

const said = document.querySelector("base");
/** Where Airflow is: its page says so, also behind a proxy that gives it a path. */
export const base = said ? new URL(said.href).pathname : "/";

interface More {
  /** What replaces {names} in the path. */
  params?: Record<string, string>;
  signal?: AbortSignal;
}

export async function get<P extends keyof paths>(path: P, query: Query<P>, more: More = {}): Promise<Answer<P>> {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== "") asked.append(name, String(one));
    }
  }
  const options: RequestInit = {};
  if (more.signal) options.signal = more.signal;
  return (await ask(`${base}interlock/api/v1${placed(path, more)}?${asked}`, options)) as Answer<P>;
}

type Body<P extends keyof paths> = paths[P] extends { post: { requestBody: { content: { "application/json": infer B } } } } ? B : never;
type Made<P extends keyof paths> = paths[P] extends { post: { responses: { 200: { content: { "application/json": infer A } } } } } ? A : never;

export async function post<P extends keyof paths>(path: P, body: Body<P>, more: More = {}): Promise<Made<P>> {
  return (await ask(`${base}interlock/api/v1${placed(path, more)}`, sending("POST", body))) as Made<P>;
}

type With<P extends keyof paths, M extends "put" | "delete"> = paths[P] extends { [K in M]: { responses: { 200: { content: { "application/json": infer A } } } } } ? A : never;

export async function put<P extends keyof paths>(path: P, body: unknown, more: More = {}): Promise<With<P, "put">> {
  return (await ask(`${base}interlock/api/v1${placed(path, more)}`, sending("PUT", body))) as With<P, "put">;
}

export async function remove<P extends keyof paths>(path: P, more: More = {}): Promise<With<P, "delete">> {
  return (await ask(`${base}interlock/api/v1${placed(path, more)}`, { method: "DELETE" })) as With<P, "delete">;
}

/** Send a file as the body of a request: never as a form, so that no other site can have it sent. */
export async function postFile<P extends keyof paths>(path: P, file: File, more: More = {}): Promise<Made<P>> {
  const headers = { Accept: "application/json", "Content-Type": "application/octet-stream" };
  const name = new URLSearchParams({ name: file.name });
  return (await ask(`${base}interlock/api/v1${placed(path, more)}?${name}`, { method: "POST", body: file, headers })) as Made<P>;
}

/** Answer a question through Airflow's own API, as its form does. */
export function answerQuestion(dag: string, run: string, task: string, index: number, choice: string, words: Record<string, unknown>): Promise<unknown> {
  const [inDag, inRun, inTask] = [dag, run, task].map(encodeURIComponent);
  const place = `${base}api/v2/dags/${inDag}/dagRuns/${inRun}/taskInstances/${inTask}/${index}/hitlDetails`;
  return ask(place, sending("PATCH", { chosen_options: [choice], params_input: words }));
}

/** Read something of Airflow's own API. */
export const ofAirflow = <T>(path: string): Promise<T> => ask(`${base}api/v2/${path}`, {}) as Promise<T>;

/** Read a file of ours as text. */
export async function getText(path: string): Promise<string> {
  const answer = await fetch(base + path);
  if (!answer.ok) throw new Error(sentence(await answer.json().catch(() => null)) || `${answer.status} ${answer.statusText}`);
  return answer.text();
}

const sending = (method: string, body: unknown): RequestInit => ({
  method,
  body: JSON.stringify(body),
  headers: { Accept: "application/json", "Content-Type": "application/json" },
});

const placed = (path: string, more: More): string =>
  path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(more.params?.[name] ?? ""));

async function ask(place: string, options: RequestInit): Promise<unknown> {
  const answer = await fetch(place, { headers: { Accept: "application/json" }, ...options });
  if (answer.status === 401) {
    location.reload(); // Airflow shows its login
    throw new Error("Your session has expired. Log in again.");
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(sentence(body) || `${answer.status} ${answer.statusText}`);
  return body;
}

function sentence(problem: unknown): string {
  if (problem === null || typeof problem !== "object") return "";
  const { detail, next_step: next, who } = problem as Record<string, unknown>;
  return [detail, who && `Who can change it: ${who}.`, next && `Next: ${next}.`].filter(Boolean).join(" ");
}
