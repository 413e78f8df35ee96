// The page CAB: the agenda of a board, each item in a screenful, votes and remarks without leaving, and meetings.
import { answerQuestion, get, post, Schemas } from "./client";
import { Box, Button, Heading, NativeSelect, React, Spinner, Text, Textarea, useCallback, useEffect, useRef, useSearchParams, useState } from "./host";
import { MeetingBar, useMeeting } from "./meeting";
import { Fault, pageOfRun, span, Tag, To, useEvery, useWidth, when } from "./parts";

type Agenda = Schemas["AgendaCollection"];
export type Item = Schemas["AgendaEntry"];

const EVERY = 15_000;
const IN_MEETING = 5_000;
const NARROW = 900;
const CHOICES = ["Approve", "Reject", "Abstain"] as const;

export const keyOf = (item: { dag_id: string; run_id: string }): string => `${item.dag_id}/${item.run_id}`;

export function Quiet({ children, ...more }: { children: React.ReactNode } & Record<string, unknown>) {
  return <Text color="fg.muted" fontSize="sm" {...more}>{children}</Text>;
}

const color = (risk: number): string => (risk >= 70 ? "red" : risk >= 40 ? "orange" : "green");

function Vote({ item }: { item: Item }) {
  if (item.decision) return <Tag color={item.decision.approved ? "green" : "red"}>{item.decision.approved ? "approved" : "rejected"}</Tag>;
  if (item.mine) return <Tag color="orange">your vote</Tag>;
  return item.open ? null : <Tag color="gray">closed</Tag>;
}

function Entry({ item, chosen, now, choose }: { item: Item; chosen: boolean; now: number; choose: () => void }) {
  const voted = item.seats.filter((one) => one.choice).length;
  return (
    <Box as="li" borderBottomWidth={1}>
      <Box as="button" aria-current={chosen ? "true" : undefined} bg={chosen ? "bg.subtle" : undefined} borderColor={chosen ? "blue.solid" : "transparent"} borderLeftWidth={4} display="block" onClick={choose} overflowWrap="anywhere" px={3} py={2} textAlign="left" type="button" width="100%">
        <Box alignItems="center" display="flex" flexWrap="wrap" gap={1}>
          <Text as="span" fontWeight="semibold">{item.title}</Text>
          <Vote item={item} />
          {typeof item.risk === "number" ? <Tag color={color(item.risk)}>{`risk ${item.risk}`}</Tag> : null}
        </Box>
        <Quiet as="span" display="block">
          {[
            item.kind === "release" ? item.change_type : item.kind,
            item.seats.length ? `${voted} of ${item.seats.length} voted` : "",
            item.decide_by ? left(item.decide_by, now) : "",
          ].filter(Boolean).join(" · ")}
        </Quiet>
      </Box>
    </Box>
  );
}

const left = (until: string, now: number): string => (new Date(until).getTime() > now ? `${span(until, now)} left` : "time is over");

function Part({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <Box as="section" breakInside="avoid" mb={3} minWidth={0}>
      <Heading as="h3" color="fg.muted" fontSize="sm" fontWeight="semibold">{title}</Heading>
      {children}
    </Box>
  );
}

function Lines({ of, none }: { of: readonly string[]; none?: string }) {
  if (!of.length) return none ? <Quiet>{none}</Quiet> : null;
  return (
    <Box as="ul" listStyleType="none">
      {of.map((one, number) => <Box as="li" key={number} fontSize="sm" overflowWrap="anywhere">{one}</Box>)}
    </Box>
  );
}

function What({ item }: { item: Item }) {
  const { change } = item;
  const more = change.commit_count - change.commits.length;
  const kept = change.ticket_names.filter((name) => !change.tickets.some((one) => one.key === name));
  return (
    <>
      <Part title="What and why">
        <Text fontSize="sm" overflowWrap="anywhere">{change.summary || "No summary was given."}</Text>
        {change.tickets.map((one) => (
          <Text fontSize="sm" key={one.key} overflowWrap="anywhere">{[one.key, one.title, one.status].filter(Boolean).join(": ")}</Text>
        ))}
        {kept.length ? <Text fontSize="sm">{`Tickets: ${kept.join(", ")}`}</Text> : null}
      </Part>
      {change.passengers.length ? (
        <Part title="On board">
          <Lines of={change.passengers.map((one) => `${one.service} ${one.version}, replaces ${one.replaces ?? "nothing"}, risk ${one.risk}: ${one.summary}`)} />
          <Lines of={change.differences} />
        </Part>
      ) : (
        <Part title={`Differences to ${change.previous_version ?? "nothing"}, which runs`}>
          <Lines none="No commits since then." of={change.commits} />
          {more > 0 && change.commits.length ? <Quiet>{`and ${more} more commits`}</Quiet> : null}
          <Lines of={change.differences} />
        </Part>
      )}
    </>
  );
}

const review = (one: Item["reviews"][number]): string =>
  `${one.environment}: ${one.state.replace("_", " ")}${one.of ? `, ${one.passed} of ${one.of} suites passed` : ""}${one.failed.length ? `; failed: ${one.failed.join(", ")}` : ""}${one.waived ? `; ${one.waived} waived` : ""}`;

/** When it will be through, and what lowers its readiness; read once an item is looked at. */
function Outlook({ item }: { item: Item }) {
  const [found, keep] = useState<Schemas["Expected"] | null>(null);
  const [fault, fail] = useState("");
  useEffect(() => {
    get("/forecast", { dag_id: item.dag_id, run_id: item.run_id }).then(keep, (error: Error) => fail(error.message));
  }, []);
  const { forecast, readiness } = found ?? {};
  return (
    <Part title={readiness ? `Readiness: ${readiness.score} of 100` : "Readiness"}>
      {fault ? <Quiet>{`Not known: ${fault}`}</Quiet> : null}
      {readiness ? <Lines none="Nothing lowers it." of={readiness.parts.flatMap((one) => one.lowers)} /> : null}
      {forecast?.half && forecast.nine_of_ten ? (
        <Text fontSize="sm">{`If it gets through: in half of the cases by ${when(forecast.half)}, in nine of ten by ${when(forecast.nine_of_ten)}, by ${forecast.based_on} earlier releases.`}</Text>
      ) : null}
      {forecast?.why ? <Quiet>{`No forecast: ${forecast.why}`}</Quiet> : null}
    </Part>
  );
}

function Facts({ item }: { item: Item }) {
  const back = item.back_out;
  return (
    <Box columnGap={6} css={{ columnWidth: "22em" }}>
      <What item={item} />
      <Outlook item={item} />
      <Part title={typeof item.risk === "number" ? `Risk: ${item.risk} of 100` : "Risk"}>
        <Lines none="Its terms are not known." of={item.risk_terms.map((one) => `${one.points} for ${one.name}: ${one.why}`)} />
      </Part>
      <Part title="Conflicts with what else is planned"><Lines none="None was found at planning." of={item.conflicts} /></Part>
      {item.kind === "train" ? null : (
        <>
          <Part title="Quality"><Lines none="Nothing is on record." of={item.reviews.map(review)} /></Part>
          <Part title="Back-out">
            {back ? (
              <>
                <Text fontSize="sm">{back.proven ? `Proven: each host still has ${back.to.join(", ") || "what it returns to"}.` : `Not proven on the hosts: ${back.to.join(", ")} is copied from the artifact store.`}</Text>
                <Lines of={back.irreversible} />
              </>
            ) : <Quiet>Nothing is on record.</Quiet>}
          </Part>
          <Part title={`The last releases of ${item.service || "this service"}`}>
            {item.past.map((one) => (
              <Text fontSize="sm" key={keyOf(one)} overflowWrap="anywhere">
                <To path={pageOfRun(one.dag_id, one.run_id)}>{`${one.version} ${one.outcome.replace("_", " ")}`}</To>
                {` ${one.rollback ? "rollback, " : ""}${one.ended_at ? when(one.ended_at) : ""}`}
              </Text>
            ))}
            {item.past.length ? null : <Quiet>None has ended yet.</Quiet>}
          </Part>
          <Part title="Rollout"><Lines of={item.change.rollout} /></Part>
        </>
      )}
    </Box>
  );
}

function Seats({ item, names }: { item: Item; names: Record<string, string> }) {
  return (
    <Part title="Votes">
      {item.seats.map((one) => (
        <Box key={one.user} display="flex" flexWrap="wrap" fontSize="sm" gap={2}>
          <Text as="span" fontWeight="semibold">{one.name}</Text>
          <Quiet as="span">{one.role}</Quiet>
          {one.choice ? <Tag color={one.choice === "Approve" ? "green" : one.choice === "Reject" ? "red" : "gray"}>{one.choice}</Tag> : <Quiet as="span">no vote yet</Quiet>}
          {one.by ? <Quiet as="span">{`by ${names[one.by] ?? one.by}`}</Quiet> : null}
          <Text as="span" overflowWrap="anywhere">{[one.comment, one.conditions && `Condition: ${one.conditions}`].filter(Boolean).join(" · ")}</Text>
        </Box>
      ))}
      {item.demands.map((one) => (
        <Quiet key={one.place}>{`${one.title} (${one.asks}): ${one.lacks.length ? `so far ${one.lacks.join(", ")}` : "met"}`}</Quiet>
      ))}
      {item.decision ? <Text fontSize="sm" overflowWrap="anywhere">{`${when(item.decision.at)}: ${item.decision.reason}`}</Text> : null}
    </Part>
  );
}

function Words({ label, value, change, rows = 2 }: { label: string; value: string; change: (text: string) => void; rows?: number }) {
  return (
    <Box as="label" display="block" fontSize="sm" mb={2}>
      {label}
      <Textarea autoresize maxLength={4000} onChange={(event: React.ChangeEvent<HTMLTextAreaElement>) => change(event.target.value)} rows={rows} size="sm" value={value} />
    </Box>
  );
}

function OwnVote({ item, done }: { item: Item; done: () => void }) {
  const [choice, choose] = useState<string>("");
  const [comment, write] = useState("");
  const [conditions, condition] = useState("");
  const [fault, fail] = useState("");
  const [busy, wait] = useState(false);
  const mine = item.mine;
  if (!mine) return null;
  const cast = () => {
    wait(true);
    answerQuestion(item.dag_id, item.run_id, mine.task_id, mine.map_index, choice, { comment, conditions, confirmed: true }).then(
      done,
      (error: Error) => {
        wait(false);
        fail(error.message);
      },
    );
  };
  return (
    <Box as="form" aria-label="Your vote" borderTopWidth={1} pt={2} onSubmit={(event: React.FormEvent) => { event.preventDefault(); cast(); }}>
      <Heading as="h3" size="sm">Your vote</Heading>
      <Box aria-label="Vote" display="flex" flexWrap="wrap" gap={4} my={1} role="radiogroup">
        {CHOICES.map((one) => (
          <label key={one}><input checked={choice === one} name="vote" onChange={() => choose(one)} type="radio" value={one} />{` ${one}`}</label>
        ))}
      </Box>
      <Words change={write} label="Comment (required): the reason for your vote" value={comment} />
      <Words change={condition} label="Conditions of an approval, if any" rows={1} value={conditions} />
      {fault ? <Fault>{fault}</Fault> : null}
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={3}>
        <Button disabled={busy || !choice || !comment.trim()} size="sm" type="submit" variant="outline">{choice ? `Vote: ${choice}` : "Vote"}</Button>
        <Quiet>A vote cannot be changed.</Quiet>
        <To path={`/${mine.path}`}>The whole ballot</To>
      </Box>
    </Box>
  );
}

function Remarks({ item, user, names, done }: { item: Item; user: string; names: Record<string, string>; done: () => void }) {
  const [text, write] = useState("");
  const [said, say] = useState("");
  const [fault, fail] = useState("");
  const asks = !item.requested_by.includes(user);
  const send = () => {
    fail("");
    post("/remarks", { dag_id: item.dag_id, run_id: item.run_id, text }).then(
      (made) => {
        write("");
        const told = made.told.map((one) => names[one] ?? one).join(", ");
        say(`On record.${told ? ` Told by mail: ${told}.` : ""}${made.not_told ? ` Not told: ${made.not_told}.` : ""}`);
        done();
      },
      (error: Error) => fail(error.message),
    );
  };
  return (
    <Part title="Questions back">
      {item.remarks.map((one, number) => (
        <Text fontSize="sm" key={number} overflowWrap="anywhere" whiteSpace="pre-wrap">
          <Text as="span" fontWeight="semibold">{names[one.user] ?? one.user}</Text>
          {`, ${when(one.at)}: ${one.text}`}
        </Text>
      ))}
      {item.remarks.length || item.may_remark ? null : <Quiet>Nobody asked anything.</Quiet>}
      {item.may_remark ? (
        <Box as="form" onSubmit={(event: React.FormEvent) => { event.preventDefault(); send(); }}>
          <Words change={write} label={asks ? "Ask the requester; the question is on record, and is no vote" : "Answer the board; the answer is on record"} value={text} />
          {fault ? <Fault>{fault}</Fault> : null}
          <Button disabled={!text.trim()} size="sm" type="submit" variant="outline">{asks ? "Ask" : "Answer"}</Button>
        </Box>
      ) : null}
      <Text aria-live="polite" fontSize="sm">{said}</Text>
    </Part>
  );
}

function Detail({ item, agenda, done, voted }: { item: Item; agenda: Agenda; done: () => void; voted: () => void }) {
  const now = new Date(agenda.at).getTime();
  const who = item.requested_by.map((one) => agenda.names[one] ?? one).join(", ");
  return (
    <Box as="article" aria-label={item.title} minWidth={0} p={4}>
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={2}>
        <Heading as="h2" overflowWrap="anywhere" size="md"><To path={`/${item.path}`}>{item.title}</To></Heading>
        {typeof item.risk === "number" ? <Tag color={color(item.risk)}>{`risk ${item.risk}`}</Tag> : null}
        {item.change_type ? <Tag color="gray">{item.change_type}</Tag> : null}
        <Vote item={item} />
      </Box>
      <Quiet mb={3}>
        {[
          item.environment && `to ${item.environment}`,
          who && `requested by ${who}`,
          item.not_before ? `starts ${when(item.not_before)}` : "starts as soon as it is approved",
          item.decide_by && `vote until ${when(item.decide_by)} (${left(item.decide_by, now)})`,
        ].filter(Boolean).join(" · ")}
      </Quiet>
      {item.fault ? <Fault>{`Its record cannot be read: ${item.fault}`}</Fault> : null}
      {item.digest ? null : <Fault>The ledger has no frozen plan of it. Read the ballot before you vote.</Fault>}
      <Facts item={item} />
      <Seats item={item} names={agenda.names} />
      <Remarks done={done} item={item} names={agenda.names} user={agenda.user} />
      <OwnVote done={voted} item={item} key={item.mine?.path} />
    </Box>
  );
}

function BoardChoice({ agenda, value, choose }: { agenda: Agenda | null; value: string; choose: (board: string) => void }) {
  return (
    <NativeSelect.Root maxWidth="22em" size="sm" width="auto">
      <NativeSelect.Field aria-label="Board" onChange={(event: React.ChangeEvent<HTMLSelectElement>) => choose(event.target.value)} value={value}>
        <option value="">All boards</option>
        {agenda?.boards.map((one) => <option key={one.key} value={one.key}>{one.title}</option>)}
        {value && !agenda?.boards.some((one) => one.key === value) ? <option value={value}>{value}</option> : null}
      </NativeSelect.Field>
      <NativeSelect.Indicator />
    </NativeSelect.Root>
  );
}

export function Cab() {
  const [asked, ask] = useSearchParams();
  const board = asked.get("board") ?? "";
  const [agenda, keep] = useState<Agenda | null>(null);
  const [fault, fail] = useState("");
  const meeting = useMeeting();
  const narrow = useWidth() < NARROW;
  const wanted = asked.get("item") ?? "";
  const detail = useRef<HTMLElement | null>(null);
  const discussed = Object.keys(meeting.state?.seconds ?? {});
  const read = useCallback(() => {
    const also = [...new Set([...discussed, ...(wanted ? [wanted] : [])])].slice(0, 50);
    return get("/agenda", { board, also, limit: 100 }).then(
      (found) => { keep(found); fail(""); return found; },
      (error: Error) => { fail(error.message); return null; },
    );
  }, [board, wanted, discussed.join()]);
  useEvery(meeting.state ? IN_MEETING : EVERY, () => void read(), [read, Boolean(meeting.state)]);
  const change = (name: string, value: string) => {
    const next = new URLSearchParams(asked);
    if (value) next.set(name, value);
    else next.delete(name);
    ask(next, { replace: true });
  };
  const items = agenda?.items ?? [];
  const chosen = items.find((one) => keyOf(one) === wanted) ?? (narrow ? undefined : items[0]);
  const key = chosen ? keyOf(chosen) : "";
  useEffect(() => meeting.discuss(key), [key, Boolean(meeting.state)]);
  const voted = () => {
    void read().then((found) => {
      const next = found?.items.find((one) => one.mine);
      if (next && !meeting.state) change("item", keyOf(next));
      detail.current?.focus();
    });
  };
  const now = agenda ? new Date(agenda.at).getTime() : Date.now();
  const mine = items.filter((one) => one.mine).length;
  return (
    <Box data-testid="interlock-cab" height="100%" overflowWrap="anywhere" overflowY="auto" tabIndex={0}>
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={3} p={narrow ? 2 : 4}>
        <Heading as="h1" size="lg">CAB</Heading>
        <BoardChoice agenda={agenda} choose={(one) => change("board", one)} value={board} />
        <Quiet aria-live="polite">{agenda ? `${agenda.total_entries} on the agenda, ${mine} for your vote` : ""}</Quiet>
      </Box>
      {fault ? <Fault>{`The agenda could not be read: ${fault}`}</Fault> : null}
      {agenda ? <MeetingBar agenda={agenda} board={board} current={key} meeting={meeting} /> : null}
      {!agenda && !fault ? <Spinner m={4} /> : null}
      {agenda && !items.length ? <Quiet p={4}>Nothing waits for the votes of this board. When a plan is frozen that it must agree to, its members get a mail, and the plan appears here.</Quiet> : null}
      {items.length ? (
        <Box display={narrow ? "block" : "grid"} gridTemplateColumns="minmax(14em, 20em) minmax(0, 1fr)">
          {narrow && chosen ? (
            <Button m={2} onClick={() => change("item", "")} size="sm" variant="outline">The whole agenda</Button>
          ) : (
            <Box as="ol" aria-label="Agenda" borderRightWidth={narrow ? 0 : 1} listStyleType="none">
              {items.map((one) => <Entry choose={() => change("item", keyOf(one))} chosen={one === chosen} item={one} key={keyOf(one)} now={now} />)}
            </Box>
          )}
          {chosen && agenda ? (
            <Box minWidth={0} ref={detail} tabIndex={-1}>
              <Detail agenda={agenda} done={() => void read()} item={chosen} key={key} voted={voted} />
            </Box>
          ) : null}
        </Box>
      ) : null}
    </Box>
  );
}
