// What the pages of one run are made of: a sheet of sections, tables that a narrow place shows as cards, states.
import { get, Schemas } from "./client";
import { Box, Heading, Props, React, Text } from "./host";
import { Tag, when } from "./parts";

/** What Airflow gives to a page of a run. */
export interface Run {
  dagId: string;
  runId: string;
}

/** What people call everybody: user name to name. */
export type Names = Record<string, string>;

export const placeOf = ({ dagId, runId }: Run) => ({ params: { dag_id: dagId, dag_run_id: runId } });
export const pageOf = ({ dagId, runId }: Run): string => `/dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
export const readNames = (): Promise<Names> => get("/names", {}).catch(() => ({}));
export const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
export const sizeOf = (bytes: number): string => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
export const whenOr = (instant: string | null | undefined): string => (instant ? when(instant) : "—");

const LONG = 60; // characters of a cell that a narrow place must not squeeze into a column of one word
const STYLE = {
  containerType: "inline-size",
  "& code": { fontFamily: "mono", fontSize: "0.9em", overflowWrap: "anywhere" },
  "& table": { borderCollapse: "collapse", my: 1, width: "100%" },
  "& th, & td": { borderBottomWidth: "1px", paddingBlock: 1.5, paddingInline: "0 10px", textAlign: "left", verticalAlign: "top" },
  "& th": { color: "fg.muted", fontWeight: "semibold", whiteSpace: "nowrap" },
  "& td": { minWidth: "3.5em", overflowWrap: "break-word" },
  "& td.long": { minWidth: "14em", overflowWrap: "anywhere" },
  "& td > bdi:only-child, & .when": { whiteSpace: "nowrap" },
  "& td.long > bdi:only-child": { whiteSpace: "normal" },
  "& ul": { listStyleType: "disc", paddingInlineStart: 5 },
  "& dl": { display: "grid", gap: "4px 16px", gridTemplateColumns: "max-content 1fr", mt: 3 },
  "& dt": { color: "fg.muted" },
  "& dd": { overflowWrap: "anywhere" },
  "@container (min-width: 900px)": {
    "& dl": { gridTemplateColumns: "max-content 1fr max-content 1fr" },
    "& td.short, & td > code, & td > a > code": { whiteSpace: "nowrap" },
  },
  "@container (max-width: 520px)": {
    "& dl": { gridTemplateColumns: "1fr" },
    "& thead": { display: "none" },
    "& tr": { borderBottomWidth: "1px", display: "block", py: 2 },
    "& td": { borderBottomWidth: 0, display: "flow-root", minWidth: 0, overflowWrap: "anywhere", paddingBlock: "2px", paddingInlineStart: "8.5em" },
    "& td.long": { minWidth: 0 },
    "& td:first-of-type": { fontWeight: "semibold", paddingInlineStart: 0 },
    "& td:not(:first-of-type)::before": { color: "fg.muted", content: "attr(data-head)", float: "left", marginInlineStart: "-8.5em", width: "8em" },
    "& td:empty": { display: "none" },
  },
};

/** A page of a run, in which tables become cards where it is narrow. */
export function Sheet({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <Box data-testid={`interlock-${name}`} fontSize="sm" height="100%" overflowY="auto" p={{ base: 2, md: 4 }} tabIndex={0}>
      <Box css={STYLE} marginInline="auto" maxWidth="1320px">{children}</Box>
    </Box>
  );
}

export function Section({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <section>
      <Heading as="h2" borderBottomWidth={1} mb={2} mt={6} pb={1} size="md">{title}</Heading>
      {children}
    </section>
  );
}

export const Quiet = ({ children, ...more }: Props) => <Box color="fg.muted" fontWeight="normal" {...more}>{children}</Box>;
export const At = ({ instant }: { instant: string | null }) => <Quiet className="when">{whenOr(instant)}</Quiet>;
export const Code = ({ text, whole }: { text: string | null | undefined; whole?: string | undefined }) => <code title={whole}>{text ?? "—"}</code>;
/** What people wrote: a mark of direction in it turns nothing around it. */
export const Isolated = ({ children }: { children: string }) => <bdi>{children}</bdi>;

const COLORS: [string, string[]][] = [
  ["green", ["done", "success", "deployed", "rehearsed", "passed", "approved", "Approve", "Acknowledge", "unchanged"]],
  ["red", ["failed", "irreversible", "rejected", "not departed", "Reject", "expired", "Not ready", "no answer", "marked manually, no answer", "vetoed"]],
  ["blue", ["running", "queued", "under way"]],
  ["orange", ["waiting for answers", "waiting", "late", "backed out", "withdrawn", "overtaken"]],
];

/** A state, in the color of its kind. */
export function Pill({ state, kind = state }: { state: string; kind?: string | undefined }) {
  const color = COLORS.find(([, kinds]) => kinds.includes(kind.replaceAll("_", " ")))?.[0] ?? "gray";
  return <Tag color={color}>{state.replaceAll("_", " ")}</Tag>;
}

function lengthOf(node: React.ReactNode): number {
  if (Array.isArray(node)) return node.reduce<number>((sum, one) => sum + lengthOf(one as React.ReactNode), 0);
  if (React.isValidElement(node)) return lengthOf((node.props as { children?: React.ReactNode }).children);
  return typeof node === "string" || typeof node === "number" ? String(node).length : 0;
}

interface TableProps {
  heads: readonly string[];
  rows: readonly (readonly React.ReactNode[])[];
  /** What is said if there are no rows. */
  empty?: string;
}

export function Table({ heads, rows, empty = "" }: TableProps) {
  if (!rows.length) return <Quiet>{empty}</Quiet>;
  return (
    <Box overflowX="auto">
      <table>
        <thead>
          <tr>{heads.map((name) => <th key={name} scope="col">{name}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row, number) => (
            <tr key={number}>
              {row.map((cell, column) => (
                <td className={lengthOf(cell) > LONG ? "long" : undefined} data-head={heads[column]} key={heads[column]}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Box>
  );
}

/** Each in a line of its own. */
export const Lines = ({ of }: { of: readonly React.ReactNode[] }) => <ul>{of.map((one, number) => <li key={number}>{one}</li>)}</ul>;

export const ZoneOfTimes = () => <Text color="fg.muted" mt={4}>All times on this page are in UTC.</Text>;

// What a release does to the defects of its service, what stops it first.
const ENDS: Record<Schemas["DefectLine"]["state"], [string, string]> = {
  new: ["brought along by this release", "failed"],
  open: ["open from before", "late"],
  accepted: ["accepted as known", "late"],
  fixed: ["fixed by this release", "passed"],
};

export function Defects({ found }: { found: readonly Schemas["DefectLine"][] }) {
  if (!found.length) return null;
  const order = Object.keys(ENDS);
  const rank = (one: Schemas["DefectLine"]) => (one.stops && one.state !== "accepted" ? -1 : order.indexOf(one.state));
  const rows = [...found].sort((one, other) => rank(one) - rank(other)).map((one) => [
    <><Code text={one.id} /> <Isolated>{one.title}</Isolated></>,
    one.severity,
    `${one.version}, in ${one.environment}`,
    <>
      <Pill kind={one.stops && one.state === "open" ? "failed" : ENDS[one.state][1]} state={ENDS[one.state][0]} />
      {one.until ? <Quiet>{`until ${when(one.until)}`}</Quiet> : null}
      {one.stops ? <Quiet>{one.stops}</Quiet> : null}
    </>,
  ]);
  return <Section title="Defects"><Table heads={["Defect", "Severity", "Found in", "Now"]} rows={rows} /></Section>;
}
