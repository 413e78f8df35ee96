"""The pages that are shipped, run by node with a React that only keeps what is drawn: no browser, and no Airflow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interlock.locations import PACKAGE

AIRFLOW = "http://airflow.example/airflow/"


def drawn(folder: Path, page: str, answers: Sequence[tuple[str, Any]], **place: str) -> tuple[Any, str]:
    """Return what a page draws at first, and once it has read something, as JSON.

    :param folder: an empty one.
    :param page: its name in plugin.py.
    :param answers: part of an address, and what is answered there; the first one that fits counts, else nothing is.
    :param place: what Airflow says of the run whose tab it is.
    """
    (folder / "pages.js").write_text((PACKAGE / "console" / "static" / "pages.js").read_text())
    (folder / "answers.json").write_text(json.dumps(answers))
    (folder / "run.mjs").write_text(PAGE)
    command = ["node", "run.mjs", page, AIRFLOW, json.dumps(place)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    return before, json.dumps(after)


PAGE = """
import { readFileSync } from "node:fs";
const answers = JSON.parse(readFileSync("answers.json"));
const [page, address, props] = process.argv.slice(2);
const place = JSON.parse(props);
globalThis.location = new URL(address);
globalThis.innerWidth = 1440;
globalThis.matchMedia = () => ({ matches: false, addEventListener() {}, removeEventListener() {} });
globalThis.document = { querySelector: () => ({ href: address }) };
globalThis.fetch = async (path) => {
  const [, found] = answers.find(([part]) => String(path).includes(part)) ?? [, {}];
  return { ok: true, status: 200, json: async () => found };
};
globalThis.setInterval = () => 0;
const states = [], effects = [];
let hooks = 0;
globalThis.React = {
  createElement: (type, attributes, ...children) =>
    typeof type === "function"
      ? type({ ...attributes, ...(children.length ? { children } : {}) })
      : { type: String(type), ...attributes, children },
  Fragment: "Fragment",
  isValidElement: () => false,
  useCallback: (one) => one,
  useEffect: (one) => { effects.push(one); },
  useMemo: (make) => make(),
  useRef: (current) => ({ current }),
  useState: (first) => {
    const own = hooks++;
    return [states[own] ?? first, (next) => { states[own] = next; }];
  },
};
globalThis.ChakraUI = new Proxy({}, { get: (_, name) => (name === "NativeSelect" ? {} : String(name)) });
globalThis.ReactRouterDOM = {
  Link: "Link",
  useNavigate: () => () => null,
  useSearchParams: () => [new URLSearchParams()],
};
await import("./pages.js");
const before = globalThis[page](place);
effects.forEach((one) => one());
for (let turn = 0; turn < 400 && !states[0] && !states[1]; turn += 1) await new Promise((next) => setTimeout(next, 5));
hooks = 0;
console.log(JSON.stringify([before, globalThis[page](place)]));
"""
