"""The Dag ``reconcile``: selects the released files that each check compares on a host.

The part follows from the due time of the check and the host's address, so no check has to remember another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import get_current_context
from pydantic import ValidationError

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.evidence.file_lists import released_files
from interlock.domain.catalogue import Service
from interlock.domain.dag_names import dags_of_service
from interlock.domain.errors import LedgerBroken
from interlock.domain.hosts.released_files import Expected, anchors, expected_files, in_parts, part_now
from interlock.domain.ledger import host_record
from interlock.domain.ledger import runs as ledger_runs
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.findings import Finding
from interlock.domain.ledger.kinds import ACCEPTANCE_DECIDED, ARTIFACT_BUILT, FINDING
from interlock.domain.records import Artifact
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.history import chains_of

if TYPE_CHECKING:
    from interlock.adapters.hosts.fleet import HostLook
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)

Parts = Sequence[list[Expected]]


class Built(NamedTuple):
    """An artifact, and the chain of the newest release that has it."""

    artifact: Artifact
    chain: str


class FileLists:
    """The files of releases. Each release is read once in a check."""

    def __init__(self, ledger: Ledger) -> None:
        run: Any = get_current_context()["dag_run"]
        self._due: datetime = run.run_after
        self._every: timedelta = load_rules(catalogue_folder())[0].findings.every
        self._ledger, self._chains = ledger, ledger.chains()
        self._store, self._key = resources.store(), resources.signer().public_key
        self._read: dict[tuple[str, str], asyncio.Task[Parts | None]] = {}

    async def choose(self, service: Service, host: str, release: str) -> Sequence[Expected]:
        """Return the files to compare on a host now; none if the ledger has no list for its release."""
        key = service.name, release
        if key not in self._read:
            self._read[key] = asyncio.ensure_future(asyncio.to_thread(self._parts_of, service, release))
        parts = await asyncio.shield(self._read[key])
        return [] if parts is None else [*anchors(release), *part_now(parts, host, self._due, self._every)]

    def forget(self) -> None:
        """Forget the lists: they belong to an event loop that has ended."""
        self._read.clear()

    def built(self, service: str, release: str) -> Built | None:
        """Return the artifact of a release by its name on hosts."""
        dags = dags_of_service(service)
        for chain in reversed(self._chains):
            if not (run := ledger_runs.run_of(chain)) or run[0] not in dags:
                continue
            with suppress(LedgerBroken, ValidationError):  # check_ledger reports it
                for entry in self._ledger.entries(chain, kind=ARTIFACT_BUILT):
                    artifact = Artifact.model_validate(entry.payload, extra="ignore")
                    if artifact.release == release:
                        return Built(artifact, chain)
        return None

    def _parts_of(self, service: Service, release: str) -> Parts | None:
        try:
            built = self.built(service.name, release)
            if built is None:
                return None
            listed = released_files(built.artifact, self._store, self._key)
        except Exception as error:  # the release of each host is compared nevertheless
            log.warning("The files of %s %s cannot be compared: %s", service.name, release, error)
            return None
        if listed.unlisted:
            log.info("%d files of %s %s have names that cannot be asked for", listed.unlisted, service.name, release)
        return in_parts(expected_files(listed, release, service.changed_on_hosts), self._every)


def new_findings(ledger: Ledger, service: str, found: Sequence[Finding]) -> list[Finding]:
    """Return the findings about files that no chain of the service has yet."""
    if not found:
        return []
    known: list[Entry] = []
    for chain in (INSTALLATION, *chains_of(ledger, service).values()):
        with suppress(LedgerBroken):
            known += ledger.entries(chain, kind=FINDING)
    return host_record.new_file_findings(found, known)


def note_unread(host: str, look: HostLook) -> None:
    """Log the files that the login cannot read on a host: they are not compared."""
    answered = look.seen
    hidden = [one.path for one in look.asked if one.name not in answered or answered[one.name].kind == "hidden"]
    if hidden:
        log.warning("%d of %d files on %s cannot be read: %s", len(hidden), len(look.asked), host, hidden[:5])


def sandbox_chain(ledger: Ledger, chain: str, ends: Mapping[str, datetime]) -> str:
    """Return the chain for a finding on a test host: the release's until its acceptance, then the installation's."""
    run = ledger_runs.run_of(chain)
    if run is None or "/".join(run) in ends or ledger.entries(chain, kind=ACCEPTANCE_DECIDED):
        return INSTALLATION
    return chain
