// The tab Test matrix: each ticket, its test cases, their results in each environment, and what nobody tested.
import { base, get, postFile, put, remove, Schemas } from "./client";
import { Box, Button, Heading, React, Spinner, Text, useState } from "./host";
import { Banner, Fault, To, useEvery, when } from "./parts";
import { At, Code, Defects, Isolated, Lines, Names, Pill, placeOf, plural, Quiet, readNames, Run, Section, Sheet, sizeOf, Table, ZoneOfTimes } from "./sheet";

type Row = Schemas["MatrixRow"];
type Attached = Schemas["Attachment"];
type Case = Schemas["OwnCase"];

const STATES: Record<Row["state"], [string, string]> = {
  passed: ["passed", "passed"],
  failed: ["failed", "failed"],
  blocked: ["blocked", "waiting"],
  not_applicable: ["not applicable", "waiting"],
  not_run: ["not run", "failed"],
  not_demanded: ["not demanded", ""],
  no_case: ["no test case", "failed"],
};
const HEADS = ["Ticket", "Test case", "Environment", "Result", "Tester", "Comment and evidence", "Why it must be run"];
const AGAIN = 30_000; // ms until the page reads again what others did meanwhile
const MANY = 20; // rows of what nobody tested that are shown at once

interface Own {
  /** Reads everything again. */
  again: () => Promise<void>;
  names: Names;
  run: Run;
  user: string;
}

/** Files that testers attached, to be kept as files: nothing of them is shown on a page. */
function Files({ of, run }: { of: readonly Attached[]; run: Run }) {
  const place = `${base}interlock/api/v1/dags/${encodeURIComponent(run.dagId)}/dagRuns/${encodeURIComponent(run.runId)}/files/`;
  return (
    <>
      {of.map(({ name, file }) => (
        <div key={file.sha256}>
          <a download="" href={place + file.sha256} style={{ textDecoration: "underline" }} title={`SHA-256 ${file.sha256}`}><Isolated>{name}</Isolated></a>
          <Quiet>{sizeOf(file.size)}</Quiet>
        </div>
      ))}
    </>
  );
}

/** What the reader attached to a test case that waits for their result, and a way to attach more. */
function Attach({ to, most, run }: { to: Case; most: number; run: Run }) {
  const [files, show] = useState(to.files);
  const [said, say] = useState<[string, boolean]>(["", false]);
  const [busy, work] = useState(false);
  const chosen = async ({ target: field }: React.ChangeEvent<HTMLInputElement>) => {
    const file = field.files?.[0];
    if (!file) return;
    work(true);
    say([`${file.name} is sent …`, false]);
    try {
      if (file.size > most) throw new Error(`The file was not attached: it has ${sizeOf(file.size)}; at most ${sizeOf(most)} are allowed.`);
      const params = { ...placeOf(run).params, task_id: to.task_id, map_index: String(to.map_index) };
      const made = await postFile("/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/files", file, { params });
      show((known) => [...known.filter((one) => one.file.sha256 !== made.file.sha256), made]);
      say(["It is attached. It belongs to the result that you give.", false]);
    } catch (error) {
      say([(error as Error).message, true]);
    }
    field.value = "";
    work(false);
  };
  return (
    <>
      <Files of={files} run={run} />
      <input aria-label={`Attach a file to ${to.title}`} disabled={busy} onChange={(event) => void chosen(event)} style={{ maxWidth: "24em", width: "100%" }} type="file" />
      <Box color={said[1] ? "fg.error" : "fg.muted"} overflowWrap="anywhere" role="status">{said[0]}</Box>
    </>
  );
}

/** Who is at a test case that waits for a result, for the other testers; and a way to take it, or to give it back. */
function Take({ of, again, names, run, user }: Own & { of: Case }) {
  const [fault, fail] = useState("");
  const [busy, work] = useState(false);
  const { taker } = of;
  const mine = taker?.user === user;
  const act = mine ? "Give back" : taker ? "Take over" : "Take";
  const place = { params: { ...placeOf(run).params, task_id: of.task_id, map_index: String(of.map_index) } };
  const path = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/taker";
  const pressed = () => {
    work(true);
    fail("");
    (mine ? remove(path, place) : put(path, { instead_of: taker?.user ?? null }, place))
      .catch((error: Error) => fail(error.message))
      .then(again)
      .finally(() => work(false));
  };
  return (
    <>
      <Box role="status">{taker ? <>{mine ? "You are" : <><Isolated>{names[taker.user] ?? taker.user}</Isolated> is</>} at it since {when(taker.since)}</> : "Nobody is at it"}</Box>
      <Button aria-label={`${act}: ${of.title}`} disabled={busy} onClick={pressed} size="xs" variant="outline">{act}</Button>
      {fault ? <Box color="fg.error" overflowWrap="anywhere" role="alert">{fault}</Box> : null}
    </>
  );
}

function OwnCases({ found, ...own }: Omit<Own, "user"> & { found: Schemas["CaseCollection"] }) {
  const { run } = own;
  const { cases, total_entries: total, most_bytes: most } = found;
  if (!total) return null;
  const rest = total - cases.length;
  const rows = cases.map((one) => [
    <><Isolated>{one.title}</Isolated><Quiet><Code text={one.case} /></Quiet></>,
    one.environment,
    <Take {...own} key={`take ${one.environment} ${one.case}`} of={one} user={found.user} />,
    <Attach key={`attach ${one.environment} ${one.case}`} most={most} run={run} to={one} />,
    <To path={`/${one.path}`}>Give the result</To>,
  ]);
  return (
    <Section title="Your test cases">
      <Table heads={["Test case", "Environment", "Who is at it", "Your files", "Result"]} rows={rows} />
      <Quiet>Take a test case, so that the other testers see that you are at it. Whoever may give its result can still give it.</Quiet>
      <Quiet>{`Attach files before you give the result: screenshots, PDF, logs, zip files or videos, at most ${sizeOf(most)} each.`}</Quiet>
      {rest ? <Quiet>{`${plural(rest, "more test case waits", "more test cases wait")} for you; they are here when you have given results.`}</Quiet> : null}
    </Section>
  );
}

const drawn = (one: Row, names: Names, run: Run) => {
  const called = (user: string) => names[user] ?? user;
  const [state, kind] = STATES[one.state];
  return [
    one.ticket ? <Isolated>{one.ticket}</Isolated> : <Quiet>no ticket</Quiet>,
    one.case ? (
      <>
        <Isolated>{one.title}</Isolated>
        <Quiet><Code text={one.case} />{one.proves.length ? `, proves ${one.proves.join(", ")}` : ""}</Quiet>
      </>
    ) : null,
    one.environment,
    <Pill kind={kind} state={state} />,
    one.by ? <>{called(one.by)}<At instant={one.at} /></> : one.taker ? <><Isolated>{called(one.taker.user)}</Isolated> is at it since<At instant={one.taker.since} /></> : one.testers.length ? <Quiet>{`for ${one.testers.map(called).join(" or ")}`}</Quiet> : null,
    <>
      {one.comment ? <Isolated>{one.comment}</Isolated> : null}
      {one.evidence ? <div><Code text={one.evidence} /></div> : null}
      <Files of={one.files} run={run} />
      {one.step ? <Quiet>{"at the step “"}<Isolated>{one.step}</Isolated>{"”"}</Quiet> : null}
      {one.defect ? <Quiet>{"known as "}<Code text={one.defect} /></Quiet> : null}
    </>,
    one.because.length ? <Quiet>{one.because.join("; ")}</Quiet> : null,
  ];
};

function Missing({ untested }: { untested: readonly string[] }) {
  if (!untested.length) return <Banner color="green.solid">Everything that must be tested has a result.</Banner>;
  const items = untested.map((what) => <Isolated key={what}>{what}</Isolated>);
  const rest = items.length - MANY;
  return (
    <Box bg="bg.subtle" borderColor="red.solid" borderLeftWidth={4} mb={2} overflowWrap="anywhere" px={4} py={2} rounded="sm">
      <Text fontWeight="semibold">{`Nobody tested (${untested.length}):`}</Text>
      <Lines of={items.slice(0, MANY)} />
      {rest > 0 ? <details><summary>{`and ${rest} more`}</summary><Lines of={items.slice(MANY)} /></details> : null}
    </Box>
  );
}

/** The rows, and how many of them have which result: buttons that leave only these on the page. */
function Rows({ rows, names, run }: { rows: readonly Row[]; names: Names; run: Run }) {
  const [shown, choose] = useState<Row["state"] | "">("");
  const counts = (Object.keys(STATES) as Row["state"][]).map((state) => [state, rows.filter((one) => one.state === state).length] as const);
  const button = (state: Row["state"] | "", text: string) => (
    <Button aria-pressed={shown === state} key={state} onClick={() => choose(state)} size="xs" variant={shown === state ? "solid" : "outline"}>{text}</Button>
  );
  return (
    <>
      <Box display="flex" flexWrap="wrap" gap={2} my={3}>
        {button("", `All ${rows.length}`)}
        {counts.filter(([, number]) => number).map(([state, number]) => button(state, `${number} ${STATES[state][0]}`))}
      </Box>
      <Table heads={HEADS} rows={rows.filter((one) => !shown || one.state === shown).map((one) => drawn(one, names, run))} />
    </>
  );
}

interface Found {
  matrix: Schemas["Matrix"];
  own: Schemas["CaseCollection"];
  names: Names;
  of: Run;
}

export function TestMatrix(run: Run) {
  const [read, show] = useState<Found | null>(null);
  const [fault, fail] = useState("");
  const place = placeOf(run);
  const again = () =>
    Promise.all([
      get("/dags/{dag_id}/dagRuns/{dag_run_id}/matrix", {}, place),
      get("/dags/{dag_id}/dagRuns/{dag_run_id}/cases", { limit: 100 }, place),
      readNames(),
    ]).then(([matrix, own, names]) => { show({ matrix, own, names, of: run }); fail(""); }, (error: Error) => fail(error.message));
  useEvery(AGAIN, () => void again(), [run.dagId, run.runId]);
  const found = read?.of.dagId === run.dagId && read.of.runId === run.runId ? read : null;
  const { matrix, own, names } = found ?? { matrix: null, own: null, names: {} };
  return (
    <Sheet name="test-matrix">
      <Heading as="h1" mb={2} size="lg">Test matrix</Heading>
      {fault ? <Fault>{`The test matrix cannot be loaded: ${fault}`}</Fault> : null}
      {!matrix && !fault ? <Spinner /> : null}
      {matrix && !matrix.rows.length ? <Quiet>This run has no test cases that people run. A service gets them with “cases” in its file.</Quiet> : null}
      {matrix?.rows.length && own ? (
        <>
          <OwnCases again={again} found={own} names={names} run={run} />
          <Missing untested={matrix.untested} />
          <Rows names={names} rows={matrix.rows} run={run} />
          <Defects found={matrix.defects} />
          <ZoneOfTimes />
        </>
      ) : null}
    </Sheet>
  );
}
