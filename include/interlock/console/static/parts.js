// What the pages of a release are made of: tables that a narrow screen shows as cards, states, instants and defects.

import { element } from "./airflow.js";

const LONG = 60; // characters of a cell that a narrow screen must not squeeze into a column of one word

export const when = (instant) => (instant ? new Date(instant).toISOString().slice(0, 16).replace("T", " ") + " UTC" : "—");
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
export const code = (text, whole = null) => element("code", { title: whole }, text ?? "—");
export const isolated = (text) => element("bdi", {}, text); // a mark of direction in it turns nothing around it
export const quiet = (...content) => element("div", { class: "quiet" }, ...content);
export const at = (instant) => element("div", { class: "quiet when" }, when(instant));
export const pill = (state, kind = state) => element("span", { class: `pill ${kind.replaceAll(" ", "-").replaceAll("_", "-")}` }, state.replaceAll("_", " "));
export const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
export const section = (title, ...content) => element("section", {}, element("h2", {}, title), ...content);

// A narrow screen shows each row as a card, headed by its first cell; of a plain table, that has its name before it, too.
export function table(heads, rows, empty = "", kind = "cards plain") {
  if (!rows.length) return element("p", { class: "quiet" }, empty);
  const made = (cell, column) => {
    const one = element("td", { "data-head": heads[column] }, cell ?? "—");
    if (one.textContent.length > LONG) one.className = "long";
    return one;
  };
  const cells = (row) => element("tr", {}, row.map(made));
  const head = element("thead", {}, element("tr", {}, heads.map((name) => element("th", { scope: "col" }, name))));
  return element("div", { class: "wide" }, element("table", { class: kind }, head, element("tbody", {}, rows.map(cells))));
}

// What a release does to the defects of its service, what stops it first.
const ENDS = {
  new: ["brought along by this release", "failed"],
  open: ["open from before", "late"],
  accepted: ["accepted as known", "late"],
  fixed: ["fixed by this release", "passed"],
};

export function defectTable(defects) {
  const order = Object.keys(ENDS);
  const rank = (one) => (one.stops && one.state !== "accepted" ? -1 : order.indexOf(one.state));
  const rows = [...defects].sort((one, other) => rank(one) - rank(other)).map((one) => [
    [code(one.id), ` ${one.title}`],
    one.severity,
    `${one.version}, in ${one.environment}`,
    [pill(ENDS[one.state][0], one.stops && one.state === "open" ? "failed" : ENDS[one.state][1]), one.until ? quiet(`until ${when(one.until)}`) : "", one.stops ? quiet(one.stops) : ""],
  ]);
  return table(["Defect", "Severity", "Found in", "Now"], rows, "", "cards");
}
