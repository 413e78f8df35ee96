// What the page of a run reads, and the parts that those of releases and of trains share.
import { AirflowRun, Asked, ENDED, inOrder, isOpen, PARKED, peopleAsked, peopleOf, questionPage, readAsked, readRun, readTasks, readUnderWay, stateOf, Task, took } from "./airflow";
import { get, getText, Schemas } from "./client";
import { Heading, React } from "./host";
import { inGroups, requiredActions } from "./needs";
import { Banner, Fault, inForce, To, when } from "./parts";
import { Code, Isolated, Names, pageOf, Pill, placeOf, readNames, Run, Section, Table } from "./sheet";
import { CLERK, DECISIONS, RELEASES, ROLLBACKS, TRAINS } from "./vocabulary";

export type Records = Schemas["Records"];
export type Progress = Schemas["Progress"];
type Findings = Schemas["Findings"];
type Question = Schemas["Question"];

interface Files {
  notes: string | null;
  evidence: Schemas["FileLeft"] | null;
}

/** What is ahead of a queued release. */
export interface AheadOf {
  run: AirflowRun;
  questions: readonly Asked[];
  overtaken: boolean;
}

/** All that is shown of a run; a text instead of something says why it is not known. */
export interface Story {
  place: Run;
  run: AirflowRun;
  tasks: readonly Task[];
  questions: readonly Asked[];
  own: readonly Question[];
  records: Records;
  reasons: Record<string, string>;
  waits: Record<string, string>;
  unread: Record<string, string>;
  names: Names;
  banners: readonly string[];
  findings: Findings | string;
  /** What other systems were told of it; or why that is not known. */
  elsewhere: readonly Schemas["DeliveryRow"][] | string;
  progress: Progress | string;
  explanation: Schemas["Explanation"] | null;
  forecast: Schemas["Expected"] | null;
  files: Files | string;
  ahead: AheadOf | null;
}

const NOTHING: Progress = { environments: [], steps: [], defects: [], rehearsal: null };
const NO_FILES: Files = { notes: null, evidence: null };
const LEAVES_FILES = new Set(["communication.write_notes", "communication.write_rollback_notes", "closure.pack_evidence"]);
const said = (error: Error): string => error.message;

export const isTrain = ({ dagId }: Run): boolean => dagId.startsWith(TRAINS);
const ofRun = <N extends "explanation" | "files" | "findings" | "progress" | "records">(name: N, place: Run) =>
  get(`/dags/{dag_id}/dagRuns/{dag_run_id}/${name}`, {} as never, placeOf(place)); // they take no more than the run

/** Return what reads a run, again and again; what cannot change, or only with a task, is read once. */
export function reader(place: Run): () => Promise<Story> {
  const kept = new Map<string, Promise<Files | string>>();
  const names = readNames();
  let foreseen = { at: 0, said: null as Schemas["Expected"] | null };

  /** Look ahead once a minute: it takes longer than the rest, and changes slowly. */
  async function forecast(): Promise<Schemas["Expected"] | null> {
    if (Date.now() - foreseen.at > 60_000) {
      foreseen = { at: Date.now(), said: await get("/forecast", { dag_id: place.dagId, run_id: place.runId }).catch(() => null) };
    }
    return foreseen.said;
  }

  /** What lies in the artifact store by the ledger: read again when one of the tasks that put it there has ended. */
  function files(tasks: readonly Task[]): Promise<Files | string> {
    const ends = tasks.filter((task) => LEAVES_FILES.has(task.task_id) && task.state === "success").map((task) => task.end_date);
    if (!ends.length) return Promise.resolve(NO_FILES);
    const found = kept.get(ends.join()) ?? readFiles(place);
    kept.set(ends.join(), found);
    void found.then((one) => typeof one === "string" && kept.delete(ends.join()));
    return found;
  }

  return async () => {
    if (![RELEASES, ROLLBACKS, TRAINS].some((prefix) => place.dagId.startsWith(prefix))) {
      throw new Error(`${place.dagId} is not a release, a rollback or a train.`);
    }
    const [run, tasks, questions, left, banners, findings, progress, explanation, elsewhere] = await Promise.all([
      readRun(place),
      readTasks(place),
      readAsked(place),
      ofRun("records", place),
      inForce(place.dagId),
      ofRun("findings", place).catch(said),
      isTrain(place) ? NOTHING : ofRun("progress", place).catch(said),
      ofRun("explanation", place).catch(() => null), // who may not read all of it
      get("/deliveries", { dag_id: place.dagId, dag_run_id: place.runId, limit: 100 }).then((one) => one.deliveries, said),
    ]);
    const [own, ahead, documents, expected, called] = await Promise.all([
      questions.some(isOpen) ? get("/questions", { dag_id: place.dagId, run_id: place.runId, limit: 100 }).then((one) => one.questions) : [],
      run.state === "queued" ? readAhead(place) : null,
      files(tasks),
      explanation && !ENDED.has(run.state) ? forecast() : null,
      names,
    ]);
    const people = Object.fromEntries(questions.flatMap(peopleAsked).map((user) => [user.id, user.name]));
    return { place, run, tasks, questions, own, ...left, names: { ...people, ...called }, banners, findings, elsewhere, progress, explanation, forecast: expected, files: documents, ahead };
  };
}

async function readFiles(place: Run): Promise<Files | string> {
  try {
    const { notes, evidence } = await ofRun("files", place);
    return { notes: notes ? await getText(`${filesOf(place)}/notes`) : null, evidence };
  } catch (error) {
    return said(error as Error); // the rest of the page is worth showing
  }
}

export const filesOf = ({ dagId, runId }: Run): string => `interlock/files/${encodeURIComponent(dagId)}/${encodeURIComponent(runId)}`;

async function readAhead({ dagId }: Run): Promise<AheadOf | null> {
  const run = await readUnderWay(dagId);
  if (!run) return null;
  const place = { dagId, runId: run.dag_run_id };
  const [questions, overtaken] = await Promise.all([readAsked(place), ofRun("findings", place).then((one) => one.overtaken.length > 0, () => false)]);
  return { run, questions, overtaken };
}

export const short = (digest: string | null | undefined): string => (digest ? digest.slice(0, 12) : "—");
export const brief = (reason: string | undefined): string => (reason && reason.length > 240 ? `${reason.slice(0, 239)}…` : (reason ?? "")); // the whole is at the top

export const Waits = ({ children }: { children: React.ReactNode }) => <Banner color="orange.solid">{children}</Banner>;

export const failure = ({ tasks, reasons }: Story): string =>
  tasks.filter((task) => task.state === "failed").map((task) => reasons[task.task_id]).find(Boolean) ?? "";

export function Found({ story, effect = "" }: { story: Story; effect?: string }) {
  const { findings } = story;
  if (typeof findings === "string") return <Fault>{`Whether there are findings is not known: ${findings}`}</Fault>;
  const said = [...findings.findings.map((what) => [what, effect] as const), ...findings.missing.map((what) => [what, ""] as const)];
  return <>{said.map(([what, then]) => <Fault key={what}>{"Finding: "}<Isolated>{what}</Isolated>{then}</Fault>)}</>;
}

/** What this version of the pages does not know of what tasks left. */
export const Unread = ({ story }: { story: Story }) => (
  <>{Object.entries(story.unread).map(([task, why]) => <Fault key={task}>{`The result of ${task} is not shown: `}<Isolated>{why}</Isolated>.</Fault>)}</>
);

export const InForce = ({ story }: { story: Story }) =>
  ENDED.has(story.run.state) ? null : <>{story.banners.map((what) => <Fault key={what}>{what}</Fault>)}</>;

/** The questions for the reader. */
export function ForReader({ story }: { story: Story }) {
  const line = (text: string, path: string) => <Waits key={path + text}>{"For you: "}<To path={path}>{text}</To></Waits>;
  return (
    <>
      {inGroups(story.own).flatMap(({ shown, more }) => [
        ...shown.map((one) => line(one.subject, `/${one.path}`)),
        ...(more && shown[0] ? [line(`${more} more questions like these`, requiredActions(shown[0]))] : []),
      ])}
    </>
  );
}

/** When it will be through: in half of the cases, and in nine of ten. */
export function Foreseen({ story }: { story: Story }) {
  const found = story.forecast?.forecast;
  if (!found) return null;
  if (!found.half || !found.nine_of_ten) return found.why ? <Banner color="gray.solid">{`Forecast: ${found.why}`}</Banner> : null;
  const next = found.steps.flatMap((one) => (one.waits_for.length ? [`${one.title} (${one.waits_for.map((user) => story.names[user] ?? user).join(", ")})`] : [one.title]));
  const path = next.length ? ` Still to come: ${next.join(", ")}.` : "";
  return (
    <Banner color="blue.solid">
      {`Forecast: through by ${when(found.half)} in half of the cases, by ${when(found.nine_of_ten)} in nine of ten, from ${found.based_on} earlier releases.${path}`}
    </Banner>
  );
}

export function Facts({ of }: { of: readonly [string, React.ReactNode][] }) {
  const known = of.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return <dl>{known.map(([name, value]) => <React.Fragment key={name}><dt>{name}</dt><dd>{value}</dd></React.Fragment>)}</dl>;
}

/** What a stage waits for, as its task says; nothing else of the stage runs then. */
export function waitsFor(tasks: readonly Task[], { waits, records }: Story): string {
  const parked = (name: string) => PARKED.has(tasks.find((task) => task.task_id === `implementation.${name}`)?.state ?? null);
  const start = records.plan?.not_before;
  if (parked("await_start")) return start ? `starts at ${when(start)} at the earliest` : "";
  if (parked("book_environment")) return "waits for the release that has booked the environment";
  const waiting = tasks.find((task) => task.state === "up_for_reschedule" && waits[task.task_id]);
  return waiting ? `waits: ${waits[waiting.task_id]}` : "";
}

interface StagesProps {
  story: Story;
  /** Id, title, and what to say if nothing of the stage failed or waits. */
  stages: readonly [string, string, string][];
  /** The stage whose task fails to say how the run ended, once it has said so. */
  closed: string;
  /** The stage that says both: what failed, and what came of it. */
  both?: string;
}

export function Stages({ story, stages, closed, both = "" }: StagesProps) {
  const rows = stages.map(([id, title, says]) => {
    const own = story.tasks.filter((task) => task.task_id.startsWith(`${id}.`));
    const failed = id === closed ? undefined : own.find((task) => task.state === "failed");
    const reason = failed ? brief(story.reasons[failed.task_id]) : "";
    const parked = waitsFor(own, story);
    const state = id === closed ? "done" : parked ? "waiting" : stateOf(own);
    const words = [parked, ...(id === both ? [reason, says] : [reason || says])];
    const name = own.length ? <To path={`${pageOf(story.place)}/tasks/group/${id}`}>{title}</To> : title;
    return [name, <Pill state={state} />, state === "not reached" ? "" : took(own), words.filter(Boolean).join(" — ")];
  });
  return <Section title="Stages"><Table heads={["Stage", "State", "Duration", "Result"]} rows={rows} /></Section>;
}

export function Decisions({ story }: { story: Story }) {
  const { run, questions, records, names } = story;
  const ended = ENDED.has(run.state);
  const rows = DECISIONS.flatMap(([title, name]) => {
    const decision = records[name];
    if (!decision) return [];
    const result = decision.required ? (decision.approved ? "approved" : decision.vetoed_by?.length ? "vetoed" : "rejected") : "not asked";
    return [[title, <Pill state={result} />, decision.reason, <Code text={short(decision.digest)} />]];
  });
  const vetoing = records.board?.vetoed_by ?? [];
  return (
    <Section title="Decisions">
      <Table empty={ended ? "No decisions were made." : "No decisions yet."} heads={["Decision on", "Result", "Reason", "Digest"]} rows={rows} />
      <Heading as="h3" mb={1} mt={4} size="sm">Questions and answers</Heading>
      <Table
        empty={ended ? "No questions were asked." : "No questions yet."}
        heads={["Assigned to", "Question", "Answer", "Answered by", "At", "Comment"]}
        rows={inOrder(questions).map((one) => answer(one, names, vetoing))}
      />
    </Section>
  );
}

function answer(one: Asked, names: Names, vetoing: readonly string[]): React.ReactNode[] {
  const task = one.task_instance;
  const ended = ENDED.has(task.state);
  const by = one.responded_by_user?.name;
  const closed = by === CLERK;
  const choice = one.chosen_options?.join(", ") ?? "";
  const vetoed = choice === "Reject" && task.task_id.endsWith(".cast_ballot") && by !== undefined && vetoing.includes(by);
  const open = ended ? (task.state === "success" ? "marked manually, no answer" : "no answer") : "waiting";
  const { comment = "", conditions = "" } = one.params_input ?? {};
  return [
    peopleAsked(one).map((user) => user.name).join(" or "),
    <To path={questionPage(task)}>{one.subject}</To>,
    one.response_received ? <Pill kind={vetoed ? "vetoed" : undefined} state={closed ? "closed" : vetoed ? "Reject (veto)" : choice} /> : <Pill state={open} />,
    closed ? comment || "closed" : by ? (names[by] ?? by) : one.response_received ? "no answer in time" : "",
    one.responded_at ? when(one.responded_at) : "",
    closed ? "" : <>{comment}{conditions ? <><br />{`Conditions: ${conditions}`}</> : null}</>,
  ];
}

/** How people call what a Dag releases. */
export const titleOf = ({ run, place: { dagId } }: Story): string =>
  run.dag_display_name && run.dag_display_name !== dagId
    ? run.dag_display_name.replace(/^Release /, "")
    : dagId.replace(new RegExp(`^(${RELEASES}|${ROLLBACKS})`), "").replaceAll("_", "-");

export { isOpen, peopleOf };
