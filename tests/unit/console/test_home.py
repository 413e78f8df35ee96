"""What Interlock adds to Airflow's page Home: the script that is registered is the one that is served."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from interlock.locations import PACKAGE
from interlock.plugin import InterlockPlugin

STATIC = PACKAGE / "console" / "static"
(APP,) = [one for one in InterlockPlugin.react_apps if one["destination"] == "dashboard"]


def test_the_script_on_home_is_served_and_defines_what_airflow_looks_for() -> None:
    assert APP["destination"] == "dashboard"
    folder, _, name = APP["bundle_url"].rpartition("/")
    assert folder == "interlock/static", "below Airflow's own address, whatever that is"
    assert f"globalThis.{APP['name']} = {APP['name']};" in (STATIC / name).read_text()


def test_home_shows_stops_and_only_the_readers_questions(tmp_path: Path) -> None:
    """Run the script with a React that only keeps what is drawn."""
    for name in ("airflow.js", "home.js"):
        (tmp_path / name).write_text((STATIC / name).read_text())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "run.js").write_text(RUN)
    done = subprocess.run(["node", "run.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    drawn = json.dumps(json.loads(done.stdout))
    assert "Emergency stop in force: everything, by olga" in drawn
    assert "Freeze in force: Christmas trade, until then" in drawn
    assert "For you: " in drawn
    assert "/airflow/dags/release_bike_shop/runs/r%2B1/tasks/rollout.cast_ballot/mapped/1/required_actions" in drawn
    assert "Vote of ben" in drawn
    assert "Vote by number" in drawn
    assert "Vote of cora" not in drawn
    assert [f"Case {number}." in drawn for number in range(40)] == [True] * 3 + [False] * 37, "a tester has hundreds"
    assert "37 more questions like these" in drawn
    assert "/airflow/dags/release_bike_shop/runs/r%2B1/required_actions" in drawn


RUN = """
const question = (index, id, subject, task = "rollout.cast_ballot") => ({
  subject, response_received: false, assigned_users: [{ id }, { id: "board_clerk" }],
  task_instance: { dag_id: "release_bike_shop", dag_run_id: "r+1", task_id: task, map_index: index },
});
const cases = Array.from({ length: 40 }, (_, index) => question(index, "ben", `Case ${index}.`, "quality.run_case"));
const answers = {
  "/airflow/interlock/in_force": { stops: ["everything, by olga"], freezes: ["Christmas trade, until then"] },
  "/airflow/ui/auth/me": { id: "7", username: "ben" },
  "/airflow/api/v2/dags/~/dagRuns/~/hitlDetails?response_received=false&state=awaiting_input&limit=100&offset=0": {
    total_entries: 43,
    hitl_details: [
      question(0, "cora", "Vote of cora"), question(1, "ben", "Vote of ben"), question(2, "7", "Vote by number"),
      ...cases,
    ],
  },
};
globalThis.parent = globalThis.window = globalThis;
globalThis.location = new URL("http://airflow.example/airflow/");
globalThis.document = { querySelector: () => ({ href: "http://airflow.example/airflow/" }) };
globalThis.fetch = async (path) => ({ ok: true, status: 200, json: async () => answers[path] });
globalThis.setInterval = () => 0;
let state, effect;
globalThis.React = {
  createElement: (type, attributes, ...children) => ({ type: String(type), ...attributes, children }),
  useEffect: (one) => { effect = one; },
  useState: (first) => [state ?? first, (next) => { state = next; }],
};
globalThis.ChakraUI = { Box: "Box", Text: "Text" };
await import("./home.js");
if (globalThis.InterlockHome() !== null) throw new Error("nothing is shown before anything is known");
effect();
for (let turn = 0; turn < 100 && !state; turn += 1) await new Promise((next) => setTimeout(next, 5));
console.log(JSON.stringify(globalThis.InterlockHome()));
"""
