// The page Timeline: releases, trains, freezes, windows and bookings on one axis, by service, owner or environment.
import { get, Schemas } from "./client";
import { Box, Heading, Link, React, Spinner, Text, useEffect, useMemo, useState } from "./host";
import { Banner, Fault, Filter, NameFilter, pairs, To, useAddress, useEvery, useWidth, when } from "./parts";

type Part = Schemas["Timeline"];
type Bar = Schemas["Bar"];
type Lane = Schemas["Lane"];
type By = "service" | "owner" | "environment";

const DAY = 86_400_000;
const EVERY = 60_000;
const NARROW = 760;
const TRACK = 26; // pixels
const LEAST = 0.4; // percent of the axis: what is short is still seen
const SPANS: [string, string][] = [["1", "Day"], ["7", "Week"], ["31", "Month"], ["92", "Quarter"]];
const LANES: [By, string][] = [["service", "By service"], ["owner", "By owner"], ["environment", "By environment"]];
const TONES: [string, string, (bar: Bar) => boolean][] = [
  ["conflict", "orange.solid", (bar) => bar.kind === "conflict"],
  ["failed, backed out", "red.solid", (bar) => ["release", "train"].includes(bar.kind) && ["failed", "backed_out", "rejected", "broken"].includes(bar.state ?? "")],
  ["deployed", "green.solid", (bar) => ["deployed", "rehearsed"].includes(bar.state ?? "")],
  ["freeze", "red.muted", (bar) => bar.state === "deny"],
  ["change window", "green.muted", (bar) => bar.state === "allow"],
  ["booking", "purple.solid", (bar) => bar.kind === "booking"],
  ["planned", "blue.muted", (bar) => ["planned", "moved", "boarding"].includes(bar.state ?? "")],
  ["under way", "blue.solid", (bar) => ["release", "train"].includes(bar.kind)],
  ["paused, other", "gray.muted", () => true],
];
const toneOf = (bar: Bar) => TONES.find(([, , fits]) => fits(bar)) ?? TONES[TONES.length - 1]!;

const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10);

function useAxis() {
  const [asked, change] = useAddress();
  const days = SPANS.some(([one]) => one === asked.get("days")) ? Number(asked.get("days")) : 31;
  const from = Date.parse(`${asked.get("from") ?? ""}T00:00:00Z`);
  // Without a day in the address, the axis begins a little before today: what is to come is what people look for.
  const since = Number.isNaN(from) ? Date.parse(`${dayOf(Date.now() - Math.floor(days / 4) * DAY)}T00:00:00Z`) : from;
  return { days, since, until: since + days * DAY, move: (to: number | null) => change({ from: to === null ? "" : dayOf(to) }) };
}

/** Where lines are drawn: every few hours of a day, each day of a week, each week of more. */
function ticks(since: number, until: number, days: number): [number, string][] {
  const step = days === 1 ? DAY / 8 : days <= 7 ? DAY : 7 * DAY;
  const found: [number, string][] = [];
  for (let at = since; at < until; at += step) {
    const text = days === 1 ? new Date(at).toISOString().slice(11, 16) : new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
    found.push([at, text]);
  }
  return found;
}

/** Put bars into as few tracks as let none cover another. */
function inTracks(bars: readonly Bar[], least: number): Bar[][] {
  const tracks: { end: number; bars: Bar[] }[] = [];
  for (const bar of bars) {
    const start = Date.parse(bar.start);
    const free = tracks.find((one) => one.end <= start);
    const end = Math.max(Date.parse(bar.end), start + least);
    if (free) {
      free.bars.push(bar);
      free.end = end;
    } else tracks.push({ end, bars: [bar] });
  }
  return tracks.map((one) => one.bars);
}

interface Axis {
  since: number;
  until: number;
}

function Drawn({ bar, axis, top }: { bar: Bar; axis: Axis; top: number }) {
  const share = (at: number) => (Math.min(Math.max(at, axis.since), axis.until) - axis.since) / (axis.until - axis.since) * 100;
  const [from, to] = [share(Date.parse(bar.start)), share(Date.parse(bar.end))];
  const [tone, color] = toneOf(bar);
  const late = bar.planned && Math.abs(Date.parse(bar.planned) - Date.parse(bar.start)) > 60_000 ? `, planned for ${when(bar.planned)}` : "";
  const said = [`${bar.title}, ${when(bar.start)} to ${when(bar.end)}${late}`, bar.about].filter(Boolean).join(". ");
  const solid = color.endsWith("solid");
  const look = {
    "aria-label": `${tone}: ${said}`,
    bg: color,
    color: solid ? "white" : "fg",
    "data-kind": bar.kind,
    fontSize: "xs",
    height: `${TRACK - 4}px`,
    left: `${from}%`,
    lineHeight: `${TRACK - 4}px`,
    overflow: "hidden",
    position: "absolute",
    px: 1,
    rounded: "sm",
    textOverflow: "ellipsis",
    title: said,
    top: `${top}px`,
    whiteSpace: "nowrap",
    width: `${Math.max(to - from, LEAST)}%`,
  };
  const plan = bar.planned ? share(Date.parse(bar.planned)) : null;
  return (
    <>
      {plan !== null && late ? <Box aria-hidden borderLeftWidth={2} borderColor="fg.muted" height={`${TRACK - 4}px`} left={`${plan}%`} position="absolute" top={`${top}px`} /> : null}
      {bar.path ? (
        <Box {...look} as={Link} to={`/${bar.path}`}>{bar.title}</Box>
      ) : (
        <Box {...look} role="note" tabIndex={0}>{bar.title}</Box>
      )}
    </>
  );
}

function Row({ lane, axis, narrow, marks }: { lane: Pick<Lane, "title" | "bars" | "more">; axis: Axis; narrow: boolean; marks: [number, string][] }) {
  const tracks = useMemo(() => inTracks(lane.bars, (axis.until - axis.since) * LEAST / 100), [lane.bars, axis.since, axis.until]);
  const place = (at: number) => `${(at - axis.since) / (axis.until - axis.since) * 100}%`;
  const now = Date.now();
  return (
    <Box borderTopWidth={1} display={narrow ? "block" : "flex"} role="listitem">
      <Box flex="none" fontWeight="semibold" overflowWrap="anywhere" px={2} py={1} width={narrow ? "auto" : "14em"}>
        {lane.title}
        {lane.more ? <Text as="span" color="fg.muted" fontWeight="normal">{` and ${lane.more} more`}</Text> : null}
      </Box>
      <Box flex={1} minHeight={`${TRACK * Math.max(tracks.length, 1)}px`} minWidth={0} my={1} overflow="hidden" position="relative">
        {marks.map(([at]) => <Box aria-hidden key={at} borderLeftWidth={1} height="100%" left={place(at)} opacity={0.6} position="absolute" />)}
        {tracks.map((bars, number) => bars.map((bar) => <Drawn axis={axis} bar={bar} key={bar.id + bar.start} top={number * TRACK} />))}
        {now > axis.since && now < axis.until ? <Box aria-hidden borderColor="red.solid" borderLeftWidth={2} height="100%" left={place(now)} position="absolute" title="Now" /> : null}
      </Box>
    </Box>
  );
}

function Conflicts({ found }: { found: readonly Bar[] }) {
  if (!found.length) return null;
  return (
    <Box as="details" borderWidth={1} mb={2} px={3} py={1} rounded="md">
      <Box as="summary">{`${found.length} ${found.length === 1 ? "conflict" : "conflicts"} in the next 60 days`}</Box>
      <Box as="ul" listStyleType="disc" pl={5}>
        {found.map((one) => (
          <Box as="li" key={one.id} overflowWrap="anywhere">
            {`${when(one.start)}: `}
            {one.path ? <To path={`/${one.path}`}>{one.title}</To> : one.title}
            {one.about ? ` ${one.about}` : ""}
          </Box>
        ))}
      </Box>
    </Box>
  );
}

function Button({ children, onClick }: { children: React.ReactNode; onClick: () => void }) {
  return <Box as="button" borderWidth={1} onClick={onClick} px={3} py={1} rounded="md" type="button">{children}</Box>;
}

export function Timeline() {
  const [asked] = useAddress();
  const axis = useAxis();
  const narrow = useWidth() < NARROW;
  const [found, show] = useState<Part | null>(null);
  const [fault, fail] = useState("");
  const [page, turn] = useState(1);
  const by = LANES.find(([one]) => one === asked.get("by"))?.[0] ?? "service";
  const query = { since: new Date(axis.since).toISOString(), until: new Date(axis.until).toISOString(), by, name: asked.get("name") ?? "", owner: asked.getAll("owner") };
  const wanted = JSON.stringify(query);
  useEffect(() => turn(1), [wanted]);
  useEvery(
    EVERY,
    () => {
      const mine = wanted;
      Promise.all(Array.from({ length: page }, (_, number) => get("/timeline", { ...query, limit: 50, offset: number * 50 }))).then(
        (parts) => {
          const [first] = parts;
          if (!first || mine !== wanted) return;
          fail("");
          show({ ...first, lanes: parts.flatMap((one) => one.lanes) });
        },
        (error: Error) => fail(error.message),
      );
    },
    [wanted, page],
  );
  const marks = ticks(axis.since, axis.until, axis.days);
  const current = found && Date.parse(found.since) === axis.since && Date.parse(found.until) === axis.until ? found : null;
  const left = current ? current.total_entries - current.lanes.length : 0;
  return (
    <Box data-testid="interlock-timeline" fontSize="sm" height="100%" overflowY="auto" p={narrow ? 2 : 4} tabIndex={0}>
      <Box alignItems="baseline" display="flex" flexWrap="wrap" gap={3} mb={2}>
        <Heading as="h1" size="lg">Timeline</Heading>
        <Text aria-live="polite" color="fg.muted">{current ? `${dayOf(axis.since)} to ${dayOf(axis.until - 1)}, times in UTC` : "Loading…"}</Text>
      </Box>
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={2} mb={2}>
        <Filter choices={SPANS} initial="31" label="Time shown" name="days" />
        <Filter choices={LANES} initial="service" label="Lanes" name="by" />
        <NameFilter />
        <Filter choices={pairs(found?.owners)} label="Owner" name="owner" />
        <Button onClick={() => axis.move(axis.since - axis.days * DAY)}>Earlier</Button>
        <Button onClick={() => axis.move(null)}>Today</Button>
        <Button onClick={() => axis.move(axis.until)}>Later</Button>
        <To path="/plugin/release-calendar">Calendar and feed</To>
      </Box>
      {fault ? <Fault>{`The timeline could not be read: ${fault}`}</Fault> : null}
      {current?.faults.map((said) => <Fault key={said}>{said}</Fault>)}
      {current?.notes.map((said) => <Banner color="orange.solid" key={said}>{said}</Banner>)}
      {current ? <Conflicts found={current.conflicts} /> : null}
      <Box display="flex" flexWrap="wrap" gap={3} mb={2}>
        {TONES.map(([name, color]) => (
          <Box alignItems="center" display="flex" gap={1} key={name}><Box aria-hidden bg={color} height="0.8em" rounded="sm" width="0.8em" />{name}</Box>
        ))}
      </Box>
      <Box borderWidth={1} rounded="md">
        <Box bg="bg.muted" color="fg.muted" display="flex" fontSize="xs">
          {narrow ? null : <Box flex="none" width="14em" />}
          <Box flex={1} height="1.8em" minWidth={0} overflow="hidden" position="relative">
            {marks.map(([at, text], number) => (narrow && number % 2 ? null : (
              <Text as="span" key={at} left={`${(at - axis.since) / (axis.until - axis.since) * 100}%`} pl={1} position="absolute" whiteSpace="nowrap">{text}</Text>
            )))}
          </Box>
        </Box>
        {!current && !fault ? <Spinner m={4} /> : null}
        {current ? (
          <Box aria-label="Lanes" role="list">
            {current.everywhere.length ? <Row axis={axis} lane={{ title: "Everything", bars: current.everywhere, more: 0 }} marks={marks} narrow={narrow} /> : null}
            {current.lanes.map((lane) => <Row axis={axis} key={lane.key} lane={lane} marks={marks} narrow={narrow} />)}
          </Box>
        ) : null}
        {current && !current.lanes.length ? <Text color="fg.muted" p={3}>Nothing is planned or on record for these services in this time. Show a longer time, or choose all in a filter.</Text> : null}
      </Box>
      {left > 0 ? <Button onClick={() => turn(page + 1)}>{`Show more (${left})`}</Button> : null}
    </Box>
  );
}
