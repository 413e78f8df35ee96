"""Places that two services could share by mistake: the same hosts, and the same folder on them.

A release's folder belongs to one service in one environment. Tags tell which hosts two services share: in one account
(``aws``), hosts that could carry both sets of tags count as the same. Names tell which folders overlap: the same one,
or one inside the other. ``{host}`` and a folder under the login's home are compared as they are written; what only the
host itself can tell is refused there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from interlock.domain.catalogue import Environment, Service
from interlock.domain.catalogue.service_file import may_be_the_same


def shared_places(services: Mapping[str, Service]) -> list[str]:
    """Return a sentence for each two services that would overwrite each other."""
    places: dict[tuple[str, PurePosixPath], list[tuple[str, str, Environment]]] = defaultdict(list)
    for name, service in sorted(services.items()):
        for environment, target in sorted(service.environments.items()):
            places[target.aws, _root(target)].append((name, environment, target))
    return [
        f"services/{one}.yaml, {_where(first, second)}: {one} and {other} may select the same hosts "
        f"({_tags(here)}; {_tags(there)}) and there {_folders(here, there)}: they would overwrite each other. "
        "Give each a deploy_root of its own, or both a tag with different values."
        for (one, first, here), (other, second, there) in _pairs(places)
        if one != other and any(may_be_the_same(tags, others) for tags in here.fleets for others in there.fleets)
    ]


def _where(first: str, second: str) -> str:
    return f"environments.{first}" if first == second else f"environments.{first} and {second}"


_Place = tuple[str, str, Environment]


def _pairs(places: Mapping[tuple[str, PurePosixPath], list[_Place]]) -> Iterator[tuple[_Place, _Place]]:
    """Yield each pair whose folders are equal or nested, once."""
    for (account, root), here in places.items():
        for number, one in enumerate(here):
            yield from ((one, other) for other in here[number + 1 :])
        for above in root.parents:
            yield from _each_with_each(here, places.get((account, above), ()))


def _each_with_each(some: Iterable[_Place], others: Iterable[_Place]) -> Iterator[tuple[_Place, _Place]]:
    return ((one, other) for one in some for other in others)


def _root(environment: Environment) -> PurePosixPath:
    return PurePosixPath(environment.deploy_root)


def _tags(environment: Environment) -> str:
    return " or ".join(
        ", ".join(f"{tag}={value}" for tag, value in sorted(fleet.items())) for fleet in environment.fleets
    )


def _folders(one: Environment, other: Environment) -> str:
    if _root(one) == _root(other):
        return f"the same deploy_root {one.deploy_root}"
    return f"{one.deploy_root} and {other.deploy_root}, of which one is inside the other"
