// Meetings of a board: who is there, a timer for each item, and minutes that are written from the record.
import { post, Schemas } from "./client";
import { Box, Button, Heading, React, Text, Textarea, useEffect, useState } from "./host";
import { asset, Fault } from "./parts";

type Agenda = Schemas["AgendaCollection"];
type Kept = Schemas["KeptMinutes"];

interface State {
  board: string;
  began: string;
  present: string[];
  /** Dag and run of each item: for how many seconds it was discussed. */
  seconds: Record<string, number>;
  notes: Record<string, string>;
  note: string;
}

const KEPT = "interlock-meeting"; // a page that is loaded again is in the same meeting
const AN_ITEM = 10 * 60; // seconds after which the timer is marked

function stored(): State | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "null") as State | null;
  } catch {
    return null;
  }
}

export interface Meeting {
  state: State | null;
  change: (change: (before: State) => State) => void;
  begin: (board: string, present: string[]) => void;
  end: () => void;
  discuss: (item: string) => void;
}

export function useMeeting(): Meeting {
  const [state, keep] = useState<State | null>(stored);
  const [current, discuss] = useState("");
  const running = Boolean(state);
  const change = (made: (before: State) => State) => keep((before) => before && made(before));
  useEffect(() => {
    if (state) sessionStorage.setItem(KEPT, JSON.stringify(state));
    else sessionStorage.removeItem(KEPT);
  }, [state]);
  useEffect(() => {
    if (!running || !current) return;
    const tick = () => change((before) => ({ ...before, seconds: { ...before.seconds, [current]: (before.seconds[current] ?? 0) + 1 } }));
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, [running, current]);
  return {
    state,
    change,
    discuss,
    begin: (board, present) => keep({ board, began: new Date().toISOString(), present, seconds: {}, notes: {}, note: "" }),
    end: () => keep(null),
  };
}

const clock = (seconds: number): string => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

function Note({ label, value, change }: { label: string; value: string; change: (text: string) => void }) {
  return (
    <Box as="label" display="block" flexBasis="18em" flexGrow={1} fontSize="sm">
      {label}
      <Textarea maxLength={4000} onChange={(event: React.ChangeEvent<HTMLTextAreaElement>) => change(event.target.value)} rows={2} size="sm" value={value} />
    </Box>
  );
}

function Attendance({ agenda, meeting, state }: { agenda: Agenda; meeting: Meeting; state: State }) {
  const members = agenda.boards.find((one) => one.key === state.board)?.members ?? [];
  const others = Object.keys(agenda.names).filter((one) => !members.includes(one));
  const turn = (user: string) =>
    meeting.change((before) => ({
      ...before,
      present: before.present.includes(user) ? before.present.filter((one) => one !== user) : [...before.present, user],
    }));
  return (
    <Box aria-label="Present" display="flex" flexWrap="wrap" fontSize="sm" gap={3} role="group">
      <Text as="span" color="fg.muted">Present:</Text>
      {[...members, ...others].map((user) => (
        <label key={user}>
          <input checked={state.present.includes(user)} onChange={() => turn(user)} type="checkbox" />
          {` ${agenda.names[user] ?? user}${members.includes(user) ? "" : " (guest)"}`}
        </label>
      ))}
    </Box>
  );
}

/** What is above an agenda: the beginning of a meeting, the meeting, or its minutes. */
export function MeetingBar({ agenda, board, current, meeting }: { agenda: Agenda; board: string; current: string; meeting: Meeting }) {
  const [kept, keep] = useState<Kept | null>(null);
  const [fault, fail] = useState("");
  const { state } = meeting;
  if (!state) {
    const described = agenda.boards.find((one) => one.key === board);
    return (
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={3} pb={2} px={4}>
        {described ? <Button onClick={() => { keep(null); meeting.begin(board, [...described.members]); }} size="xs" variant="outline">{`Begin a meeting of the ${described.title}`}</Button> : <Text color="fg.muted" fontSize="sm">Choose a board to begin a meeting.</Text>}
        {kept ? (
          <Text fontSize="sm" role="status">
            {"The minutes are in the ledger. "}
            <a download href={asset(kept.file)} style={{ color: "var(--chakra-colors-fg-info)", textDecoration: "underline" }}>The file to send</a>
          </Text>
        ) : null}
      </Box>
    );
  }
  const title = agenda.boards.find((one) => one.key === state.board)?.title ?? state.board;
  const seconds = state.seconds[current] ?? 0;
  const decided = agenda.items.filter((one) => one.decision && state.seconds[`${one.dag_id}/${one.run_id}`] !== undefined);
  const items = Object.entries(state.seconds).map(([run, spent]) => {
    const slash = run.indexOf("/");
    return { dag_id: run.slice(0, slash), run_id: run.slice(slash + 1), seconds: spent, note: state.notes[run] ?? "" };
  });
  const finish = () => {
    fail("");
    post("/boards/{board}/minutes", { began_at: state.began, present: state.present, items, note: state.note }, { params: { board: state.board } }).then(
      (made) => { keep(made); meeting.end(); },
      (error: Error) => fail(error.message),
    );
  };
  return (
    <Box as="section" aria-label="Meeting" bg="bg.subtle" borderBottomWidth={1} borderTopWidth={1} mb={2} px={4} py={2}>
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={4}>
        <Heading as="h2" size="sm">{`Meeting of the ${title}`}</Heading>
        <Text as="span" color={seconds > AN_ITEM ? "fg.error" : undefined} fontVariantNumeric="tabular-nums" role="timer">{`This item: ${clock(seconds)}`}</Text>
        <Text as="span" aria-live="polite" fontSize="sm">{`${items.length} discussed, ${decided.length} decided`}</Text>
      </Box>
      <Attendance agenda={agenda} meeting={meeting} state={state} />
      <Box display="flex" flexWrap="wrap" gap={3} my={2}>
        {current ? <Note change={(text) => meeting.change((before) => ({ ...before, notes: { ...before.notes, [current]: text } }))} label="Note on this item" value={state.notes[current] ?? ""} /> : null}
        <Note change={(text) => meeting.change((before) => ({ ...before, note: text }))} label="Note on the meeting" value={state.note} />
      </Box>
      {fault ? <Fault>{fault}</Fault> : null}
      <Box display="flex" flexWrap="wrap" gap={3}>
        <Button disabled={!items.length} height="auto" onClick={finish} py={2} size="sm" variant="outline" whiteSpace="normal">End the meeting and write the minutes</Button>
        <Button onClick={meeting.end} size="sm" variant="outline">Drop the meeting</Button>
      </Box>
    </Box>
  );
}
