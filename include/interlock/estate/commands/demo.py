"""``make demo``: release the bike shop through Airflow's public REST API, with people who decide, and show it live.

Exit code 0 only if, at the end, every production host answers with the version that was to be released.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from interlock.adapters.airflow.rest_api import Answer, dag_path
from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.hosts.web import value_at
from interlock.domain.catalogue import Service
from interlock.domain.dag_names import dag_of_release
from interlock.domain.errors import ReleaseError
from interlock.domain.outcome.outcome import STAGE_TITLES
from interlock.estate.airflow.accounts import passwords
from interlock.estate.settings import SERVICE, EstateHost, Settings
from interlock.estate.stack import stack
from interlock.estate.steps import TAIL, Steps

from .client import ENDED, Person, Run
from .release_view import StageLine, scheduling_seconds, seconds_of, stage_lines

DAG = dag_of_release(SERVICE)
FIRST_VERSION = "1.0.0"
"""What the fleet runs when it is new, and when a demo starts."""
MANAGER = "rita"
COMMENTS = {
    "fay": "Tried it on test: works as the team asked",
    "ben": "Operations is ready, the back-out is possible",
    "cora": "No findings; the quality report and the digests are fine",
    "maya": "Go",
    "sam": "Read by the whole service desk",
}
"""User who answers in the demo: the comment."""
YES, NO = ("Approve", "Acknowledge"), ("Reject", "Not ready")
SUMMARIES = {
    "1.1.0": "The page that sells bikes",
    "1.2.0": "A basket that remembers",
    "1.3.0": "Prices from the new price list",
}
POLL_INTERVAL_SECONDS = 0.7
"""Seconds between two looks at the run."""
READING_SECONDS = 3.0
"""Seconds between a question and its answer. Airflow fails a task that is answered before the scheduler has noticed
that it waits, which takes about a second."""
DEMO_TIMEOUT_SECONDS = 1800
ICONS = {"success": "[green]✓[/]", "failed": "[red]✗[/]", "skipped": "[dim]○[/]", "waiting": "[dim]·[/]"}


class Cast:
    """The people of the demo, who answer the questions of a release."""

    def __init__(self, people: Mapping[str, Person]) -> None:
        self.people = people

    def answer(
        self, run: Run, questions: Iterable[Answer], options: Sequence[str], comments: Mapping[str, str]
    ) -> None:
        """Answer each open question of a run as the person whom it asks, with the first of these options it offers."""
        for question in questions:
            if question.answered or question.state != "awaiting_input" or age(question) < READING_SECONDS:
                continue
            option = next((option for option in question.options if option in options), None)
            asked = next((user for user in question.assigned if user in self.people), None)
            if option and asked:
                run.answer(self.people[asked], question, option, comments[asked])


def demonstrate(settings: Settings, console: Console, version: str) -> bool:
    """Release a version that all people approve, and say whether every production host runs it."""
    service = load_catalogue(settings.catalogue).services[SERVICE]
    known = passwords(settings)
    with ExitStack() as logins:
        people = {user: logins.enter_context(Person(settings.airflow_url, user, known[user])) for user in COMMENTS}
        rita = logins.enter_context(Person(settings.airflow_url, MANAGER, known[MANAGER]))
        cast = Cast(people)
        begin_afresh(settings, console, service, rita, cast)
        run = rita.start(DAG, form(version))
        page = f"{settings.airflow_url}/dags/{DAG}/runs/{run.id}"
        console.print(
            f"\n[bold]{service.title} {version}[/], triggered by {MANAGER}:\n{page}", highlight=False, soft_wrap=True
        )
        lines = follow(run, cast, console)
        explain(run, lines, console)
        ended = run.state
    running = {host: answered(host, service) for host in settings.hosts()}
    console.print(running_table(running, service))
    report_logins(settings, console, page)
    wanted = [
        value_at(said, service.health.version_key) for host, said in running.items() if host.environment == "production"
    ]
    return ended == "success" and all(found == version for found in wanted)


def form(version: str) -> dict[str, Any]:
    """Return what the release manager fills in."""
    summary = SUMMARIES.get(version, f"Release {version}")
    return {"ref": version, "version": version, "change_type": "normal", "summary": summary, "tickets": ["SHOP-12"]}


def begin_afresh(settings: Settings, console: Console, service: Service, rita: Person, cast: Cast) -> None:
    """End releases of an earlier demo, and put the fleet back to its first version; the history stays."""
    steps = Steps(console)
    if rita.active_runs(DAG):
        with steps.step("The people who are asked refuse an earlier release") as say:
            withdraw(rita, cast, say)
    hosts = [host for host in settings.hosts() if host.environment == "production"]
    if any(version_of(host, service) != FIRST_VERSION for host in hosts):
        with steps.step(f"The fleet goes back to {FIRST_VERSION}"):
            stack.renew_hosts(settings)
            until(lambda: all(version_of(host, service) == FIRST_VERSION for host in hosts), 60)


def withdraw(rita: Person, cast: Cast, say: Callable[[str], None]) -> None:
    """Refuse the open questions of active releases until none is active."""
    deadline = time.monotonic() + DEMO_TIMEOUT_SECONDS
    comments = dict.fromkeys(cast.people, "Withdrawn: the demo starts again")
    while active := rita.active_runs(DAG):
        say(active[0].id)
        for run in active:
            cast.answer(run, run.questions(), NO, comments)
        if time.monotonic() > deadline:
            raise ReleaseError(f"{active[0].id} does not end.", next_step="look at it in Airflow, or make reset")
        time.sleep(POLL_INTERVAL_SECONDS)


def age(question: Answer) -> float:
    """Return how many seconds ago a question was asked."""
    return (datetime.now(UTC) - question.asked_at).total_seconds() if question.asked_at else 0


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true, at most for some seconds."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.2)


def follow(run: Run, cast: Cast, console: Console) -> tuple[StageLine, ...]:
    """Show a run until it ends, and let people answer meanwhile; return how its stages ended."""
    deadline = time.monotonic() + DEMO_TIMEOUT_SECONDS
    told: set[str] = set()
    questions: tuple[Answer, ...] = ()
    waited = False
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        while True:
            ended = run.state in ENDED
            tasks = run.tasks()
            waits = any(task["state"] == "awaiting_input" for task in tasks)
            if waits or waited:  # else there is nothing new
                questions = run.questions()
            waited = waits
            lines = stage_lines(tasks, questions, datetime.now(UTC))
            if console.is_terminal:
                live.update(stages_table(lines))
            else:
                tell(lines, told, console)
            if ended:
                return lines
            if time.monotonic() > deadline:
                raise ReleaseError(
                    f"{run.id} is not over after {DEMO_TIMEOUT_SECONDS // 60} minutes.",
                    next_step="look at it in Airflow",
                )
            cast.answer(run, questions, YES, COMMENTS)
            time.sleep(POLL_INTERVAL_SECONDS)


def stages_table(lines: Sequence[StageLine]) -> Table:
    """Draw the stages: state, seconds, what happens, what was decided by whom."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, justify in (("", "left"), ("stage", "left"), ("seconds", "right"), ("", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for line in lines:
        icon = Spinner("dots") if line.state == "running" else Text.from_markup(ICONS[line.state])
        texts = [Text(decision) for decision in line.decisions] + [Text(step, style="dim") for step in line.steps]
        seconds = f"{line.seconds:.1f}" if line.seconds is not None else ""
        table.add_row(icon, Text(line.title, style="" if line.state != "waiting" else "dim"), seconds, Group(*texts))
    return table


def tell(lines: Sequence[StageLine], told: set[str], console: Console) -> None:
    """Print the changes since the last call, for an output that is not a terminal."""
    for line in lines:
        news = {f"{line.title}: {decision}": f"  {line.title}: {decision}" for decision in line.decisions}
        if line.state in ICONS and line.state != "waiting":
            seconds = "" if line.seconds is None else f" {line.seconds:.1f} s"
            news[f"{line.title} {line.state}"] = f"{ICONS[line.state]} {line.title}{seconds}"
        for key, text in news.items():
            if key not in told:
                console.print(text, highlight=False, soft_wrap=True)
        told.update(news)


def explain(run: Run, lines: Sequence[StageLine], console: Console) -> None:
    """Say how the release ended, why, and where the time went."""
    tasks = run.tasks()
    outcome = run.result("closure.close_release") or {}
    how = outcome.get("outcome", run.state)
    colour = "green" if how == "deployed" else "red"
    console.print(f"\n[bold {colour}]{how}[/]", highlight=False)
    if how != "deployed":
        console.print(f"Decided by: {STAGE_TITLES.get(outcome.get('stage', ''), 'unknown')}", highlight=False)
        reason = outcome.get("reason") or "There is no record of how it ended."
        console.print(escape(reason), highlight=False, soft_wrap=True)
        if not outcome:
            show_logs(run, tasks, console)
    dag_tasks = run.person.get(f"{dag_path(DAG)}/tasks")["tasks"]
    downstream = {task["task_id"]: task["downstream_task_ids"] for task in dag_tasks}
    asked = {question.task_id for question in run.questions()}
    total = seconds_of(tasks, None) or 0
    between = scheduling_seconds(tasks, downstream, asked)
    console.print(
        f"The release took {total:.1f} s, of which {between:.1f} s between one task's end and its successor's start.",
        highlight=False,
    )


def show_logs(run: Run, tasks: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the end of the logs of the tasks that failed."""
    for task in tasks:
        if task["state"] == "failed":
            console.print(f"[dim]The end of the log of {task['task_id']}:[/]", highlight=False)
            log = run.person.log(run.dag_id, run.id, task["task_id"], task["map_index"], task["try_number"])
            events = [str(json.loads(line).get("event", "")) for line in log.splitlines()]
            shown = [event for event in events if event and not event.startswith("::")][-TAIL:]
            console.print("\n".join(f"  {escape(event)}" for event in shown), highlight=False)


def answered(host: EstateHost, service: Service) -> dict[str, Any]:
    """Return what a host's health page says; empty if it does not answer."""
    try:
        answer = httpx.get(
            f"http://{host.address}:{service.health.port}{service.health.path}", timeout=5, trust_env=False
        )
        return dict(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError, TypeError):
        return {}


def version_of(host: EstateHost, service: Service) -> str | None:
    """Return the version that a host says it runs."""
    said = value_at(answered(host, service), service.health.version_key)
    return said if isinstance(said, str) else None


def running_table(running: Mapping[EstateHost, Mapping[str, Any]], service: Service) -> Table:
    """List the version of each host."""
    table = Table(title="What runs where", title_justify="left")
    for column in ("host", "environment", "address", "version", "commit"):
        table.add_column(column, overflow="fold", no_wrap=column == "host")
    for host, said in running.items():
        address = f"{host.address}:{service.health.port}"
        version = str(value_at(said, service.health.version_key) or "no answer")
        table.add_row(host.name, host.environment, address, version, str(said.get("commit", ""))[:7])
    return table


def report_logins(settings: Settings, console: Console, page: str) -> None:
    """Say how to look at the run, and how to end."""
    console.print(f"The run:\n{page}", highlight=False, soft_wrap=True)
    login = f"{MANAGER} with {passwords(settings)[MANAGER]}"
    told = f"Log in as {login} ({settings.make}up lists all logins). Stop with [bold]{settings.make}down[/]."
    console.print(told, highlight=False)
