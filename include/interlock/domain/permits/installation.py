"""What a release's proof rests on beside its own records: how Airflow is installed. Each fault keeps permits back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pydantic import Field

from interlock.domain.canonical import Model, Sha256

MAX_CLOCK_SKEW = timedelta(seconds=5)


class Fault(Model):
    """A check of ``interlock doctor`` that does not hold, with what fixes it."""

    check: str
    what: str
    fix: str


class ServerSeen(Model):
    """What an API server says of itself, and which rules its catalogue has for the release."""

    address: str
    door: bool = Field(description="Release control is in front of it")
    guard: str = Field(
        "", description="What keeps people from editing releases: auth manager or plugin; empty: nothing"
    )
    people: str = Field("", description="How its auth manager knows people: by name, or by number")
    witness_key: str = Field("", description="Id of the key that signs answers; empty: it cannot sign")
    rules: Sha256 | None = Field(None, description="Of releases of this service and change type; none: it has none")


class InstallationSeen(Model):
    """What a task finds of the installation, just before a permit."""

    servers: tuple[ServerSeen, ...]
    witness_key: str = Field(description="Id of the key with which answers count here")
    rules: Sha256 = Field(description="Of the release, by the catalogue of the worker")
    parsed: Sha256 | None = Field(None, description="By the catalogue of the Dag processor; none: it does not say")
    weaknesses: tuple[str, ...] = Field((), description="How the ledger lets its writer change entries, in sentences")
    skew: timedelta = Field(timedelta(0), description="By which the clocks of ledger and worker differ")


LOAD_PLUGIN = (
    "install the wheel in its environment, restart it, and see airflow plugins there; with --apps execution, import "
    "interlock.airflow_settings in airflow_local_settings.py"
)
SAME_CATALOGUE = "deploy the same catalogue to all components (INTERLOCK_CATALOGUE)"


def faults(seen: InstallationSeen) -> tuple[Fault, ...]:
    """Return what does not hold of an installation."""
    of_servers = (fault for server in seen.servers for fault in faults_of_server(server, seen.witness_key))
    return (*of_servers, *_of_catalogues(seen), *faults_of_ledger(seen.weaknesses, seen.skew))


def differ(seen: InstallationSeen) -> bool:
    """Tell whether components have other rules for the release: a catalogue takes its time to reach all of them."""
    return any(_of_catalogues(seen))


def faults_of_server(server: ServerSeen, witness_key: str) -> Iterator[Fault]:
    """Yield why an API server cannot be trusted with releases.

    :param witness_key: id of the key with which answers count.
    """
    check = f"API server {server.address}"
    if not server.door:
        yield Fault(check=check, what="It is not guarded: Interlock's plugin is not loaded.", fix=LOAD_PLUGIN)
        return
    if not server.guard:
        yield Fault(
            check=check,
            what="Nothing there keeps people from marking, clearing and editing releases: neither Interlock's auth "
            "manager is in force nor the guard of its plugin.",
            fix=LOAD_PLUGIN,
        )
    if server.people == BY_NUMBER:
        yield Fault(
            check=check,
            what="Its auth manager knows people by number, and ballots name them by user name.",
            fix="set AIRFLOW__CORE__AUTH_MANAGER=interlock.console.auth.manager.InterlockFabAuthManager",
        )
    if not server.witness_key:
        yield Fault(
            check=check,
            what="It cannot sign what people answer, so no answer would count.",
            fix="give it INTERLOCK_WITNESS_KEY and INTERLOCK_WITNESS_LEDGER_URL_FILE (api-server.env), and restart it",
        )
    elif server.witness_key != witness_key:
        yield Fault(
            check=check,
            what="It signs answers with another key than INTERLOCK_WITNESS_PUBLIC_KEY names here, so no answer would "
            "count.",
            fix="give every component the public key that belongs to INTERLOCK_WITNESS_KEY of the API server",
        )


BY_NAME, BY_NUMBER = "by name", "by number"


def _of_catalogues(seen: InstallationSeen) -> Iterator[Fault]:
    for server in seen.servers:
        if server.door and server.rules != seen.rules:
            yield Fault(
                check=f"API server {server.address}",
                what="Its catalogue has other rules for this release than the catalogue of the worker.",
                fix=SAME_CATALOGUE,
            )
    if seen.parsed is not None and seen.parsed != seen.rules:
        yield Fault(
            check="Dags",
            what="The tasks of this release were made from a catalogue with other rules for it than that of the "
            "worker.",
            fix=f"{SAME_CATALOGUE}; see that airflow dag-processor runs",
        )


def faults_of_ledger(weaknesses: tuple[str, ...], skew: timedelta) -> Iterator[Fault]:
    """Yield why the ledger proves nothing: its rights, or a clock."""
    for weakness in weaknesses:
        yield Fault(check="ledger", what=f"{weakness}.", fix="interlock ledger migrate, as the owner of its database")
    if skew > MAX_CLOCK_SKEW:
        yield Fault(
            check="ledger",
            what=f"The clock of its server differs by {skew.total_seconds():.0f} s from this machine's.",
            fix="synchronise both clocks (NTP)",
        )
