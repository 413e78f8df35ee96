// Small parts that pages share.
import { base } from "./client";
import { Badge, Box, Link, Props, React, Text, useEffect, useRef, useState } from "./host";

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
