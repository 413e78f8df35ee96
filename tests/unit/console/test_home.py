"""What Interlock adds to Airflow's page Home: the script that is served, and what it draws."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from interlock.locations import PACKAGE
from interlock.plugin import InterlockPlugin

STATIC = PACKAGE / "console" / "static"
(APP,) = [one for one in InterlockPlugin.react_apps if one["destination"] == "dashboard"]


def test_the_script_on_home_is_below_airflows_own_address() -> None:
    folder, _, name = APP["bundle_url"].rpartition("/")
    assert folder == "interlock/static", "whatever Airflow's own address is"
    assert (STATIC / name).is_file()


def test_home_shows_stops_and_the_readers_questions_a_few_of_each_task(tmp_path: Path) -> None:
    """Run the script with a React that only keeps what is drawn."""
    (tmp_path / "pages.js").write_text((STATIC / "pages.js").read_text())
    (tmp_path / "run.mjs").write_text(RUN)
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    drawn = json.dumps(json.loads(done.stdout))
    assert "Emergency stop in force: everything, by olga" in drawn
    assert "Freeze in force: Christmas trade, until then" in drawn
    assert "Incident: INC-7 of pager" in drawn
    assert "For you: " in drawn
    assert '"/dags/release_bike_shop/runs/r%2B1/tasks/rollout.cast_ballot/mapped/1/required_actions"' in drawn
    assert "Vote of ben" in drawn
    assert [f"Case {number}." in drawn for number in range(40)] == [True] * 3 + [False] * 37, "a tester has hundreds"
    assert "37 more questions like these" in drawn
    assert '"/dags/release_bike_shop/runs/r%2B1/required_actions"' in drawn
    assert "All that needs you" in drawn


RUN = """
const question = (index, subject, task = "rollout.cast_ballot") => ({
  subject, dag_id: "release_bike_shop", run_id: "r+1", task_id: task, map_index: index, until: null,
  path: `dags/release_bike_shop/runs/r%2B1/tasks/${task}/mapped/${index}/required_actions`,
});
const questions = [
  question(1, "Vote of ben"),
  ...Array.from({ length: 40 }, (_, index) => question(index, `Case ${index}.`, "quality.run_case")),
];
const answers = {
  "/airflow/interlock/api/v1/in-force?": {
    stops: ["everything, by olga"], freezes: ["Christmas trade, until then"], incidents: ["INC-7 of pager"],
  },
  "/airflow/interlock/api/v1/questions?limit=100": { questions, total_entries: 41, at: "2026-11-23T06:17:00Z" },
};
globalThis.location = new URL("http://airflow.example/airflow/");
globalThis.innerWidth = 1440;
globalThis.document = { querySelector: () => ({ href: "http://airflow.example/airflow/" }) };
globalThis.fetch = async (path) => ({ ok: true, status: 200, json: async () => answers[path] });
globalThis.setInterval = () => 0;
let state, effect;
const draw = (type, attributes, ...children) =>
  typeof type === "function" ? type({ ...attributes, children }) : { type: String(type), ...attributes, children };
globalThis.React = {
  createElement: draw,
  Fragment: "Fragment",
  useCallback: (one) => one,
  useEffect: (one) => { effect = one; },
  useMemo: (make) => make(),
  useRef: (current) => ({ current }),
  useState: (first) => [state ?? first, (next) => { state = next; }],
};
globalThis.ChakraUI = { Badge: "Badge", Box: "Box", Heading: "Heading", Text: "Text", NativeSelect: {} };
globalThis.ReactRouterDOM = { Link: "Link", useSearchParams: () => [] };
await import("./pages.js");
if (globalThis.InterlockHome() !== null) throw new Error("nothing is shown before anything is known");
effect();
for (let turn = 0; turn < 100 && !state; turn += 1) await new Promise((next) => setTimeout(next, 5));
console.log(JSON.stringify(globalThis.InterlockHome()));
"""
