// The release calendar: departures, calendars, bookings and past releases, by month, week and agenda.

import { base, element, read, visit } from "./airflow.js";

const dark = document.documentElement.dataset.theme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
document.documentElement.dataset.colorScheme = dark ? "dark" : "light";

const STATES = { deployed: "good", rehearsed: "good", allow: "good", planned: "busy", moved: "wait", running: "busy", deny: "bad" };
const LEGEND = [
  ["busy", "departure to come, booking"],
  ["wait", "moved departure"],
  ["good", "arrived, change window"],
  ["bad", "freeze, failed"],
  ["calm", "shown only"],
];
const said = document.getElementById("said");

const tone = (item) => STATES[item.state] ?? (item.kind === "release" || item.kind === "train" ? "bad" : "calm");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name === "calm" ? "quiet" : name}`);

function event(item) {
  const shade = color(tone(item));
  return {
    id: item.id,
    title: item.title,
    start: item.start,
    end: item.end,
    allDay: item.all_day && new Date(item.start).getHours() === 0,
    color: shade,
    backgroundColor: shade,
    borderColor: shade,
    extendedProps: { about: item.about, path: item.path, kind: item.kind },
  };
}

function say(found) {
  const lists = [];
  for (const fault of found.faults) lists.push(element("p", { class: "reason bad" }, fault));
  if (found.conflicts.length) {
    lists.push(element("p", { class: "reason wait" }, "Conflicts: ", element("ul", {}, found.conflicts.map((one) => element("li", {}, one)))));
  }
  lists.push(element("ul", { class: "legend" }, LEGEND.map(([name, text]) => element("li", { class: name }, text))));
  said.replaceChildren(...lists);
  const feed = document.getElementById("feed");
  if (found.feed) {
    const address = new URL(base + found.feed, location.origin).href;
    feed.replaceChildren("Subscribe to it, with an address that is yours alone: ", element("a", { href: address }, "iCalendar feed"));
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
  height: "auto",
  dayMaxEvents: 6,
  events: async (asked) => {
    const query = new URLSearchParams({ start: asked.start.toISOString(), end: asked.end.toISOString() });
    try {
      const found = await read(`interlock/schedule?${query}`);
      say(found);
      return found.items.map(event);
    } catch (error) {
      said.replaceChildren(element("p", { class: "reason bad" }, error.message));
      return [];
    }
  },
  eventDidMount: ({ el, event: one }) => el.setAttribute("title", `${one.title}\n${one.extendedProps.about}`),
  eventClick: ({ event: one, jsEvent }) => {
    jsEvent.preventDefault();
    if (one.extendedProps.path) visit(one.extendedProps.path);
  },
});
calendar.render();
