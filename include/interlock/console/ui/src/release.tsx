// The tab Release: the release, the rollback or the train at a glance, while it runs again and again.
import { ENDED, isOpen, PARKED, peopleOf, Task } from "./airflow";
import { base, Schemas } from "./client";
import { DeliveryTag, RecordThere, RETRY } from "./deliveries";
import { Box, Heading, React, Spinner, Text, useMemo, useState } from "./host";
import { Banner, Fault, To, useEvery, when } from "./parts";
import { brief, Decisions, Facts, failure, filesOf, ForReader, Foreseen, Found, InForce, isTrain, Progress, reader, Records, short, Stages, Story, titleOf, Unread, Waits } from "./run";
import { At, Code, Defects, Isolated, Lines, Names, pageOf, Pill, plural, Quiet, Run, Section, Sheet, sizeOf, Table, ZoneOfTimes } from "./sheet";
import { Train } from "./train";
import { CLERK, REVIEWED, STAGES } from "./vocabulary";

type Environment = Schemas["EnvironmentProgress"];
type Step = Schemas["StepProgress"];

const EVERY = 5_000;
const ONCE = 3_600_000; // what has ended changes no more, but for what is found later
const TITLES: Record<string, string> = Object.fromEntries(STAGES);
const SUITES: Record<string, string> = { ...REVIEWED, smoke: "Smoke requests", load: "Load, compared with before the release" };
const LIMITS: Record<string, "plan_approval" | "acceptance" | "acknowledgement"> = { planning: "plan_approval", acceptance: "acceptance", communication: "acknowledgement" };
const NONE: Progress = { environments: [], steps: [], defects: [], rehearsal: null };
const progressOf = (story: Story): Progress => (typeof story.progress === "string" ? NONE : story.progress);

/** The length of an ISO 8601 duration in seconds. */
function seconds(length: string | null | undefined): number | null {
  const found = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$/.exec(length ?? "");
  if (!found) return null;
  const [days = 0, hours = 0, minutes = 0, rest = 0] = found.slice(1).map((part) => Number(part ?? 0));
  return ((days * 24 + hours) * 60 + minutes) * 60 + rest;
}

function inWords(length: number | null): string {
  if (length === null || Number.isNaN(length)) return "";
  if (length < 90) return `${Math.round(length)} s`;
  if (length < 5400) return `${Math.round(length / 60)} min`;
  return length < 172_800 ? `${(length / 3600).toFixed(1)} h` : `${Math.round(length / 86_400)} days`;
}

const saysOf = ({ records: of }: Story): Record<string, string | false | undefined> => ({
  policy: of.policy ? `${of.policy.change_type} change; catalogue ${short(of.policy.digest)}` : "",
  planning: of.plan ? `${of.plan.previous_version ?? "nothing"} → ${of.plan.version}, ${plural(of.plan.commit_count, "commit")}, risk ${of.plan.risk.score}` : "",
  design: of.assets
    ? [
        ...Object.entries(of.assets.hosts).map(([name, hosts]) => `${name}: ${plural(hosts.length, "host")}`),
        ...(of.assets.lacking ?? []).map((sentence) => `in production: ${sentence}`),
      ].join(", ")
    : "",
  build: of.artifact ? `${of.artifact.tool}, ${of.artifact.seconds.toFixed(1)} s, sha256 ${short(of.artifact.bundle.sha256)}` : "",
  quality: of.quality ? (of.quality.success ? `${plural(of.quality.suites.length, "suite")} passed` : `${plural(of.quality.failures.length, "expectation")} failed`) : "",
  acceptance: of.acceptance?.reason,
  rollout: of.board?.reason ?? (of.rollout ? `frozen: ${plural(of.rollout.waves.length, "wave")}` : ""),
  communication: of.communication ? `${plural(Object.keys(of.communication.sent).length, "audience")} notified` : "",
  implementation: of.waves[0] ? `${of.waves.length} of ${plural(of.rollout?.waves.length ?? of.waves[0].of, "wave")}` : "",
  verification: of.back_out ? `backed out${of.back_out.verified ? ", verified" : ", NOT verified"}` : of.verification?.success ? "verification passed" : "",
  closure: of.outcome ? `recorded as ${of.outcome.outcome.replaceAll("_", " ")}` : "",
});

/** Until when a question can be answered: a board's by the plan, others' by the time limits of the policy in force. */
function deadline(task: string, created: string, records: Records, { environments, steps }: Progress): string | number | null | undefined {
  const [stage = "", name = ""] = task.split(".");
  if (stage === "rollout") return records.rollout?.decide_by;
  if (stage === "quality") return environments.find((one) => one.environment === name)?.approval?.until;
  const step = /^ask_(?:back_)?step_(\d+)$/.exec(name);
  if (step) return steps.find((one) => one.number === Number(step[1]))?.runs.find((one) => one.until)?.until;
  const limit = LIMITS[stage] ? seconds(records.policy?.time_limits[LIMITS[stage]]) : null;
  return limit === null ? null : Date.parse(created) + limit * 1000;
}

/** Who is waited for, how many have answered, and until when silence approves nothing. */
function Waiting({ story }: { story: Story }) {
  const open = story.questions.filter(isOpen);
  const tasks = [...new Set(open.map((one) => one.task_instance.task_id))];
  return (
    <>
      {tasks.map((task) => {
        const ours = story.questions.filter((one) => one.task_instance.task_id === task);
        const left = open.filter((one) => one.task_instance.task_id === task);
        const until = deadline(task, left[0]?.created_at ?? "", story.records, progressOf(story));
        const title = left[0]?.task_instance.task_display_name;
        const answered = ours.length > 1 ? ` (${ours.length - left.length} of ${ours.length} answered)` : "";
        const what = title && title !== task ? `: ${title}` : "";
        return <Waits key={task}>{`Waiting for ${peopleOf(left)}${answered}${until ? `, until ${when(new Date(until).toISOString())}` : ""}${what}.`}</Waits>;
      })}
    </>
  );
}

const SAID_ELSEWHERE = new Set<string>(["answer", "end_ahead"]);

/** Why it stands still, and what moves it, if that is more than answers and what is ahead in the queue. */
function Standstill({ story }: { story: Story }) {
  const { explanation, names } = story;
  const still = explanation && ["waits", "stuck"].includes(explanation.state) && explanation.acts.some((act) => !SAID_ELSEWHERE.has(act.kind));
  if (!explanation || !still) return <Waiting story={story} />;
  const by = (act: Schemas["Act"]) => (act.by.length ? ` (${act.by.map((user) => names[user] ?? user).join(", ")})` : "");
  return (
    <Box bg="bg.subtle" borderColor={explanation.state === "stuck" ? "red.solid" : "orange.solid"} borderLeftWidth={4} mb={2} overflowWrap="anywhere" px={4} py={2} rounded="sm">
      <Text><b>{"Why it does not move: "}</b>{explanation.why}</Text>
      <Lines of={explanation.acts.map((act) => `${act.what}${by(act)}${act.until ? `, until ${when(act.until)}` : ""}`)} />
      {explanation.earliest ? <Text>{`It moves by itself at ${when(explanation.earliest)} at the earliest.`}</Text> : null}
    </Box>
  );
}

/** What a permit would object to, asked early. */
function Refusals({ of }: { of: readonly Schemas["Refusal"][] }) {
  if (!of.length) return null;
  const said = of.map(({ at, what, who, next_step: next }) => `${at ? `At its start, ${when(at)}: ` : ""}${what} Who can change it: ${who}. Next: ${next}.`);
  return (
    <Box as="details" bg="bg.subtle" borderColor="orange.solid" borderLeftWidth={4} mb={2} px={4} py={2} rounded="sm">
      <summary>{`What would refuse a wave: ${of.length}`}</summary>
      <Lines of={said} />
    </Box>
  );
}

/** Behind what a queued release waits, for whom that waits, and who can end that. */
function Queued({ story }: { story: Story }) {
  if (!story.ahead) return null;
  const { run, questions, overtaken } = story.ahead;
  const requester = run.triggering_user_name ?? "unknown";
  const people = peopleOf(questions.filter(isOpen));
  return (
    <Waits>
      {"In the queue behind "}
      <To path={pageOf({ ...story.place, runId: run.dag_run_id })}>{run.conf?.version || run.dag_run_id}</To>
      {`, requested by ${story.names[requester] ?? requester}`}
      {overtaken ? ". It was overtaken and is about to end." : (
        <>{`${people ? `, which waits for ${people}` : ""}. Its requester or a release manager can `}<To path="/dags/withdraw_release">withdraw it</To>.</>
      )}
    </Waits>
  );
}

function Top({ story }: { story: Story }) {
  const { run, records, findings } = story;
  const { plan, rollout, outcome } = records;
  const ended = ENDED.has(run.state);
  const state = outcome?.outcome ?? run.state;
  const reason = outcome ? `Decided in ${TITLES[outcome.stage] ?? outcome.stage}: ${outcome.reason}` : failure(story);
  const { overtaken, unsaid } = typeof findings === "string" ? { overtaken: [], unsaid: [] } : findings;
  return (
    <>
      <Heading alignItems="center" as="h1" display="flex" flexWrap="wrap" gap={2} mb={1} size="lg">
        <span>{`${titleOf(story)} ${plan?.version ?? rollout?.version ?? run.conf?.version ?? ""}`}</span>
        {" "}
        <Pill state={state} />
      </Heading>
      <Text mb={2}>{plan?.summary ?? run.conf?.summary ?? ""}</Text>
      {reason ? <Banner color={["deployed", "rehearsed"].includes(state) ? "green.solid" : "red.solid"}>{reason}</Banner> : null}
      <Found effect=" A release with a finding gets no permit." story={story} />
      <Unread story={story} />
      <InForce story={story} />
      {ended ? null : overtaken.map((what) => <Waits key={what}>{what}</Waits>)}
      {unsaid.map((what) => <Quiet key={what} mb={2}><Isolated>{what}</Isolated></Quiet>)}
      <Queued story={story} />
      <Standstill story={story} />
      <Refusals of={story.explanation?.refusals ?? []} />
      <Foreseen story={story} />
      <ForReader story={story} />
    </>
  );
}

/** Tickets, whose text other people wrote; only addresses of the web are links. */
function Tickets({ plan }: { plan: Schemas["ReleasePlan"] }) {
  if (!plan.ticket_details?.length) return <>{plan.tickets.join(", ")}</>;
  return (
    <>
      {plan.ticket_details.map(({ key, found, title, status, link, why }) => (
        <div key={key}>
          {/^https?:\/\//.test(link) ? <a href={link} rel="noreferrer" style={{ textDecoration: "underline" }}>{key}</a> : key}
          {found === "read" ? <>{": "}<Isolated>{title}</Isolated>{` (${status})`}</> : `: not read, ${why}`}
        </div>
      ))}
    </>
  );
}

function Glance({ story }: { story: Story }) {
  const { policy, plan, artifact, rollout, board } = story.records;
  const requester = plan?.requested_by ?? story.run.triggering_user_name ?? "";
  return (
    <Facts
      of={[
        ["Commit", plan ? <><Code text={short(plan.commit.sha)} />{` ${plan.commit.subject}`}</> : null],
        ["Ref", plan ? <Code text={plan.ref} /> : null],
        ["Change type", plan?.change_type],
        ["Requested by", story.names[requester] ?? requester],
        ["Target", plan ? `${plan.target}${plan.rehearsal ? " (rehearsal)" : ""}` : null],
        ["Tickets", plan && (plan.tickets.length || plan.ticket_details?.length) ? <Tickets plan={plan} /> : null],
        ["Not before", plan?.not_before ? when(plan.not_before) : null],
        ["Risk", plan ? `${plan.risk.score} of 100` : null],
        ["Artifact", artifact ? <>{`${artifact.version}, sha256 `}<Code text={artifact.bundle.sha256} /></> : null],
        ["Catalogue", policy ? <Code text={policy.digest} /> : null],
        [board?.required ? "Plan voted on" : "Rollout plan", board ? <Code text={board.digest} /> : null],
        ["Decide by", rollout?.decide_by ? when(rollout.decide_by) : null],
      ]}
    />
  );
}

function Changes({ plan }: { plan: Schemas["ReleasePlan"] | null }) {
  if (!plan) return null;
  const rows = plan.commits.slice(0, 20).map((commit) => [<Code text={short(commit.sha)} />, <Isolated>{commit.subject}</Isolated>, commit.author]);
  const more = plan.commit_count - rows.length;
  return (
    <Section title={plan.previous_version ? `Changes since ${plan.previous_version}` : "Changes"}>
      <Table empty="No commits since then." heads={["Commit", "Subject", "Author"]} rows={rows} />
      {more > 0 ? <Quiet>{`… and ${plural(more, "more commit")}.`}</Quiet> : null}
    </Section>
  );
}

function Risk({ plan }: { plan: Schemas["ReleasePlan"] | null }) {
  if (!plan) return null;
  const rows = plan.risk.terms.map((term) => [term.name, String(term.points), term.why]);
  return <Section title={`Risk ${plan.risk.score} of 100`}><Table empty="No risk factor applies." heads={["Factor", "Points", "Reason"]} rows={rows} /></Section>;
}

type Failure = Schemas["FailedExpectation"] & { environment?: string };
const suiteOf = ({ suite, environment }: { suite: string; environment?: string | null }): string =>
  `${SUITES[suite] ?? suite}${environment ? `, in ${environment}` : ""}`;

function Quality({ story }: { story: Story }) {
  const { quality: report, verification, rollout } = story.records;
  if (!report && !verification) return null;
  const later = progressOf(story).environments.filter((one) => one.after.length);
  const between: Failure[] = later.flatMap((one) => one.failures.map((failed) => ({ ...failed, environment: one.environment })));
  const suites = (report?.suites ?? []).map((suite) => [
    SUITES[suite.suite] ?? suite.suite,
    <Pill state={suite.success ? "passed" : "failed"} />,
    `${suite.evaluated - suite.failed} of ${suite.evaluated}`,
  ]);
  const broken: Failure[] = [...(report?.failures ?? []), ...between, ...(verification?.failures ?? [])];
  const waivers = [...(rollout?.waivers ?? []), ...(rollout?.environments ?? []).flatMap((one) => one.waivers)];
  return (
    <Section title="Quality">
      <Table heads={[later.length ? "Suite, on test" : "Suite", "Result", "Expectations met"]} rows={suites} />
      {broken.length ? (
        <Table
          heads={["Suite", "Expected", "Broken by", "Rows"]}
          rows={broken.map((one) => [suiteOf(one), one.expected, one.rows.length ? <Lines of={one.rows} /> : "the table as a whole", String(one.row_count || "")])}
        />
      ) : null}
      {waivers.length ? (
        <>
          <Heading as="h3" mb={1} mt={4} size="sm">Waivers (the expectations still count as failed)</Heading>
          <Table
            heads={["Expected", "By", "Until", "Reason"]}
            rows={waivers.map((one) => [`${suiteOf(one)}: ${one.expectation}`, story.names[one.by] ?? one.by, when(one.until), one.reason])}
          />
        </>
      ) : null}
      <Text mt={2}><To path={`${pageOf(story.place)}/plugin/quality-report`}>Quality report with all rows</To></Text>
    </Section>
  );
}

function Hosts({ story }: { story: Story }) {
  const { rollout, waves, back_out: backOut, outcome } = story.records;
  if (!rollout) return null;
  const untouched = ENDED.has(story.run.state) ? "not changed" : "pending";
  const deployed = new Map(waves.flatMap((wave) => wave.results).map((result) => [result.host, result]));
  const taken = new Map((backOut?.results ?? []).map((result) => [result.host, result]));
  const rows = rollout.waves.flatMap((wave, index) =>
    wave.map((host) => {
      const first = deployed.get(host.address) ?? deployed.get(host.name);
      const last = taken.get(host.address) ?? taken.get(host.name) ?? first;
      return [
        String(index + 1),
        host.name,
        host.address,
        <Code text={first?.before ?? rollout.back_out.releases[host.address]} />,
        <Code text={last?.after} />,
        <Pill state={last ? last.outcome : untouched} />,
        outcome?.running[host.address] ?? outcome?.running[host.name] ?? "",
        last?.error ?? "",
      ];
    }),
  );
  const heads = ["Wave", "Host", "Address", "Before", "After", "Outcome", "Current version", "Error"];
  return <Section title={`Hosts of ${rollout.environment}`}><Table heads={heads} rows={rows} /></Section>;
}

const STATES: Record<Environment["state"], [string, string]> = {
  pending: ["not reached", ""],
  left_out: ["left out", "skipped"],
  deployed: ["deployed, under test", "running"],
  judged: ["tested", "passed"],
  not_met: ["quality not met", "failed"],
  soaking: ["soaking", "waiting"],
  asked: ["waiting for sign-off", "waiting"],
  rejected: ["rejected", "rejected"],
  passed: ["passed", "passed"],
  backed_out: ["backed out", "backed out"],
};
const SETTLED = new Set(["left_out", "rejected", "passed", "backed_out"]);

function tasksIn(environment: string, tasks: readonly Task[], last: boolean): Task[] {
  if (last) return tasks.filter(({ task_id: id }) => id.startsWith("implementation.") || id.startsWith("verification."));
  if (environment === "test") return tasks.filter(({ task_id: id }) => id.startsWith("quality.") && id.split(".").length === 2);
  return tasks.filter(({ task_id: id }) => id.startsWith(`quality.${environment}.`));
}

/** The ledger says how far an environment is passed; Airflow, what runs, waits or has failed there now. */
function stateIn(one: Environment, own: readonly Task[], last: boolean, { run, reasons, waits }: Story): React.ReactNode {
  const ended = ENDED.has(run.state);
  const failed = SETTLED.has(one.state) ? undefined : own.find((task) => task.state === "failed");
  if (failed) return <><Pill state="failed" /><Quiet>{brief(reasons[failed.task_id])}</Quiet></>;
  const waiting = own.find((task) => PARKED.has(task.state) && waits[task.task_id]);
  const why = one.left_out || (waiting ? `waits: ${waits[waiting.task_id]}` : "");
  const because = why ? <Quiet>{why}</Quiet> : null;
  if (one.state === "pending") {
    const runs = own.some((task) => task.state && !ENDED.has(task.state));
    return ended ? <Pill state="not reached" /> : <><Pill state={runs ? "running" : "pending"} />{because}</>;
  }
  const [title, kind] = STATES[one.state];
  if (ended && !SETTLED.has(one.state) && one.state !== "judged") return <Pill kind="failed" state={title} />;
  if (last && one.state === "deployed") return <><Pill kind="running" state="deploying" />{because}</>;
  if (last && one.state === "asked") return <><Pill kind="waiting" state="waiting for the board" />{because}</>;
  return <><Pill kind={kind} state={title} />{because}</>;
}

const hostsIn = ({ hosts, deployed_at: begun }: Environment): React.ReactNode =>
  hosts ? (
    <>
      {`${hosts.done} of ${plural(hosts.of, "host")}`}
      {hosts.failed.length ? <Quiet>{`failed: ${hosts.failed.join(", ")}`}</Quiet> : null}
      {begun ? <At instant={begun} /> : null}
    </>
  ) : null;

const suitesIn = ({ suites }: Environment): React.ReactNode =>
  suites ? (
    <>
      {`${suites.passed} of ${suites.of} passed`}
      {suites.failed.length ? <Quiet>{`failed: ${suites.failed.join(", ")}`}</Quiet> : null}
      {suites.waived ? <Quiet>{`${plural(suites.waived, "failure")} waived`}</Quiet> : null}
    </>
  ) : null;

function casesIn({ cases }: Environment): React.ReactNode {
  if (!cases) return null;
  if (!cases.demanded) return "none had to be run";
  const results = Object.entries(cases.results).map(([result, number]) => `${number} ${result.replaceAll("_", " ")}`);
  return <>{`${cases.run} of ${cases.demanded} run`}{results.length ? <Quiet>{results.join(", ")}</Quiet> : null}</>;
}

function soakIn({ soak }: Environment): React.ReactNode {
  if (!soak) return null;
  if (!soak.over) return `until ${when(soak.until)}`;
  return <>{inWords((Date.parse(soak.until) - Date.parse(soak.since)) / 1000)}<Quiet>{`ended ${when(soak.until)}`}</Quiet></>;
}

function approvalIn({ approval, state }: Environment, names: Names): React.ReactNode {
  if (!approval) return null;
  const called = (user: string) => names[user] ?? user;
  if (approval.approved === null) {
    const needed = approval.quorum ? ` (${approval.quorum} of ${approval.people.length} needed)` : "";
    const people = approval.people.map(called).join(", ");
    return (
      <>
        {approval.title}
        {people ? <Quiet>{`${people}${needed}`}</Quiet> : null}
        {approval.until && state === "asked" ? <Quiet>{`until ${when(approval.until)}`}</Quiet> : null}
      </>
    );
  }
  const votes = approval.votes.filter((vote) => vote.user && vote.user !== CLERK);
  const verdict = !approval.required ? "not asked" : approval.approved ? "approved" : "rejected";
  return (
    <>
      {`${approval.title}: `}
      <Pill state={verdict} />
      <Quiet>{votes.length ? <Lines of={votes.map((vote) => `${called(vote.user ?? "")}: ${vote.choice}${vote.at ? `, ${when(vote.at)}` : ""}`)} /> : approval.reason}</Quiet>
    </>
  );
}

function Environments({ story }: { story: Story }) {
  if (typeof story.progress === "string") {
    return <Section title="Environments"><Fault>{`How far the release has come is not known: ${story.progress}`}</Fault></Section>;
  }
  const { environments } = story.progress;
  if (!environments.length) return null;
  const report = `${pageOf(story.place)}/plugin/quality-report`;
  const rows = environments.map((one, index) => {
    const last = index === environments.length - 1 && one.environment !== "test";
    const order = [one.after.length ? `after ${one.after.join(" and ")}` : "", one.beside.length ? `side by side with ${one.beside.join(" and ")}` : ""];
    return [
      <><strong>{one.environment}</strong>{order.filter(Boolean).map((text) => <Quiet key={text}>{text}</Quiet>)}</>,
      stateIn(one, tasksIn(one.environment, story.tasks, last), last, story),
      hostsIn(one),
      suitesIn(one),
      casesIn(one),
      soakIn(one),
      approvalIn(one, story.names),
      one.report ? <To path={report}><Code text={short(one.report)} whole={one.report} /></To> : null,
    ];
  });
  const heads = ["Environment", "State", "Deployed", "Suites", "Test cases", "Soak", "Sign-off", "Report"];
  const used = heads.map((_, column) => column < 3 || rows.some((row) => row[column] !== null));
  const kept = <T,>(cells: readonly T[]): T[] => cells.filter((_, column) => used[column]);
  return <Section title="Environments"><Table heads={kept(heads)} rows={rows.map(kept)} /></Section>;
}

function stepRow(step: Step, direction: "forward" | "back", { run, names }: Story): React.ReactNode[] {
  const ended = ENDED.has(run.state);
  const back = direction === "back";
  const done = step.runs.find((one) => one.direction === direction);
  const end = done?.ended_at ? Date.parse(done.ended_at) : ended ? null : Date.now();
  const length = done?.began_at && end !== null ? (end - Date.parse(done.began_at)) / 1000 : null;
  const by = done?.by ? `${names[done.by] ?? done.by}: ` : "";
  const state = done ? done.outcome : step.left_out ? "left out" : ended ? "not reached" : "pending";
  return [
    <>
      <strong>{`${back ? "Take back: " : `${step.number}. `}${step.title}`}</strong>
      <Quiet>{back ? "during the back-out" : step.when}</Quiet>
      {!back && step.needs.length ? <Quiet>{`needs: ${step.needs.join(", ")}`}</Quiet> : null}
    </>,
    back ? step.way_back : step.does,
    <><Pill state={state} />{done?.until ? <Quiet>{`until ${when(done.until)}`}</Quiet> : null}</>,
    inWords(seconds(step.estimate)),
    inWords(length),
    back ? "" : step.irreversible ? <Pill kind="irreversible" state="cannot be taken back" /> : step.left_out ? "" : step.way_back,
    done ? `${by}${done.reason || done.evidence}` : step.left_out,
  ];
}

/** The steps around the waves, planned against actual, in the order in which they were done, and taken back. */
function Runbook({ story }: { story: Story }) {
  const { steps } = progressOf(story);
  if (!steps.length) return null;
  const taken = steps.filter((step) => step.runs.some((one) => one.direction === "back")).reverse();
  const rows = [...steps.map((step) => stepRow(step, "forward", story)), ...taken.map((step) => stepRow(step, "back", story))];
  const heads = ["Step", "What is done", "Outcome", "Planned", "Took", "Way back", "Evidence or reason"];
  return <Section title="Steps around the waves"><Table heads={heads} rows={rows} /></Section>;
}

/** The database changes of the release, as they went on a restored copy before people were asked. */
function Rehearsal({ of: done }: { of: Progress["rehearsal"] }) {
  if (!done) return null;
  const count = (number: number, one: string, many: string) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
  const ran = done.before.map((one) => `${one.version}: ${count(one.smoked, "smoke request", "smoke requests")} and ${count(one.tests, "test", "tests")} passed`);
  const changed = [...done.notes, ...done.gone.map((table) => `the table ${table} was taken away`)];
  const row = [
    <><Pill kind="passed" state="rehearsed" /><Quiet>{when(done.at)}</Quiet></>,
    <>
      {done.databases.join(", ") || "no tables"}
      <Quiet>{`${count(done.tables, "table", "tables")} with ${count(done.rows, "row", "rows")}; on ${done.environment}`}</Quiet>
    </>,
    <Quiet>{ran.length ? <Lines of={ran} /> : "production runs nothing yet"}</Quiet>,
    <Quiet>{changed.length ? <Lines of={changed} /> : "they only add"}</Quiet>,
    inWords(seconds(done.took)),
  ];
  const heads = ["Result", "Restored copy", "Version before, on the schema after", "What changed", "Took"];
  return <Section title="Database changes"><Table heads={heads} rows={[row]} /></Section>;
}

function People({ story }: { story: Story }) {
  const { communication } = story.records;
  if (!communication) return null;
  const told = Object.entries(communication.sent).map(([name, addresses]) => [name, addresses.join(", ")]);
  const trained = Object.entries(communication.acknowledged).map(([role, user]) => [role, `acknowledged by ${story.names[user] ?? user}`]);
  return <Section title="Notifications"><Table empty="No notifications were needed." heads={["Audience or role", "Recipients"]} rows={[...told, ...trained]} /></Section>;
}

function Documents({ story }: { story: Story }) {
  const { files } = story;
  if (typeof files === "string") return <Section title="Documents"><Fault>{`The documents cannot be loaded: ${files}`}</Fault></Section>;
  if (files.notes === null && !files.evidence) return null;
  return (
    <Section title="Documents">
      {files.notes !== null ? (
        <details>
          <summary>Release notes</summary>
          <Box as="pre" bg="bg.subtle" fontFamily="mono" my={2} overflowWrap="anywhere" px={4} py={2} whiteSpace="pre-wrap">{files.notes}</Box>
        </details>
      ) : null}
      {files.evidence ? (
        <Text mt={1}>
          <a download="" href={`${base}${filesOf(story.place)}/evidence`} style={{ textDecoration: "underline" }}>Download the evidence pack</a>
          {` (${sizeOf(files.evidence.size)}, sha256 `}
          <Code text={files.evidence.sha256} />
          {"): the signed evidence of this release. docs/evidence.md describes how to verify it offline."}
        </Text>
      ) : null}
    </Section>
  );
}

function Conflicts({ findings }: Story) {
  if (typeof findings === "string" || !findings.conflicts.length) return null;
  return <Section title="Conflicts"><Lines of={findings.conflicts.map((what) => <Isolated key={what}>{what}</Isolated>)} /></Section>;
}

/** What other systems were told of the release; nothing is shown where there is none. */
function Elsewhere({ elsewhere }: Story) {
  if (typeof elsewhere === "string") return <Fault>{`What other systems were told is not known: ${elsewhere}`}</Fault>;
  if (!elsewhere.length) return null;
  const rows = elsewhere.map((row) => [
    row.system,
    <RecordThere key="record" row={row} />,
    <DeliveryTag key="state" row={row} />,
    <React.Fragment key="reason">
      <Isolated>{row.reason}</Isolated>
      {row.state === "refused" ? <>{" "}<To path={RETRY}>Try again, once that is corrected</To></> : null}
    </React.Fragment>,
  ]);
  return <Section title="Records in other systems"><Table heads={["System", "Record", "State", "Reason"]} rows={rows} /></Section>;
}

function OfRelease({ story }: { story: Story }) {
  const { plan } = story.records;
  const says = saysOf(story);
  const there = new Set(story.tasks.map((task) => task.task_id.split(".")[0])); // a rollback does not have all of them
  const stages = STAGES.map(([id, title], index) => [id, id === "closure" ? title : `${index + 1} ${title}`, says[id] || ""] as [string, string, string]);
  return (
    <>
      <Top story={story} />
      <Glance story={story} />
      <Stages both="verification" closed={story.records.outcome ? "closure" : ""} stages={stages.filter(([id]) => there.has(id))} story={story} />
      <Environments story={story} />
      <Rehearsal of={progressOf(story).rehearsal} />
      <Runbook story={story} />
      <Decisions story={story} />
      <Conflicts {...story} />
      <Elsewhere {...story} />
      <Changes plan={plan} />
      <Risk plan={plan} />
      <Quality story={story} />
      <Defects found={progressOf(story).defects} />
      <Hosts story={story} />
      <People story={story} />
      <Documents story={story} />
    </>
  );
}

export function Release(place: Run) {
  const [story, show] = useState<Story | null>(null);
  const [fault, fail] = useState("");
  const read = useMemo(() => reader({ dagId: place.dagId, runId: place.runId }), [place.dagId, place.runId]);
  const current = story && story.place.dagId === place.dagId && story.place.runId === place.runId ? story : null;
  useEvery(
    current && ENDED.has(current.run.state) ? ONCE : EVERY,
    () => {
      read().then((found) => { fail(""); show(found); }, (error: Error) => fail(error.message));
    },
    [read, current ? ENDED.has(current.run.state) : false],
  );
  return (
    <Sheet name="release">
      {fault ? <Fault>{`The release cannot be loaded: ${fault}`}</Fault> : null}
      {!current && !fault ? <Spinner /> : null}
      {current ? <>{isTrain(current.place) ? <Train story={current} /> : <OfRelease story={current} />}<ZoneOfTimes /></> : null}
    </Sheet>
  );
}
