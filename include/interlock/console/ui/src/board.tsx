// The page Board: services down, environments across. Rows are drawn while they are in view and fetched in blocks.
import { get, Schemas } from "./client";
import { Box, Heading, React, Spinner, Text, useCallback, useEffect, useMemo, useRef, useSearchParams, useState } from "./host";
import { Fault, Filter, NameFilter, pageOfDag, pageOfRun, pairs, span, Tag, To, useEvery, useWidth, when } from "./parts";

type Row = Schemas["Row"];
type Cell = Schemas["Cell"];
type Flight = Schemas["Flight"];
type Collection = Schemas["BoardCollection"];

const BLOCK = 100; // the most that the API answers with
const EVERY = 30_000;
const OVERSCAN = 6; // rows beyond the view: the keyboard's next stop is always drawn
const NARROW = 760;
const FILTERS = ["name", "business_unit", "tier", "owner", "state"] as const;

const STATES: Record<string, string> = {
  in_flight: "Release under way",
  waiting: "Release waits",
  drift: "A host differs",
  uncertain: "Not certain what runs",
  marked: "Version marked bad",
  pinned: "Pinned",
  closed: "Production closed",
  never_released: "Never released",
};
const DOES: Record<Flight["state"], [string, string]> = {
  queued: ["queued", "gray"],
  asks: ["waits for answers", "orange"],
  waits: ["waits", "orange"],
  retries: ["is tried again", "red"],
  runs: ["runs", "blue"],
  paused: ["paused", "red"],
};

function query(asked: URLSearchParams) {
  const tiers = asked.getAll("tier").map(Number).filter(Boolean);
  return {
    name: asked.get("name") ?? "",
    business_unit: asked.getAll("business_unit"),
    tier: tiers,
    owner: asked.getAll("owner"),
    state: asked.getAll("state") as Row["states"],
  };
}

function CellOf({ cell, row, now, narrow }: { cell: Cell | undefined; row: Row; now: number; narrow: boolean }) {
  if (!cell) return narrow ? null : <Box role="cell" />;
  const { drift = [], marked_bad: bad = [], pinned, closed } = cell;
  const hosts = drift.length === 1 ? "1 host differs" : `${drift.length} hosts differ`;
  const runsBad = bad.find((one) => one.version === cell.version);
  const flags = [
    drift.length ? <Tag key="drift" color="red" title={drift.map((one) => one.what).join("\n")}>{hosts}</Tag> : null,
    cell.certain === false ? <Tag key="doubt" color="orange" title="A release failed there, or some of its hosts did">not certain</Tag> : null,
    runsBad ? <Tag key="bad" color="red" title={`By ${runsBad.by}: ${runsBad.reason}`}>marked bad</Tag> : null,
    !runsBad && bad.length ? <Tag key="others" color="gray" title={bad.map((one) => `${one.version}, by ${one.by}: ${one.reason}`).join("\n")}>{`${bad.length} marked bad`}</Tag> : null,
    pinned ? <Tag key="pin" color="purple" title={`By ${pinned.by}: ${pinned.reason}`}>{`pinned to ${pinned.version}`}</Tag> : null,
    closed ? <Tag key="closed" color="orange" title={`${closed.what}${closed.place ? ` (${closed.place})` : ""}${closed.until ? `, until ${when(closed.until)}` : ""}`}>{`closed: ${closed.what}`}</Tag> : null,
  ];
  const runs = cell.version && cell.since ? (
    <>
      <To aria-label={`${row.title} ${cell.version} in ${cell.environment}: the release`} path={pageOfRun(cell.dag_id ?? "", cell.run_id ?? "")} title={`since ${when(cell.since)}`}>
        {cell.version}
      </To>
      <Text as="span" color="fg.muted" fontSize="xs" whiteSpace="nowrap">{` ${span(cell.since, now)}`}</Text>
    </>
  ) : (
    <Text as="span" color="fg.muted">—</Text>
  );
  return (
    <Box display={narrow ? "flex" : "block"} gap={2} minWidth={0} overflow="hidden" px={narrow ? 0 : 2} role="cell" whiteSpace="nowrap">
      {narrow ? <Text as="span" color="fg.muted" flexShrink={0} width="7.5em" overflow="hidden" textOverflow="ellipsis">{cell.environment}</Text> : null}
      <Box>{runs}</Box>
      <Box display="flex" gap={1} minWidth={0} overflow="hidden">{flags}</Box>
    </Box>
  );
}

function Status({ row, now, narrow }: { row: Row; now: number; narrow: boolean }) {
  const first = row.in_flight?.[0];
  const more = (row.in_flight?.length ?? 0) - 1;
  const leaves = row.next_departure;
  return (
    <Box minWidth={0} overflow="hidden" px={narrow ? 0 : 2} role="cell" textOverflow="ellipsis" whiteSpace="nowrap">
      {first ? (
        <Box display="flex" gap={1} alignItems="center" minWidth={0}>
          <To path={pageOfRun(first.dag_id, first.run_id)} title={`Requested by ${first.requested_by || "nobody"}`}>
            {first.rollback ? `Rollback ${first.version}` : first.version || "Release"}
          </To>
          <Tag color={DOES[first.state][1]} title={first.stage_title ?? ""}>
            {first.stage_title ? `${first.stage_number} ${first.stage_title}: ${DOES[first.state][0]}` : DOES[first.state][0]}
          </Tag>
          {more > 0 ? <To path={pageOfDag(row.release_dag_id)}>{`+${more}`}</To> : null}
        </Box>
      ) : null}
      {leaves ? (
        <Text as="span" color="fg.muted" fontSize="xs" title={`${leaves.title}, ${when(leaves.at)}${leaves.moved ? ", moved by a calendar" : ""}`}>
          {`Next: ${leaves.title} in ${span(leaves.at, now)}`}
        </Text>
      ) : null}
      {!first && !leaves ? <Text as="span" color="fg.muted">—</Text> : null}
    </Box>
  );
}

function RowOf({ row, environments, now, narrow }: { row: Row; environments: readonly string[]; now: number; narrow: boolean }) {
  const cells = new Map(row.cells.map((cell) => [cell.environment, cell]));
  const about = [row.business_unit, `tier ${row.tier}`, row.owner].filter(Boolean).join(" · ");
  return (
    <>
      <Box minWidth={0} overflow="hidden" role="rowheader" whiteSpace="nowrap">
        <Text as="span" fontWeight="semibold" title={row.title}>{row.title}</Text>
        <Text as="div" color="fg.muted" fontSize="xs" overflow="hidden" textOverflow="ellipsis" title={about}>
          <To aria-label={`History of ${row.title}`} path={`${pageOfDag(row.release_dag_id)}/runs`}>history</To>
          {" · "}
          <To aria-label={`Roll ${row.title} back`} path={pageOfDag(row.rollback_dag_id)}>roll back</To>
          {` · ${about}`}
        </Text>
      </Box>
      {environments.map((name) => (
        <CellOf key={name} cell={cells.get(name)} narrow={narrow} now={now} row={row} />
      ))}
      <Status narrow={narrow} now={now} row={row} />
    </>
  );
}

export function Board() {
  const [asked] = useSearchParams();
  const wanted = FILTERS.flatMap((name) => asked.getAll(name).map((value) => `${name}=${value}`)).join("&");
  const [blocks, keep] = useState<{ of: string; found: Map<number, Collection> }>({ of: wanted, found: new Map() });
  const [fault, fail] = useState("");
  const [top, scroll] = useState(0);
  const [height, measure] = useState(600);
  const view = useRef<HTMLDivElement | null>(null);
  const pending = useRef(new Set<string>());
  const width = useWidth();
  const narrow = width < NARROW;

  const load = useCallback(
    (block: number) => {
      const key = `${wanted}#${block}`;
      if (pending.current.has(key)) return;
      pending.current.add(key);
      get("/board", { ...query(asked), limit: BLOCK, offset: block * BLOCK })
        .then(
          (found) => {
            fail("");
            keep((had) => ({ of: wanted, found: new Map([...(had.of === wanted ? had.found : []), [block, found]]) }));
          },
          (error: Error) => fail(error.message),
        )
        .finally(() => pending.current.delete(key));
    },
    [wanted],
  );

  const known = blocks.found.values().next().value as Collection | undefined;
  const current = blocks.of === wanted;
  const environments = known?.environments ?? [];
  const total = current ? (known?.total_entries ?? 0) : 0;
  const tall = narrow ? 84 + 26 * environments.length : 54;
  const first = Math.max(0, Math.floor(top / tall) - OVERSCAN);
  const last = Math.min(total, Math.ceil((top + height) / tall) + OVERSCAN);
  const shown = useMemo(() => {
    const found: number[] = [];
    for (let block = Math.floor(first / BLOCK); block * BLOCK < Math.max(last, 1); block += 1) found.push(block);
    return found;
  }, [first, last]);

  useEffect(() => {
    if (view.current) view.current.scrollTop = 0;
    scroll(0);
  }, [wanted]);
  useEffect(() => shown.forEach((block) => (current && blocks.found.has(block)) || load(block)), [shown, wanted, blocks]);
  useEvery(EVERY, () => shown.forEach(load), [wanted]);
  useEffect(() => {
    if (!view.current) return;
    const watch = new ResizeObserver(([seen]) => seen && measure(seen.contentRect.height));
    watch.observe(view.current);
    return () => watch.disconnect();
  }, []);

  const columns = narrow ? "1fr" : `minmax(11em, 1.6fr) repeat(${environments.length}, minmax(7em, 1fr)) minmax(10em, 1.6fr)`;
  const grid = { display: "grid", gridTemplateColumns: columns, columnGap: 2, alignItems: narrow ? "start" : "center", px: 3 };
  const now = known ? new Date(known.at).getTime() : Date.now();
  const rows = [];
  for (let number = first; number < last; number += 1) {
    const row = blocks.found.get(Math.floor(number / BLOCK))?.services[number % BLOCK];
    rows.push(
      <Box {...grid} key={row?.service ?? number} aria-rowindex={number + 2} borderBottomWidth={1} height={`${tall}px`} left={0} overflow="hidden" position="absolute" py={narrow ? 2 : 0} right={0} role="row" top={`${number * tall}px`} _hover={{ bg: "bg.subtle" }}>
        {row ? <RowOf environments={environments} narrow={narrow} now={now} row={row} /> : <Box color="fg.muted" role="cell">Loading…</Box>}
      </Box>,
    );
  }
  return (
    <Box data-testid="interlock-board" display="flex" flexDirection="column" height="100%" minHeight="20em" p={narrow ? 2 : 4}>
      <Box alignItems="baseline" display="flex" flexWrap="wrap" gap={3} mb={2}>
        <Heading as="h1" size="lg">Board</Heading>
        <Text aria-live="polite" color="fg.muted" fontSize="sm">
          {known && current ? `${total.toLocaleString("en-GB")} ${total === 1 ? "service" : "services"}, ${when(known.at)}` : "Loading…"}
        </Text>
      </Box>
      <Box display="flex" flexWrap="wrap" gap={2} mb={2}>
        <NameFilter />
        <Filter choices={pairs(known?.business_units)} label="Business unit" name="business_unit" />
        <Filter choices={[1, 2, 3, 4].map((one): [string, string] => [`${one}`, `Tier ${one}`])} label="Tier" name="tier" />
        <Filter choices={pairs(known?.owners)} label="Owner" name="owner" />
        <Filter choices={Object.entries(STATES)} label="State" name="state" />
      </Box>
      {fault ? <Fault>{`The board could not be read: ${fault}`}</Fault> : null}
      {known?.faults.map((said) => <Fault key={said}>{said}</Fault>)}
      <Box borderWidth={1} display="flex" flex={1} flexDirection="column" fontSize="sm" minHeight="14em" rounded="md" overflow="hidden" aria-label="Services and environments" aria-rowcount={total + 1} role="table">
        <Box role="rowgroup">
          <Box {...grid} aria-rowindex={1} bg="bg.muted" borderBottomWidth={1} color="fg.muted" fontWeight="semibold" role="row" {...(narrow ? { height: "1px", overflow: "hidden" } : { py: 2 })}>
            {["Service", ...environments, "Under way, next departure"].map((name) => (
              <Box key={name} minWidth={0} overflow="hidden" px={name === "Service" || narrow ? 0 : 2} role="columnheader" textOverflow="ellipsis" whiteSpace="nowrap">{name}</Box>
            ))}
          </Box>
        </Box>
        <Box ref={view} aria-label="Rows" flex={1} onScroll={(event: React.UIEvent<HTMLDivElement>) => scroll(event.currentTarget.scrollTop)} overflowY="auto" position="relative" role="rowgroup" tabIndex={0}>
          {!known && !fault ? <Spinner m={4} /> : null}
          {known && current && !total ? <Empty filtered={wanted !== ""} /> : null}
          <Box height={`${total * tall}px`} position="relative" role="presentation">{rows}</Box>
        </Box>
      </Box>
    </Box>
  );
}

function Empty({ filtered }: { filtered: boolean }) {
  return (
    <Box p={4} role="row">
      <Box role="cell">
        {filtered
          ? "No service matches these filters. Choose all in one of them to see more."
          : "You may read the Dags of no service. A service appears here when its file is in the catalogue and Airflow has read its release Dag."}
      </Box>
    </Box>
  );
}
