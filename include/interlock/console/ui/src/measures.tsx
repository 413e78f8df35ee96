// The page Measures: how releases went in a span of time. Each figure opens into the releases that it counts.
import { get, Schemas } from "./client";
import { Box, Heading, React, Spinner, Text, useEffect, useSearchParams, useState } from "./host";
import { asset, Fault, Filter, pageOfRun, pairs, To, useWidth, when } from "./parts";

type Summary = Schemas["MeasuresSummary"];
type Figure = Schemas["FigureSummary"];
type Release = Schemas["MeasuredRelease"];

const DAY = 86_400_000;
const SPANS: [string, string][] = [
  ["7", "Last 7 days"],
  ["30", "Last 30 days"],
  ["90", "Last 90 days"],
  ["365", "Last year"],
];
const NARROW = 760;
const PAGE = 50;

/** Seconds in the unit that people say: 3.5 h. */
function duration(seconds: number): string {
  const units: [number, string][] = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const [size, name] = units.find(([one]) => seconds >= one) ?? [1, "s"];
  return `${Number((seconds / size).toPrecision(2))} ${name}`;
}

function said(figure: Figure, value: number | null): string {
  if (value === null) return "—";
  if (figure.unit === "seconds") return duration(value);
  if (figure.unit === "share") return `${Math.round(value * 1000) / 10} %`;
  const rounded = `${Math.round(value * 100) / 100}`;
  return figure.unit === "per week" ? `${rounded} a week` : rounded;
}

function counts(figure: Figure): string {
  if (figure.unit === "share") return `${figure.counted} of ${figure.among}`;
  return `${figure.counted} ${figure.counted === 1 ? "release" : "releases"}`;
}

function useSpan(asked: URLSearchParams) {
  const days = Number(asked.get("days")) || 90;
  const [until] = useState(() => new Date());
  return {
    days: String(days),
    query: {
      since: new Date(until.getTime() - days * DAY).toISOString(),
      until: until.toISOString(),
      service: asked.getAll("service"),
      owner: asked.get("owner") ?? "",
    },
  };
}

function Counted({ figure, query }: { figure: Figure; query: ReturnType<typeof useSpan>["query"] }) {
  const [found, keep] = useState<{ releases: readonly Release[]; total: number } | null>(null);
  const [fault, fail] = useState("");
  const more = () => {
    const offset = found?.releases.length ?? 0;
    get("/measures/{key}/releases", { ...query, limit: PAGE, offset }, { params: { key: figure.key } }).then(
      (page) => keep((had) => ({ releases: [...(had?.releases ?? []), ...page.releases], total: page.total_entries })),
      (error: Error) => fail(error.message),
    );
  };
  useEffect(more, []);
  if (fault) return <Fault>{fault}</Fault>;
  if (!found) return <Spinner m={2} size="sm" />;
  if (!found.total) return <Text color="fg.muted">No release counts in this time.</Text>;
  return (
    <Box as="ul" listStyleType="none">
      {found.releases.map((one) => {
        const [dag = "", run = ""] = one.run.split("/");
        return (
          <Box as="li" key={one.run} overflowWrap="anywhere" py={0.5}>
            <To path={pageOfRun(dag, run)}>{`${one.service} ${one.version}`}</To>
            {` ${one.rollback ? "rollback, " : ""}${one.change_type}, ${(one.outcome || "under way").replace("_", " ")}${one.ended_at ? `, ${when(one.ended_at)}` : ""}`}
          </Box>
        );
      })}
      {found.releases.length < found.total ? (
        <Box as="button" color="fg.info" onClick={more} textDecoration="underline" type="button">
          {`Show more (${found.total - found.releases.length})`}
        </Box>
      ) : null}
    </Box>
  );
}

function Row({ figure, narrow, query }: { figure: Figure; narrow: boolean; query: ReturnType<typeof useSpan>["query"] }) {
  const [open, turn] = useState(false);
  const tail = figure.p90 === null || figure.p90 === undefined ? "" : `nine of ten: ${said(figure, figure.p90)}`;
  return (
    <Box as="section" borderBottomWidth={1} data-measure={figure.key} px={3} py={2}>
      <Box alignItems="baseline" columnGap={4} display="grid" gridTemplateColumns={narrow ? "1fr auto" : "minmax(14em, 1fr) 8em 12em 9em"}>
        <Heading as="h3" size="sm">{figure.title}</Heading>
        <Text fontSize="lg" fontWeight="semibold">{said(figure, figure.value ?? null)}</Text>
        <Text color="fg.muted" fontSize="sm">{tail}</Text>
        <Box as="button" aria-expanded={open} aria-label={`Releases that ${figure.title} counts`} color="fg.info" fontSize="sm" onClick={() => turn(!open)} textAlign="left" textDecoration="underline" type="button">
          {counts(figure)}
        </Box>
      </Box>
      <Text color="fg.muted" fontSize="sm">{figure.definition}</Text>
      {open ? <Box mt={2}><Counted figure={figure} query={query} /></Box> : null}
    </Box>
  );
}

type Week = Schemas["Week"];
const PLOT = { width: 600, height: 120 };

/** Bars of a week each, one above the other, with the same as a table to copy. */
function Plot({ title, weeks, bars, narrow }: { title: string; weeks: readonly Week[]; bars: { name: string; color: string; of: (week: Week) => number | null; said?: (value: number) => string }[]; narrow: boolean }) {
  const most = Math.max(...weeks.map((week) => bars.reduce((sum, bar) => sum + (bar.of(week) ?? 0), 0)), 0);
  const step = PLOT.width / weeks.length;
  const say = (bar: (typeof bars)[number], value: number | null) => (value === null ? "—" : (bar.said ?? String)(value));
  const [first, last] = [weeks[0], weeks[weeks.length - 1]];
  const top = bars[0] && most ? (bars[0].said ?? String)(most) : "0";
  return (
    <Box as="figure" minWidth={0} p={3}>
      <Heading as="h3" size="sm">{title}</Heading>
      <Text color="fg.muted" fontSize="sm">
        {bars.map((bar) => (
          <span key={bar.name} style={{ marginRight: "1em" }}>
            <span aria-hidden style={{ background: bar.color, display: "inline-block", height: "0.7em", marginRight: "0.3em", width: "0.7em" }} />
            {bar.name}
          </span>
        ))}
        {`Highest week: ${top}`}
      </Text>
      <svg aria-label={`${title}, by week`} preserveAspectRatio="none" role="img" style={{ display: "block", height: "8em", width: "100%" }} viewBox={`0 0 ${PLOT.width} ${PLOT.height}`}>
        <line stroke="currentColor" strokeOpacity={0.3} vectorEffect="non-scaling-stroke" x1={0} x2={PLOT.width} y1={PLOT.height} y2={PLOT.height} />
        {weeks.map((week, place) => {
          let below = 0;
          return bars.map((bar) => {
            const value = bar.of(week) ?? 0;
            const height = most ? (value / most) * (PLOT.height - 4) : 0;
            below += height;
            return (
              <rect fill={bar.color} height={height} key={`${week.since}${bar.name}`} width={Math.max(step * 0.8, 0.5)} x={place * step + step * 0.1} y={PLOT.height - below}>
                <title>{`${week.since.slice(0, 10)}, ${bar.name}: ${say(bar, bar.of(week))}`}</title>
              </rect>
            );
          });
        })}
      </svg>
      <Box color="fg.muted" display="flex" fontSize="xs" justifyContent="space-between"><span>{first?.since.slice(0, 10)}</span><span>{last?.since.slice(0, 10)}</span></Box>
      <details>
        <summary>As a table</summary>
        <Box aria-label={`${title}, as a table`} as="div" maxHeight="16em" overflow="auto" role="region" tabIndex={0}>
          <Box as="table" fontSize="sm" minWidth={narrow ? "24em" : undefined}>
            <thead><tr>{["Week from", ...bars.map((bar) => bar.name)].map((head) => <Box as="th" key={head} pr={4} textAlign="left">{head}</Box>)}</tr></thead>
            <tbody>{weeks.map((week) => <tr key={week.since}>{[week.since.slice(0, 10), ...bars.map((bar) => say(bar, bar.of(week)))].map((cell, place) => <Box as="td" key={place} pr={4}>{cell}</Box>)}</tr>)}</tbody>
          </Box>
        </Box>
      </details>
    </Box>
  );
}

const [BLUE, RED, ORANGE] = ["var(--chakra-colors-blue-solid)", "var(--chakra-colors-red-solid)", "var(--chakra-colors-orange-solid)"];

function Plots({ weeks, narrow }: { weeks: readonly Week[]; narrow: boolean }) {
  return (
    <Box borderWidth={1} display="grid" gridTemplateColumns={narrow ? "minmax(0, 1fr)" : "repeat(3, minmax(0, 1fr))"} mb={4} rounded="md">
      <Plot
        bars={[
          { name: "deployed", color: BLUE, of: (week) => week.deployed },
          { name: "not deployed", color: RED, of: (week) => week.failed },
          { name: "rollbacks", color: ORANGE, of: (week) => week.rollbacks },
        ]}
        narrow={narrow}
        title="Releases that ended"
        weeks={weeks}
      />
      <Plot bars={[{ name: "median", color: BLUE, of: (week) => week.lead_seconds ?? null, said: duration }]} narrow={narrow} title="From commit to production" weeks={weeks} />
      <Plot bars={[{ name: "median", color: BLUE, of: (week) => week.answer_seconds ?? null, said: duration }]} narrow={narrow} title="Time to answer" weeks={weeks} />
    </Box>
  );
}

function Seats({ seats, narrow }: { seats: Summary["seats"]; narrow: boolean }) {
  if (!seats.length) return <Text color="fg.muted" px={3} py={2}>No question was answered in this time.</Text>;
  const heads = ["Stage", "Person", "Answers", "Median", "Nine of ten", "Within a minute"];
  const cell = { px: 3, py: 1 };
  return (
    <Box overflowX="auto" tabIndex={0} aria-label="Time to answer, by person" role="region">
      <Box as="table" fontSize="sm" minWidth={narrow ? "34em" : undefined} width="100%">
        <Box as="thead"><Box as="tr">{heads.map((one) => <Box as="th" key={one} {...cell} color="fg.muted" textAlign="left">{one}</Box>)}</Box></Box>
        <Box as="tbody">
          {seats.map((seat) => (
            <Box as="tr" key={`${seat.stage}/${seat.user}`} borderTopWidth={1}>
              <Box as="td" {...cell}>{seat.stage}</Box>
              <Box as="td" {...cell} overflowWrap="anywhere">{seat.user}</Box>
              <Box as="td" {...cell}>{seat.answers}</Box>
              <Box as="td" {...cell}>{duration(seat.median_seconds)}</Box>
              <Box as="td" {...cell}>{duration(seat.p90_seconds)}</Box>
              <Box as="td" {...cell}>{seat.quick}</Box>
            </Box>
          ))}
        </Box>
      </Box>
    </Box>
  );
}

export function Measures() {
  const [asked] = useSearchParams();
  const { days, query } = useSpan(asked);
  const narrow = useWidth() < NARROW;
  const [found, keep] = useState<Summary | null>(null);
  const [services, know] = useState<readonly string[]>([]);
  const [owners, offer] = useState<readonly string[]>([]);
  const [fault, fail] = useState("");
  const wanted = JSON.stringify({ ...query, since: days });
  useEffect(() => {
    const control = new AbortController();
    keep(null);
    get("/measures", query, { signal: control.signal }).then(
      (answer) => { keep(answer); know(answer.services); fail(""); },
      (error: Error) => control.signal.aborted || fail(error.message),
    );
    return () => control.abort();
  }, [wanted]);
  useEffect(() => {
    get("/board", { limit: 1 }).then(
      (board) => offer(board.owners),
      () => undefined, // the filters then have only what the address names
    );
  }, []);
  const groups = [...new Set(found?.figures.map((one) => one.group))];
  const table = new URLSearchParams(Object.entries({ since: query.since, until: query.until, owner: query.owner }));
  query.service.forEach((one) => table.append("service", one));
  return (
    <Box data-testid="interlock-measures" p={narrow ? 2 : 4}>
      <Box alignItems="baseline" display="flex" flexWrap="wrap" gap={3} mb={2}>
        <Heading as="h1" size="lg">Measures</Heading>
        <Text aria-live="polite" color="fg.muted" fontSize="sm">
          {found ? `Releases that ended from ${when(found.since)} to ${when(found.until)}` : "Loading…"}
        </Text>
      </Box>
      <Box alignItems="center" display="flex" flexWrap="wrap" gap={2} mb={3}>
        <Filter choices={SPANS} initial={days} label="Time" name="days" />
        <Filter choices={pairs(services)} label="Service" name="service" />
        <Filter choices={pairs(owners)} label="Owner" name="owner" />
        <a download href={asset(`interlock/api/v1/measures.csv?${table}`)} style={{ color: "var(--chakra-colors-fg-info)", textDecoration: "underline" }}>CSV</a>
      </Box>
      {fault ? <Fault>{`The measures could not be read: ${fault}`}</Fault> : null}
      {!found && !fault ? <Spinner m={4} /> : null}
      {found ? <Plots narrow={narrow} weeks={found.weeks} /> : null}
      {found ? groups.map((group) => (
        <Box key={group} borderWidth={1} mb={4} rounded="md">
          <Heading as="h2" bg="bg.muted" px={3} py={2} size="sm">{group}</Heading>
          {found.figures.filter((one) => one.group === group).map((one) => (
            <Row key={`${one.key}${wanted}`} figure={one} narrow={narrow} query={query} />
          ))}
        </Box>
      )) : null}
      {found ? (
        <Box borderWidth={1} rounded="md">
          <Heading as="h2" bg="bg.muted" px={3} py={2} size="sm">Time to answer, by person</Heading>
          <Seats narrow={narrow} seats={found.seats} />
        </Box>
      ) : null}
    </Box>
  );
}
