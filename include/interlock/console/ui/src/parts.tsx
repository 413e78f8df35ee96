// Small parts that pages share.
import { base, get } from "./client";
import { Badge, Box, Input, Link, NativeSelect, Props, React, Text, useEffect, useRef, useSearchParams, useState } from "./host";

export const when = (instant: string): string => `${new Date(instant).toISOString().slice(0, 16).replace("T", " ")} UTC`;

const UNITS: [number, string][] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
];

/** How long something is away from an instant, in its largest unit: 3 d. */
export function span(from: string, to: number): string {
  const length = Math.abs(to - new Date(from).getTime());
  for (const [size, name] of UNITS) if (length >= size) return `${Math.floor(length / size)} ${name}`;
  return "1 min";
}

export const pageOfRun = (dag: string, run: string): string =>
  `/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}/plugin/release`;
export const pageOfDag = (dag: string): string => `/dags/${encodeURIComponent(dag)}`;

export function To({ path, children, ...more }: Props & { path: string }) {
  return (
    <Link to={path} style={{ color: "var(--chakra-colors-fg-info)", textDecoration: "underline", textUnderlineOffset: "2px" }} {...more}>
      {children}
    </Link>
  );
}

export function Tag({ color, title, children }: { color: string; title?: string; children: React.ReactNode }) {
  return (
    <Badge colorPalette={color} maxWidth="100%" minWidth={0} overflow="hidden" size="sm" title={title} variant="subtle">
      <span style={{ overflow: "hidden", textOverflow: "ellipsis" }}>{children}</span>
    </Badge>
  );
}

export function Banner({ color, children, ...more }: Props & { color: string }) {
  return (
    <Box bg="bg.subtle" borderColor={color} borderLeftWidth={4} mb={2} overflowWrap="anywhere" px={4} py={2} rounded="sm" {...more}>
      <Text>{children}</Text>
    </Box>
  );
}

export const Fault = ({ children }: { children: React.ReactNode }) => <Banner color="red.solid" role="alert">{children}</Banner>;

/** Width of the window in pixels, as it changes. */
export function useWidth(): number {
  const [width, change] = useState(innerWidth);
  useEffect(() => {
    const measure = () => change(innerWidth);
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, []);
  return width;
}

/** Call something now and every so many milliseconds while the page is in view. */
export function useEvery(milliseconds: number, act: () => void, because: unknown[]): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    latest.current();
    const timer = setInterval(() => document.hidden || latest.current(), milliseconds);
    return () => clearInterval(timer);
  }, because);
}

export const asset = (path: string): string => base + path;

export const pairs = (names: readonly string[] | undefined): [string, string][] => (names ?? []).map((one) => [one, one]);

/** Replace parameters of the page's address, so that what is seen can be sent to somebody; empty ones go. */
export function useAddress(): [URLSearchParams, (changes: Record<string, string>) => void] {
  const [asked, ask] = useSearchParams();
  const change = (changes: Record<string, string>) => {
    const next = new URLSearchParams(location.search); // not as it was drawn: another choice may have come since
    for (const [name, value] of Object.entries(changes)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    ask(next, { replace: true });
  };
  return [asked, change];
}

interface FilterProps {
  name: string;
  label: string;
  choices: [string, string][];
  /** What is chosen if the address says nothing; without it, there is a choice of all. */
  initial?: string;
}

/** A choice of one value, kept in the address. */
export function Filter({ name, label, choices, initial = "" }: FilterProps) {
  const [asked, change] = useAddress();
  const chosen = asked.get(name) ?? initial;
  const known = choices.some(([value]) => value === chosen) || !chosen;
  return (
    <NativeSelect.Root flexBasis="8em" flexGrow={1} maxWidth="18em" size="sm" width="auto">
      <NativeSelect.Field aria-label={label} onChange={(event: React.ChangeEvent<HTMLSelectElement>) => change({ [name]: event.target.value })} value={chosen}>
        {initial ? null : <option value="">{label}: all</option>}
        {known ? null : <option value={chosen}>{chosen}</option>}
        {choices.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </NativeSelect.Field>
      <NativeSelect.Indicator />
    </NativeSelect.Root>
  );
}

/** Part of a service's name, kept in the address once the typing pauses. */
export function NameFilter() {
  const [asked, change] = useAddress();
  const [typed, type] = useState(asked.get("name") ?? "");
  useEffect(() => {
    if (typed === (asked.get("name") ?? "")) return;
    const timer = setTimeout(() => change({ name: typed }), 300);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <Input
      aria-label="Part of the service's name"
      flexBasis="8em"
      flexGrow={1}
      maxLength={200}
      maxWidth="18em"
      onChange={(event: React.ChangeEvent<HTMLInputElement>) => type(event.target.value)}
      placeholder="Service"
      size="sm"
      type="search"
      value={typed}
      width="auto"
    />
  );
}

/** What is read once for a page, and why it could not be read. */
export function useRead<T>(read: () => Promise<T>, because: unknown[]): [T | null, string] {
  const [found, show] = useState<T | null>(null);
  const [fault, fail] = useState("");
  useEffect(() => {
    let current = true;
    show(null);
    fail("");
    read().then((one) => current && show(one), (error: Error) => current && fail(error.message));
    return () => void (current = false);
  }, because);
  return [found, fault];
}

/** The emergency stops, freezes and incidents in force, in words; of a Dag, those for its service. */
export const inForce = (dag = ""): Promise<string[]> =>
  get("/in-force", { dag_id: dag }).then(
    ({ stops, freezes, incidents }) => [
      ...stops.map((one) => `Emergency stop in force: ${one}`),
      ...freezes.map((one) => `Freeze in force: ${one}`),
      ...incidents.map((one) => `Incident: ${one}`),
    ],
    (error: Error) => [`Whether an emergency stop or a freeze is in force is not known: ${error.message}`],
  );
