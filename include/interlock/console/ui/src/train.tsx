// The tab Release of a train: who is on board, who is not, and how each arrived.
import { isOpen, peopleOf } from "./airflow";
import { Heading, React } from "./host";
import { Banner, To, when } from "./parts";
import { brief, Decisions, Facts, failure, ForReader, Foreseen, Found, InForce, Stages, Story, titleOf, Unread, Waits } from "./run";
import { Code, Lines, pageOf, Pill, plural, Section, Table, whenOr } from "./sheet";

const UNDER_WAY: Record<string, string> = { success: "deployed", upstream_failed: "not departed", deferred: "under way", up_for_reschedule: "waiting", running: "under way" };
const EMPTY = "departed without passengers";

/** How a train's run ended, in words and as a kind of pill; while it has no arrival, as Airflow has it. */
function journey({ run, records: { arrival } }: Story): [string, string] {
  if (!arrival) return [run.state, run.state];
  if (!arrival.departed) return ["did not depart", "failed"];
  const boarded = arrival.passengers.filter((one) => one.boarded);
  if (!boarded.length) return [EMPTY, "skipped"];
  return boarded.every((one) => one.outcome === "deployed") ? ["arrived", "deployed"] : ["some passengers did not arrive", "failed"];
}

function Top({ story }: { story: Story }) {
  const { manifest, arrival } = story.records;
  const [state, kind] = journey(story);
  const reason = kind === "failed" ? arrival?.reason || failure(story) : "";
  const people = peopleOf(story.questions.filter(isOpen));
  return (
    <>
      <Heading alignItems="center" as="h1" display="flex" flexWrap="wrap" gap={2} mb={2} size="lg">
        <span>{manifest?.title ?? titleOf(story)}</span>
        {" "}
        <Pill kind={kind} state={state} />
      </Heading>
      {reason ? <Banner color="red.solid">{reason}</Banner> : null}
      {state === EMPTY ? <Waits>No service was on board, so this train released nothing. The reasons are under “Not on board”.</Waits> : null}
      <Found story={story} />
      <Unread story={story} />
      <InForce story={story} />
      {people ? <Waits>{`Waiting for ${people}${manifest?.decide_by ? `, until ${when(manifest.decide_by)}` : ""}.`}</Waits> : null}
      <Foreseen story={story} />
      <ForReader story={story} />
    </>
  );
}

function Glance({ story }: { story: Story }) {
  const { opened, manifest, board } = story.records;
  const called = (user: string) => story.names[user] ?? user;
  return (
    <Facts
      of={[
        ["Departure", opened ? when(opened.departure) : null],
        ["Cut-off", opened ? whenOr(opened.cut_off) : null],
        ["Triggered by", opened ? (opened.asked_by ? called(opened.asked_by) : "the timetable") : null],
        ["Target", manifest?.environment],
        ["Change type", manifest?.change_type],
        ["Passengers chosen by", manifest ? manifest.requested_by.map(called).join(", ") || "the rules in the train's file" : null],
        ["Decide by", manifest?.decide_by ? when(manifest.decide_by) : null],
        ["Manifest voted on", board ? <Code text={board.digest} /> : null],
      ]}
    />
  );
}

function Passengers({ story }: { story: Story }) {
  const { manifest, arrival } = story.records;
  if (!manifest) return null;
  const came = new Map((arrival?.passengers ?? []).map((one) => [one.service, one]));
  const rows = manifest.passengers.map((one) => {
    const back = came.get(one.service);
    const task = story.tasks.find(({ task_id: id }) => id === `departure.send_${one.service.replaceAll("-", "_")}`);
    const run = back?.run ?? "";
    const place = { dagId: run.slice(0, run.indexOf("/")), runId: run.slice(run.indexOf("/") + 1) };
    return [
      one.service,
      one.version,
      <Pill state={back?.outcome ?? UNDER_WAY[task?.state ?? ""] ?? task?.state ?? "pending"} />,
      back ? back.reason : brief(task ? story.reasons[task.task_id] : ""),
      one.replaces ?? "nothing",
      one.after.join(", "),
      run ? <To path={pageOf(place)}>its release</To> : "",
    ];
  });
  const heads = ["Service", "Version", "Outcome", "Reason", "Replaces", "After", "Run"];
  return <Section title="Passengers"><Table empty="No service is on board." heads={heads} rows={rows} /></Section>;
}

export function Train({ story }: { story: Story }) {
  const { opened, manifest, board, arrival } = story.records;
  const left = manifest?.left ?? [];
  const boarding = manifest
    ? `${plural(manifest.passengers.length, "service")} on board, ${left.length} not on board`
    : opened ? `open until ${whenOr(opened.cut_off)}` : "";
  return (
    <>
      <Top story={story} />
      <Glance story={story} />
      <Stages
        closed={arrival ? "arrival" : ""}
        stages={[
          ["boarding", "1 Boarding", boarding],
          ["board", "2 One decision", board?.reason ?? ""],
          ["departure", "3 Departure", arrival?.reason ?? ""],
          ["arrival", "4 Arrival", arrival ? journey(story)[0] : ""],
        ]}
        story={story}
      />
      <Passengers story={story} />
      {left.length ? (
        <Section title="Not on board">
          <Table heads={["Service", "State", "Reason"]} rows={left.map((one) => [one.service, <Pill state={one.late ? "late" : "nothing new"} />, one.why])} />
        </Section>
      ) : null}
      {opened?.conflicts.length ? <Section title="Conflicts when boarding opened"><Lines of={opened.conflicts} /></Section> : null}
      <Decisions story={story} />
    </>
  );
}
