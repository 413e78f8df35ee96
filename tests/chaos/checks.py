"""What must hold when the machines run again: each check yields what is wrong, in sentences."""

from __future__ import annotations

import email
import email.policy
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from interlock.adapters.artifacts.bundle import unpack
from interlock.adapters.ledger.ledger import Ledger
from interlock.domain.board.accounts import CLERK
from interlock.domain.ledger.chain import Entry, release_chain
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    ARTIFACT_BUILT,
    BOARD_DECIDED,
    FINDING,
    QUESTION_MAILED,
    STEP_ENDED,
)
from interlock.estate.settings import Settings
from interlock.estate.world import aws, image
from tests.end_to_end.people import BIKE_SHOP
from tests.end_to_end.stack import Stack

from .office import BALLOT, Given, Office
from .services import COUNTED

MARKER = ".interlock.json"
EXPECTED_FINDINGS = frozenset({"right_lost"})
"""A task that resumed too late changed nothing, and the finding says so; no person did anything."""


class After:
    """The cluster after the blows, as an auditor sees it."""

    def __init__(self, stack: Stack, office: Office, ledger: Ledger) -> None:
        self.stack, self.office, self.ledger = stack, office, ledger

    @property
    def settings(self) -> Settings:
        return self.stack.settings

    @cached_property
    def chains(self) -> dict[tuple[str, str], tuple[Entry, ...]]:
        """The entries of each release."""
        runs = [run for desk in self.office.desks for run in desk.runs]
        return {run: self.ledger.entries(release_chain(*run)) for run in runs}

    def every(self) -> Iterator[str]:
        """Check everything."""
        yield from self.releases_end()
        yield from self.hosts_are_whole()
        yield from self.effects_happen_once()
        yield from self.mails_are_sent_once()
        yield from self.ballots_count_once()
        yield from self.nobody_is_accused()
        yield from self.chains_hold()

    def releases_end(self) -> Iterator[str]:
        """Every release has ended, with an outcome."""
        for dag_id, run_id in self.office.active():
            person = self.stack.person("rita")
            open_tasks = Counter(
                f"{task['task_id']} is {task['state']}"
                for task in person.task_instances(dag_id, run_id)
                if task["state"] not in ("success", "skipped", "failed", "upstream_failed", "removed", None)
            )
            yield f"{dag_id} {run_id} has not ended: {dict(open_tasks)}"
        for desk in self.office.desks:
            for run_id, outcome in desk.ended.items():
                if outcome == "no outcome":
                    yield f"{desk.service} {run_id} ended without an outcome"

    def hosts_are_whole(self) -> Iterator[str]:
        """Every host has a release as it was built, and runs it."""
        with TemporaryDirectory() as folder:
            built = _Bundles(self, Path(folder))
            for desk in self.office.desks:
                with closing(Stack(self.settings, desk.service)) as own:
                    for host in own.hosts():
                        yield from self._host(own, host, built)

    def _host(self, own: Stack, host: aws.Instance, built: _Bundles) -> Iterator[str]:
        current = self.settings.host_folder(host.name) / "srv" / own.service / "current"
        if not current.exists():
            if any(current.parent.glob("releases/*")) and current.is_symlink():
                yield f"{host.name}: current leads to {current.readlink()}, which is not there"
            return
        release = current.resolve()
        there = digests(release)
        wanted = built.files(release.name)
        if wanted is None:
            yield f"{host.name} has {release.name}, which no release built"
        elif there != wanted:
            different = sorted(name for name in there | wanted if there.get(name) != wanted.get(name))
            yield f"{host.name}: {release.name} is not what was built: {different[:5]}"
        try:
            version = own.version_of(host.address)
        except Exception as error:
            yield f"{host.name} does not answer: {type(error).__name__}: {error}"
            return
        if version != release.name.rpartition("-")[0]:
            yield f"{host.name} has {release.name} and runs {version}"

    def effects_happen_once(self) -> Iterator[str]:
        """No step of a runbook was done twice, and each that is on record as done was done."""
        for desk in self.office.desks:
            counted = f"{desk.service}-production*/srv/{desk.service}/shared/{COUNTED}"
            ran = Counter(id for file in self.settings.host_folders.glob(counted) for id in file.read_text().split())
            yield from (f"{desk.service}: the step {id} ran {times} times" for id, times in ran.items() if times > 1)
            for entry in (entry for run in desk.runs for entry in self.chains[run] if entry.kind == STEP_ENDED):
                if entry.payload["outcome"] == "done" and not ran[entry.payload["id"]]:
                    yield f"{entry.chain}: the step {entry.payload['id']} is on record as done, and did not run"

    def mails_are_sent_once(self) -> Iterator[str]:
        """No mail has an id of its own and says what another has said; see :meth:`repeated_mails`."""
        said: dict[tuple[str, str, str], set[str]] = {}
        for message in self._mails():
            if "Your answer is needed" in message["Subject"]:
                continue  # a question whose answer Airflow lost is mailed again, and says so
            about = hashlib.sha256((message.get_body(("html",)) or message).as_bytes()).hexdigest()
            said.setdefault((str(message["To"]), str(message["Subject"]), about), set()).add(str(message["Message-ID"]))
        for (to, subject, _), ids in said.items():
            if len(ids) > 1:
                yield f"“{subject}” was sent to {to} under {len(ids)} message ids"

    def repeated_mails(self) -> int:
        """Return how many mails arrived once more under the id that they had: SMTP knows no other way to be sure."""
        ids = Counter(str(message["Message-ID"]) for message in self._mails())
        return sum(times - 1 for times in ids.values())

    def _mails(self) -> Iterator[email.message.EmailMessage]:
        for path in sorted(self.settings.mail.rglob("*.eml")):
            yield email.message_from_bytes(path.read_bytes(), policy=email.policy.default)

    def ballots_count_once(self) -> Iterator[str]:
        """Every answer that was confirmed is on record; every ballot before a decision is in it, and once."""
        for run, entries in self.chains.items():
            mine = [one for one in self.office.given if (one.dag_id, one.run_id) == run]
            on_record = [one.payload for one in entries if one.kind == ANSWER_GIVEN]
            for one in mine:
                wanted = {"user": one.user, "task_id": one.task_id, "map_index": one.map_index, "choice": one.option}
                if not any(wanted.items() <= payload.items() for payload in on_record):
                    yield f"{run[1]}: the answer of {one.user} to {one.task_id} is not on record"
            for decided in (one for one in entries if one.kind == BOARD_DECIDED):
                yield from self._decision(run, decided, [one for one in mine if one.task_id == BALLOT])

    def _decision(self, run: tuple[str, str], decided: Entry, ballots: Sequence[Given]) -> Iterator[str]:
        votes = [vote for vote in decided.payload["votes"] if vote["user"] not in (None, CLERK)]
        twice = [user for user, times in Counter(vote["user"] for vote in votes).items() if times > 1]
        if twice:
            yield f"{run[1]}: {', '.join(twice)} counted twice"
        counted = {vote["user"]: vote["choice"] for vote in votes}
        last = {one.user: one for one in sorted(ballots, key=lambda one: one.at)}
        for user, one in last.items():
            in_time = one.at < decided.at - timedelta(seconds=30)
            if in_time and counted.get(user) != one.option:
                yield f"{run[1]}: {user} voted {one.option}, and the decision has {counted.get(user, 'no vote')}"

    def nobody_is_accused(self) -> Iterator[str]:
        """No finding says that somebody did what a crash did: nobody did anything but to ask, to answer and to vote."""
        for chain in self.ledger.chains():
            for entry in self.ledger.entries(chain, kind=FINDING):
                if entry.payload.get("found") not in EXPECTED_FINDINGS:
                    yield f"finding in {chain}: {entry.payload.get('what')} ({entry.payload.get('found')})"

    def excused(self) -> int:
        """Return how many findings say that a task resumed too late."""
        found = (entry for chain in self.ledger.chains() for entry in self.ledger.entries(chain, kind=FINDING))
        return sum(entry.payload.get("found") in EXPECTED_FINDINGS for entry in found)

    def chains_hold(self) -> Iterator[str]:
        """Every chain of the ledger is intact."""
        for chain in self.ledger.chains():
            if broken := self.ledger.check(chain):
                yield f"{chain} is broken: {broken}"

    def people_are_asked(self) -> Iterator[str]:
        """Each question that waits was mailed to each person who may answer it."""
        rita = self.stack.person("rita")
        for run in self.office.active():
            mailed = self.ledger.entries(release_chain(*run), kind=QUESTION_MAILED)
            for question in rita.answers(*run, answered=False):
                if question.state != "awaiting_input":
                    continue
                about = {"task_id": question.task_id, "map_index": question.map_index}
                told = {user for one in mailed if about.items() <= one.payload.items() for user in one.payload["users"]}
                if missing := set(question.assigned) - told - {CLERK}:
                    yield f"{run[1]}: {question.task_id} waits for {', '.join(missing)}, who was not asked by mail"


class _Bundles:
    """The files of each release, as they were built."""

    def __init__(self, after: After, folder: Path) -> None:
        self._after, self._folder = after, folder

    @cached_property
    def _places(self) -> dict[str, str]:
        built = (one for entries in self._after.chains.values() for one in entries if one.kind == ARTIFACT_BUILT)
        places = {
            f"{one.payload['version']}-{one.payload['bundle']['sha256'][:12]}": one.payload["bundle"]["uri"]
            for one in built
        }
        for described in self._after.settings.images.glob(f"{BIKE_SHOP}-*.json"):
            first = image.Image.model_validate_json(described.read_bytes())
            places[first.release] = image.bundle_of(self._after.settings, first).as_uri()
        return places

    def files(self, release: str) -> dict[str, str] | None:
        """Return the digest of each file of a release; None: none was built under this name."""
        if release not in self._places:
            return None
        folder = self._folder / release
        if not folder.exists():
            unpack(self._fetched(self._places[release], self._folder / f"{release}.tar.gz"), folder)
        return digests(folder)

    def _fetched(self, uri: str, file: Path) -> Path:
        parts = urlsplit(uri)
        if parts.scheme == "file":
            return Path(parts.path)
        with closing(aws.client(self._after.settings, "s3")) as s3:
            s3.download_file(parts.netloc, parts.path.lstrip("/"), str(file))
        return file


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, but of Interlock's own mark."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and file.name != MARKER)
    return {str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}
