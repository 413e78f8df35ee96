"""The catalogue on disk: ``policy.yaml``, ``board.yaml`` and ``services/*.yaml``, read and checked.

``interlock catalogue check`` reports its errors.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from interlock.adapters.build.tools import runs_unit_tests
from interlock.adapters.calendars.calendars import CopyOf, faults_of, load_calendars
from interlock.adapters.testing.case_files import FOLDER, faults_of_case_files
from interlock.domain.board.voting import signers
from interlock.domain.board.voting_faults import faults_of_book, faults_of_level, faults_of_policy
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PRODUCTION, BoardBook, Catalogue, Identifier, Policy, Prebuilt, Service, SignOff
from interlock.domain.catalogue.break_glass_file import BreakGlassBook
from interlock.domain.catalogue.problem import Place, Problem
from interlock.domain.change import policy as change_policy
from interlock.domain.change import tightening
from interlock.domain.change.environments import refusals_of_environment
from interlock.domain.dag_names import dags_named
from interlock.domain.errors import CatalogueError, PolicyViolation
from interlock.domain.hosts.places import shared_places
from interlock.domain.permits.production import trespasses
from interlock.locations import CATALOGUE, INSTALLED

from .names import Known, listed, other_name, unknown_name
from .problems import quoted
from .systems import faults_of_systems, unknown_systems_of, unknown_systems_of_service
from .trains import faults_of_trains
from .yaml_files import YamlFile, names_in, read_yaml, refuse_other_ending

_NAME = TypeAdapter(Identifier)


def load_catalogue(folder: Path) -> Catalogue:
    """Read the whole catalogue. A service file with an error is omitted, and its error is in ``broken``.

    :raises CatalogueError: ``policy.yaml`` or ``board.yaml`` is wrong.
    """
    policy, board = _load_rules(folder)
    services: dict[str, Service] = {}
    broken: dict[str, str] = {}
    for path in _service_files(folder):
        name = path.stem if path.suffix == ".yaml" else path.name
        try:
            services[name] = _load_service(path, policy, board)
        except CatalogueError as error:
            broken[name] = str(error)
    return Catalogue(policy=policy, board=board, services=services, broken=broken)


def load_service(folder: Path, name: str) -> Catalogue:
    """Read the policy, the board and one service, and no other file.

    :raises CatalogueError: one of the three is wrong, or there is no such service.
    """
    refuse_missing(folder)
    path = folder / "services" / f"{name}.yaml"
    if not _is_name(name) or not path.is_file():
        known = listed([path.stem for path in _service_files(folder)])
        raise CatalogueError(
            f"The catalogue has no service {quoted(name)}. Available: {known}.",
            rule="a service is a file services/<name>.yaml",
            who="the service's team",
            next_step="add the file, or use an existing service",
        )
    policy, board = _load_rules(folder)
    return Catalogue(policy=policy, board=board, services={name: _load_service(path, policy, board)})


def environments_of(folder: Path) -> dict[str, list[str]]:
    """Return each service and its environments; of a broken catalogue, each service that has a file, and production."""
    try:
        return {name: sorted(one.environments) for name, one in load_catalogue(folder).services.items()}
    except CatalogueError:
        return {path.stem: [PRODUCTION] for path in _service_files(folder)}


def load_rules(folder: Path) -> tuple[Policy, BoardBook]:
    """Read the policy and the board, and no service.

    :raises CatalogueError: one of the two is wrong.
    """
    return _load_rules(folder)


def calendars_of(folder: Path, policy: Policy, copy_of: CopyOf) -> Calendars:
    """Return the calendars of a catalogue; a fault in them closes everything.

    :param copy_of: gives those that are at URLs.
    """
    units = frozenset(policy.business_units)
    return load_calendars(folder, Known(services=_names_of(folder / "services"), business_units=units), copy_of)


def refuse_missing(folder: Path) -> None:
    """Refuse a folder that does not exist; often it was never configured.

    :raises CatalogueError: there is no such folder.
    """
    if folder.is_dir():
        return
    unnamed = INSTALLED and folder == CATALOGUE
    raise CatalogueError(
        "INTERLOCK_CATALOGUE is not set, and an installed package has no catalogue of its own."
        if unnamed
        else f"There is no catalogue in {folder}: the folder does not exist.",
        rule="the catalogue is a folder with policy.yaml, board.yaml and services/",
        who="the platform engineer",
        next_step="set INTERLOCK_CATALOGUE to the catalogue's folder, for this command and for each Airflow component",
    )


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a catalogue, by its path; of what cannot be read, none."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".yaml", ".yml", ".ics") and not path.name.startswith("."):
            with suppress(OSError):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def version_of(folder: Path) -> str:
    """Return what names the content of a catalogue: the beginning of a digest of all its files."""
    return sha256_of(digests_of(folder))[:12]


def what_is_wrong(folder: Path) -> list[str]:
    """Return all errors of a catalogue; empty if it is valid."""
    try:
        refuse_missing(folder)
    except CatalogueError as error:
        return [str(error)]
    grants = folder / "break_glass.yaml"
    known = _known_names(folder)
    others = _wrong(grants, BreakGlassBook) if grants.exists() else ()
    of_plans = (*faults_of(folder, known), *faults_of_trains(folder, known), *faults_of_case_files(folder))
    return [*_wrong_in_releases(folder), *others, *faults_of_systems(folder), *of_plans]


def _known_names(folder: Path) -> Known:
    """Return the names that calendars and trains may use; those of files that cannot be read are not looked at."""
    try:
        catalogue = load_catalogue(folder)
    except CatalogueError:
        return Known()
    environments = {name for service in catalogue.services.values() for name in service.environments}
    return Known.by(
        catalogue.policy,
        catalogue.board,
        _names_of(folder / "services"),
        None if catalogue.broken else frozenset(environments),
    )


def _wrong_in_releases(folder: Path) -> list[str]:
    """Return what is wrong with the files that a release is planned from."""
    rules = [*_wrong(folder / "policy.yaml", Policy), *_wrong(folder / "board.yaml", BoardBook)]
    if rules:  # without them, the services can only be checked each in itself
        return [*rules, *(message for path in _service_files(folder) for message in _wrong(path, Service))]
    try:
        catalogue = load_catalogue(folder)
        return [*catalogue.broken.values(), *shared_places(catalogue.services), *_trespasses(folder)]
    except CatalogueError as error:
        return [str(error)]


def _trespasses(folder: Path) -> Iterator[str]:
    # Not at the top: it brings botocore, and each Dag file reads the catalogue.
    from interlock.adapters.aws.production import places_of

    places = places_of(folder)
    return trespasses(
        [one for one in places if one.sandbox],
        [one for one in places if not one.sandbox],
    )


def _wrong(path: Path, model: type[BaseModel]) -> Iterator[str]:
    try:
        _read(path).parse(model)
    except CatalogueError as error:
        yield str(error)


def _read(path: Path) -> YamlFile:
    return read_yaml(path, shown=f"services/{path.name}" if path.parent.name == "services" else path.name)


def _load_rules(folder: Path) -> tuple[Policy, BoardBook]:
    refuse_missing(folder)
    policy_file, board_file = _read(folder / "policy.yaml"), _read(folder / "board.yaml")
    policy, board = policy_file.parse(Policy), board_file.parse(BoardBook)
    services = [path.stem for path in _service_files(folder)]
    of_boards = faults_of_policy(policy, board, services=services)
    _refuse(
        policy_file,
        [
            *of_boards,
            *_unusable_keys(policy),
            *_loosening_units(policy),
            *_unknown_recipients(policy, board),
            *unknown_systems_of(policy, folder),
        ],
    )
    of_book = faults_of_book(board, units=policy.business_units.keys(), services=services)
    _refuse(board_file, [*_missing_management(policy, board), *of_book])
    return policy, board


def _loosening_units(policy: Policy) -> Iterator[Problem]:
    for unit in policy.business_units:
        for refusal in change_policy.refusals_of_unit(policy, unit):
            place = ("business_units", unit, *refusal.path)
            yield Problem(place, tightening.shown(refusal.found), refusal.allowed)


def _unknown_recipients(policy: Policy, board: BoardBook) -> Iterator[Problem]:
    what = "an e-mail address, or a person listed in board.yaml"
    for index, name in enumerate(policy.findings.notify):
        if "@" not in name:
            yield from unknown_name(("findings", "notify", index), name, board.names, what)


def _missing_management(policy: Policy, board: BoardBook) -> Iterator[Problem]:
    asking = [
        kind.value
        for kind, flow in policy.change_types.items()
        if flow.plan_approval_for_major or flow.plan_approval_from_risk <= 100
    ]
    if asking and not board.senior_management:
        allowed = (
            f"at least one person, because policy.yaml requires them to approve plans of {', '.join(asking)} changes"
        )
        yield Problem(("senior_management",), "no person", allowed)


def _service_files(folder: Path) -> list[Path]:
    """Return the files of services by name, also those with the wrong ending."""
    return [folder / "services" / name for name in names_in(folder / "services", ".yaml", ".yml")]


def dags_of_catalogue(folder: Path) -> frozenset[str]:
    """Return the names of all Dags of Interlock, including those of files with errors."""
    return dags_named(_names_of(folder / "services"), _names_of(folder / "trains"))


def _names_of(folder: Path) -> frozenset[str]:
    """Return the names of a folder's files; an unchanged folder is not listed again."""
    try:
        changed = os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return frozenset()
    # A change within the clock's resolution after the last listing would be missed, so recent folders are listed again.
    settled = time.time_ns() - changed > _TICK
    return _names_at(folder, changed) if settled else _names_at.__wrapped__(folder, changed)


_TICK = 1_000_000_000
"""Nanoseconds that a folder's time of change may be behind."""


@lru_cache(maxsize=8)
def _names_at(folder: Path, changed: int) -> frozenset[str]:
    return frozenset(name.rpartition(".")[0] for name in names_in(folder, ".yaml", ".yml"))


def _load_service(path: Path, policy: Policy, board: BoardBook) -> Service:
    refuse_other_ending(path, f"services/{path.name}")
    file = _read(path)
    service = file.parse(Service)
    _refuse(
        file,
        [
            *other_name(service.name, path.stem),
            *_unknown_unit(service, policy),
            *_unknown_people(service, board),
            *_missing_case_files(service, path.parent.parent),
            *unknown_systems_of_service(service, policy, path.parent.parent),
            *_loosening_service(service, policy),
            *faults_of_level(
                service.policy, board, ("policy",), units=policy.business_units.keys(), services=[service.name]
            ),
            *_unknown_registries(service, policy),
            *_unmeasured(service, policy),
            *_untested(service, policy),
            *_unclaimed(service, policy),
        ],
    )
    return service


def _unknown_unit(service: Service, policy: Policy) -> Iterator[Problem]:
    if service.business_unit is not None:
        what = "a business unit of policy.yaml"
        yield from unknown_name(("business_unit",), service.business_unit, policy.business_units, what)


def _unknown_people(service: Service, board: BoardBook) -> Iterator[Problem]:
    people = board.names
    named: list[tuple[Place, Sequence[str]]] = [(("functional_approvers",), service.functional_approvers)]
    if service.training is not None:
        acknowledge = service.training.acknowledge.items()
        named += [(("training", "acknowledge", role), users) for role, users in acknowledge]
    for name, environment in service.stations.items():
        if environment.sign_off is not None:
            signed: Place = (*service.key_of(name).split("."), "sign_off")
            named.append(((*signed, "people"), environment.sign_off.people))
            yield from _unknown_signers(signed, environment.sign_off, board)
    if service.cases is not None:
        named += [(("cases", "testers", role), users) for role, users in service.cases.testers.items()]
    for number, step in enumerate(service.runbook):
        for key, action in step.actions:
            if action.question is not None:
                asks = "who" if action.manual else "ask"
                named.append((("runbook", number, key, action.kind, asks), action.question.who))
    for place, users in named:
        for index, user in enumerate(users):
            yield from unknown_name((*place, index), user, people, "a person listed in board.yaml")


def _unknown_signers(place: Place, asked: SignOff, board: BoardBook) -> Iterator[Problem]:
    """Yield roles that nobody has, and a quorum that is out of reach."""
    known = sorted({person.role for person in board.people})
    for index, role in enumerate(asked.roles):
        yield from unknown_name((*place, "roles", index), role, known, "the role of a person in board.yaml")
    if asked.roles and asked.quorum > (number := len(signers(asked, board.people))):
        yield Problem((*place, "quorum"), str(asked.quorum), f"{number} or less, as many as board.yaml has")


def _missing_case_files(service: Service, folder: Path) -> Iterator[Problem]:
    for index, name in enumerate(service.cases.catalogue if service.cases else ()):
        if not (folder / FOLDER / f"{name}.yaml").is_file():
            known = listed([file.removesuffix(".yaml") for file in names_in(folder / FOLDER, ".yaml")])
            yield Problem(("cases", "catalogue", index), f'"{name}"', f"a file of {FOLDER}/ in the catalogue: {known}")


def _loosening_service(service: Service, policy: Policy) -> Iterator[Problem]:
    if service.business_unit is not None and service.business_unit not in policy.business_units:
        return
    for refusal in change_policy.refusals_of_service(policy, service):
        yield Problem(("policy", *refusal.path), tightening.shown(refusal.found), refusal.allowed)
    for name in service.path:
        for refusal in refusals_of_environment(policy, service, name):
            yield Problem(
                (*service.key_of(name).split("."), *refusal.path), tightening.shown(refusal.found), refusal.allowed
            )


def _unknown_registries(service: Service, policy: Policy) -> Iterator[Problem]:
    """Yield registries that the policy does not open for the service's builds."""
    if any(_unknown_unit(service, policy)) or any(_loosening_service(service, policy)):
        return
    allowed = change_policy.build_rules_of(policy, service).registries
    what = "a registry that builds.registries of policy.yaml allows for it (its owner can add one)"
    named: list[tuple[Place, Sequence[str]]] = []
    if isinstance(service.build, Prebuilt):
        stores = policy.prebuilt.stores
        what_store = "a place that prebuilt.stores of policy.yaml allows"
        yield from unknown_name(("build", "connection"), service.build.connection, stores, what_store)
    else:
        named.append((("build", "registries"), service.build.registries))
    named += [(("suites", name, "registries"), suite.registries) for name, suite in service.suites.items()]
    for place, registries in named:
        for index, registry in enumerate(registries):
            yield from unknown_name((*place, index), registry, allowed, what)


def _unmeasured(service: Service, policy: Policy) -> Iterator[Problem]:
    """Yield a missing source of a service's coverage; an invalid policy is reported elsewhere."""
    with suppress(PolicyViolation):
        if lacks := change_policy.unmeasured(policy, service):
            yield Problem(("build", "coverage"), "nothing", lacks)


def _unusable_keys(policy: Policy) -> Iterator[Problem]:
    """Yield pinned keys with which nothing can be verified."""
    if not policy.prebuilt.keys:
        return
    from interlock.adapters.prebuilt.statements import unusable_keys  # not at the top: brings cryptography

    for index, why in unusable_keys(policy.prebuilt):
        yield Problem(("prebuilt", "keys", index, "key"), f"a key, but {why}", "a public key in PEM that can be used")


def _unclaimed(service: Service, policy: Policy) -> Iterator[Problem]:
    """Yield what a service with artifacts from elsewhere must name, because its policy demands proof of it."""
    if not isinstance(service.build, Prebuilt):
        return
    with suppress(PolicyViolation):
        demanded = tightening.resolved(policy, service).demanded.claims
        named: dict[str, object] = {
            "workflow": service.build.workflow,
            "entry_point": service.build.entry_point,
            "statements": service.build.statements,
        }
        wanted = {"workflow": "workflow", "entry_point": "entry_point", "statements": "provenance"}
        for key, claim in wanted.items():
            if claim in demanded and not named[key]:
                yield Problem(("build", key), "nothing", f"a value, because the policy demands the claim {claim}")


def _untested(service: Service, policy: Policy) -> Iterator[Problem]:
    """Yield that a service has no tests of any kind, though some are demanded."""
    with suppress(PolicyViolation):
        if lacks := change_policy.untested(policy, service, has_unit_tests=runs_unit_tests(service.build)):
            yield Problem(("build", "test"), "nothing", lacks)


def _refuse(file: YamlFile, problems: Iterable[Problem]) -> None:
    if found := list(problems):
        raise file.error(found)


def _is_name(name: str) -> bool:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    return True
