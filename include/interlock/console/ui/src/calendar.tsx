// The page Release calendar: departures, calendars, bookings, conflicts and past releases, by month, week and agenda.
import { Calendar, CalendarOptions, EventInput } from "fullcalendar";
import dayGrid from "fullcalendar/daygrid";
import list from "fullcalendar/list";
import classic from "fullcalendar/themes/classic";
import timeGrid from "fullcalendar/timegrid";
import palette from "fullcalendar/themes/classic/palette.css";
import skeleton from "fullcalendar/skeleton.css";
import theme from "fullcalendar/themes/classic/theme.css";
import own from "./calendar.css";
import { base, get, Schemas } from "./client";
import { Box, Heading, React, Text, useEffect, useNavigate, useRef, useState } from "./host";
import { Banner, Fault, inForce, To } from "./parts";

type Found = Schemas["ShownSchedule"];
type Item = Schemas["ScheduledItem"];
type Tone = "busy" | "wait" | "idle" | "good" | "bad" | "clash" | "due" | "calm";

const STYLE = [skeleton, theme, palette, own].join("\n");
const STATES: Record<string, Tone> = {
  deployed: "good", rehearsed: "good", allow: "good", planned: "busy", boarding: "busy", running: "busy", moved: "wait",
  deny: "bad", paused: "idle", withdrawn: "idle", overtaken: "idle", empty: "calm",
};
const KINDS: Record<string, Tone> = { conflict: "clash", milestone: "due", release: "bad", train: "bad" };
const LEGEND: [Tone, string][] = [
  ["busy", "departure, booking"],
  ["wait", "departure moved by a calendar"],
  ["idle", "paused, withdrawn, overtaken"],
  ["good", "deployed, change window"],
  ["bad", "freeze, failed"],
  ["clash", "conflict"],
  ["due", "milestone"],
  ["calm", "information only"],
];
const MOST_CONFLICTS = 5;
const CLOCK = { hour: "2-digit", minute: "2-digit", hour12: false } as const;

const toneOf = (item: Item): Tone => STATES[item.state] ?? KINDS[item.kind] ?? "calm";
const shown = (at: string | Date): string =>
  new Date(at).toLocaleString("en-GB", { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** An item as FullCalendar has it; a mark of a color is looked up at the place where it is drawn. */
function eventOf(item: Item, place: HTMLElement): EventInput {
  const tone = toneOf(item);
  const shade = item.kind === "conflict" ? "clash" : tone === "calm" || tone === "idle" ? "quiet" : tone;
  const days = item.day ? { start: item.day, end: item.until_day ?? item.day, allDay: true } : null; // wherever the reader is
  return {
    id: item.id,
    title: item.kind === "conflict" ? `⚠ ${item.title}` : item.title,
    start: item.start,
    end: item.end,
    ...days,
    display: item.kind === "departure" ? "auto" : "block", // in a month, a departure is a dot
    color: getComputedStyle(place).getPropertyValue(`--${shade}`),
    contrastColor: place.dataset.colorScheme === "dark" ? "#111" : "#fff",
    extendedProps: { about: item.about, path: item.path, look: `item ${item.kind} ${tone}`, rank: item.kind === "conflict" ? 0 : 1 },
  };
}

const OPTIONS: CalendarOptions = {
  plugins: [dayGrid, timeGrid, list, classic],
  initialView: "dayGridMonth",
  headerToolbar: { start: "prev,next today", center: "title", end: "dayGridMonth,timeGridWeek,listMonth" },
  listText: "Agenda",
  todayHint: "Today", // a name begins with what is written
  firstDay: 1,
  nowIndicator: true,
  eventTimeFormat: CLOCK,
  slotHeaderFormat: CLOCK,
  height: "auto",
  dayMaxEvents: 6,
  eventClass: ({ event: one }) => one.extendedProps.look as string,
  listItemEventBeforeClass: "dot",
  listItemEventTitleClass: "title",
  rowEventTitleClass: "title",
  slotEventOverlap: false,
  views: {
    timeGridWeek: { columnEventTitleClass: "title", displayEventTime: false, eventMinHeight: 36 }, // the axis says when
    dayGridMonth: {
      eventOrder: "rank,start,-duration,allDay,title", // conflicts are not what "+ 3 more" hides
      listItemEventTitleClass: "title short",
      rowEventTitleClass: "title short",
    },
  },
  eventDidMount: ({ el, event: one, view }) => {
    const about = one.extendedProps.about as string;
    const time = one.allDay || !one.start ? [] : [`${shown(one.start)} – ${shown(one.end ?? one.start)}`];
    el.setAttribute("title", [one.title, ...time, about].filter(Boolean).join("\n"));
    if (!view.type.startsWith("list") || !about) return;
    const more = document.createElement("div");
    more.className = "quiet";
    more.textContent = about;
    el.querySelector(".title")?.append(more);
  },
};

/** Whether Airflow's page is dark, as it changes. */
function useDark(): boolean {
  const isDark = () => document.documentElement.classList.contains("dark");
  const [dark, change] = useState(isDark);
  useEffect(() => {
    const watching = new MutationObserver(() => change(isDark()));
    watching.observe(document.documentElement, { attributeFilter: ["class"] });
    return () => watching.disconnect();
  }, []);
  return dark;
}

function Conflicts({ found }: { found: readonly Item[] }) {
  if (!found.length) return null;
  const line = (item: Item) => {
    const what = `${shown(item.start)} · ${item.title}`;
    return <li key={item.id}>{item.path ? <To path={`/${item.path}`}>{what}</To> : what} <Text as="span" color="fg.muted">{item.about}</Text></li>;
  };
  const more = found.slice(MOST_CONFLICTS);
  const lines = (of: readonly Item[]) => <Box as="ul" listStyleType="disc" my={1} pl={5}>{of.map(line)}</Box>;
  return (
    <Box bg="bg.subtle" borderColor="pink.solid" borderLeftWidth={4} mb={2} overflowWrap="anywhere" px={4} py={2} rounded="sm">
      Conflicts in the next 60 days
      {lines(found.slice(0, MOST_CONFLICTS))}
      {more.length ? <details><summary>{`${more.length} more`}</summary>{lines(more)}</details> : null}
    </Box>
  );
}

function ZoneOfTimes() {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const times = `Times are shown in your browser's time zone${timeZone ? `, ${timeZone}` : ""}`;
  return <Text color="fg.muted" my={2}>{`${times}. Entries of whole days are shown on their days in the time zone of their calendar.`}</Text>;
}

export function ReleaseCalendar() {
  const [found, show] = useState<Found | null>(null);
  const [held, hold] = useState<string[]>([]);
  const [fault, fail] = useState("");
  const go = useNavigate();
  const place = useRef<HTMLDivElement>(null);
  const drawn = useRef<Calendar>(null);
  const dark = useDark();
  useEffect(() => {
    const calendar = new Calendar(place.current!, {
      ...OPTIONS,
      events: async (asked: { start: Date; end: Date }) => {
        try {
          const query = { start: asked.start.toISOString(), end: asked.end.toISOString() };
          const [now, stops] = await Promise.all([get("/schedule", query), inForce()]);
          fail("");
          show(now);
          hold(stops);
          const sheet = place.current?.parentElement;
          return sheet ? now.items.map((item) => eventOf(item, sheet)) : [];
        } catch (error) {
          fail((error as Error).message);
          return [];
        }
      },
      eventClick: ({ event: one, jsEvent }) => {
        jsEvent.preventDefault();
        if (one.extendedProps.path) go(`/${one.extendedProps.path as string}`);
      },
    });
    drawn.current = calendar;
    calendar.render();
    return () => calendar.destroy();
  }, []);
  useEffect(() => void (found && drawn.current?.refetchEvents()), [dark]); // the colors are those of a theme
  return (
    <Box data-testid="interlock-calendar" fontSize="sm" height="100%" overflowY="auto" p={{ base: 2, md: 4 }} tabIndex={0}>
      <style>{STYLE}</style>
      <Box className="interlock-calendar" data-color-scheme={dark ? "dark" : "light"} marginInline="auto" maxWidth="1320px">
        <Heading as="h1" mb={2} size="lg">Release calendar</Heading>
        {fault ? <Fault>{`The calendar could not be read: ${fault}`}</Fault> : null}
        {held.map((said) => <Fault key={said}>{said}</Fault>)}
        {found?.faults.map((said) => <Fault key={said}>{said}</Fault>)}
        {found?.notes.map((said) => <Banner color="orange.solid" key={said}>{said}</Banner>)}
        <Conflicts found={found?.conflicts ?? []} />
        <ul className="legend">{LEGEND.map(([tone, text]) => <li className={tone} key={tone}>{text}</li>)}</ul>
        <ZoneOfTimes />
        <div className="calendar" ref={place} />
        {found?.feed ? (
          <Text color="fg.muted" mt={2}>
            {"Subscribe with your personal address (do not share it): "}
            <a href={new URL(base + found.feed, location.origin).href} style={{ textDecoration: "underline" }}>iCalendar feed</a>
          </Text>
        ) : null}
      </Box>
    </Box>
  );
}

Object.assign(globalThis, { "Release calendar": ReleaseCalendar });
