// The release calendar: departures, calendars, bookings, conflicts and past releases, by month, week and agenda.

import { banners, base, element, link, read, visit } from "./airflow.js";

const dark = document.documentElement.dataset.theme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
document.documentElement.dataset.colorScheme = dark ? "dark" : "light";

const STATES = {
  deployed: "good", rehearsed: "good", allow: "good", planned: "busy", boarding: "busy", running: "busy", moved: "wait",
  deny: "bad", paused: "idle", withdrawn: "idle", overtaken: "idle", empty: "calm",
};
const KINDS = { conflict: "clash", milestone: "due", release: "bad", train: "bad" };
const LEGEND = [
  ["busy", "departure, booking"],
  ["wait", "departure moved by a calendar"],
  ["idle", "paused, withdrawn, overtaken"],
  ["good", "deployed, change window"],
  ["bad", "freeze, failed"],
  ["clash", "conflict"],
  ["due", "milestone"],
  ["calm", "information only"],
];
const SHADES = { calm: "quiet", idle: "quiet" };
const MOST_CONFLICTS = 5;
const said = document.getElementById("said");

const tone = (item) => STATES[item.state] ?? KINDS[item.kind] ?? "calm";
const shade = (item) => (item.kind === "conflict" ? "clash" : tone(item));
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${SHADES[name] ?? name}`);
const shown = (at) => new Date(at).toLocaleString("en-GB", { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

function event(item) {
  const days = item.day ? { start: item.day, end: item.until_day, allDay: true } : null; // wherever the reader is
  return {
    id: item.id,
    title: item.kind === "conflict" ? `⚠ ${item.title}` : item.title,
    start: item.start,
    end: item.end,
    ...days,
    display: item.kind === "departure" ? "auto" : "block", // in a month, a departure is a dot
    color: color(shade(item)),
    contrastColor: dark ? "#111" : "#fff",
    extendedProps: { about: item.about, path: item.path, look: `item ${item.kind} ${tone(item)}`, rank: item.kind === "conflict" ? 0 : 1 },
  };
}

function conflict(item) {
  const what = `${shown(item.start)} · ${item.title}`;
  return element("li", {}, item.path ? link(what, item.path) : what, " ", element("span", { class: "quiet" }, item.about));
}

function conflicts(items) {
  const more = items.slice(MOST_CONFLICTS);
  return element(
    "div",
    { class: "reason clash" },
    "Conflicts in the next 60 days",
    element("ul", {}, items.slice(0, MOST_CONFLICTS).map(conflict)),
    more.length ? element("details", {}, element("summary", {}, `${more.length} more`), element("ul", {}, more.map(conflict))) : null,
  );
}

function zoneOfTimes() {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const times = timeZone ? `Times are shown in your browser's time zone, ${timeZone}` : "Times are shown in your browser's time zone";
  return element("p", { class: "quiet" }, `${times}. Entries of whole days are shown on their days in the time zone of their calendar.`);
}

function say(found, held) {
  const lists = [...held];
  for (const fault of found.faults) lists.push(element("p", { class: "reason bad" }, fault));
  for (const note of found.notes) lists.push(element("p", { class: "reason wait" }, note));
  if (found.conflicts.length) lists.push(conflicts(found.conflicts));
  lists.push(element("ul", { class: "legend" }, LEGEND.map(([name, text]) => element("li", { class: name }, text))), zoneOfTimes());
  said.replaceChildren(...lists);
  const feed = document.getElementById("feed");
  if (found.feed) {
    const address = new URL(base + found.feed, location.origin).href;
    feed.replaceChildren("Subscribe with your personal address (do not share it): ", element("a", { href: address }, "iCalendar feed"));
  }
}

function tell({ el, event: one, view }) {
  const when = one.allDay ? [] : [`${shown(one.start)} – ${shown(one.end ?? one.start)}`];
  el.setAttribute("title", [one.title, ...when, one.extendedProps.about].filter(Boolean).join("\n"));
  if (view.type.startsWith("list") && one.extendedProps.about) {
    el.querySelector(".title")?.append(element("div", { class: "quiet" }, one.extendedProps.about));
  }
}

const { Calendar } = FullCalendar;
const calendar = new Calendar(document.getElementById("calendar"), {
  initialView: "dayGridMonth",
  headerToolbar: { start: "prev,next today", center: "title", end: "dayGridMonth,timeGridWeek,listMonth" },
  listText: "Agenda",
  firstDay: 1,
  nowIndicator: true,
  eventTimeFormat: { hour: "2-digit", minute: "2-digit", hour12: false },
  slotHeaderFormat: { hour: "2-digit", minute: "2-digit", hour12: false },
  height: "auto",
  dayMaxEvents: 6,
  eventClass: ({ event: one }) => one.extendedProps.look,
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
  events: async (asked) => {
    const query = new URLSearchParams({ start: asked.start.toISOString(), end: asked.end.toISOString() });
    try {
      const [found, held] = await Promise.all([read(`interlock/schedule?${query}`), banners()]);
      say(found, held);
      return found.items.map(event);
    } catch (error) {
      said.replaceChildren(element("p", { class: "reason bad" }, error.message));
      return [];
    }
  },
  eventDidMount: tell,
  eventClick: ({ event: one, jsEvent }) => {
    jsEvent.preventDefault();
    if (one.extendedProps.path) visit(one.extendedProps.path);
  },
});
calendar.render();
