"""Isolation of untrusted code: a bubblewrap sandbox for each build and each suite (docs/adr/0013).

In a sandbox there are the machine's programs, read-only; a checkout, a home and a temporary folder, to write; processes
of its own; and a network in which nothing is but the places that were opened. There is nothing of the platform: no
file, process, port or variable, and not its Python. When a command ends, every process in there has ended with it.

Where the kernel allows no sandbox, the same commands run without isolation, as the platform's user, if the policy says
that this is to be recorded and not refused.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from interlock.domain.errors import AssetMissing
from interlock.domain.records import BuildEnvironment

from . import makers
from ._furnishing import make_sandbox
from ._network_access import gateways_to
from .registries import variables
from .sandboxes import DEFAULT, Confines, Maker, Sandbox


@contextmanager
def sandbox(
    checkout: Path,
    *,
    environ: Mapping[str, str],
    confines: Confines = DEFAULT,
    names: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
    reaches: Sequence[str] = (),
) -> Iterator[Sandbox]:
    """Give a sandbox for a checkout: made by bubblewrap, or, if the policy says so, a place beside the platform.

    :param environ: the worker's environment.
    :param names: variables of it that the service asked for.
    :param more: variables that are set whatever the worker's are.
    :param reaches: URLs that may be reached beside the registries.
    :raises AssetMissing: no sandbox can be made here, and the policy requires one.
    """
    maker, why_not = makers.find_maker(environ)
    if maker is None and confines.rules.isolation == "required":
        raise cannot_isolate(why_not)
    urls = [*reaches, *(url for one in confines.registries for url in one.urls)]
    with tempfile.TemporaryDirectory(prefix="interlock-sandbox-", ignore_cleanup_errors=True) as own:
        box = make_sandbox(checkout, Path(own), maker, environ, names, confines, gateways_to(urls))
        yield replace(
            box,
            environ={**box.environ, **variables(confines.registries), **(more or {})},
            surroundings=_surroundings(maker, why_not, confines, reaches),
        )


def cannot_isolate(why: str) -> AssetMissing:
    """Return the error that no build can be isolated here."""
    return AssetMissing(
        f"This machine cannot isolate builds: {why}.",
        rule="builds.isolation is required, in policy.yaml or in a level below it",
        who="the operators of the worker; the owner of policy.yaml",
        next_step="allow the worker to create namespaces and install bubblewrap (docs/platform-engineer.md, Builds); "
        "or, if you trust every commit with the access rights of the worker, set builds.isolation to recorded",
    )


def _surroundings(maker: Maker | None, why_not: str, confines: Confines, reaches: Sequence[str]) -> BuildEnvironment:
    places = (*reaches, *(f"{one.url} ({one.name})" for one in confines.registries))
    if maker is None:
        return BuildEnvironment(
            isolated=False, how=f"not isolated: {why_not}", reaches=("everything that the worker can access",)
        )
    return BuildEnvironment(isolated=True, how=str(maker), reaches=tuple(places))


def main() -> int:
    """Describe how builds are isolated on this machine, or why they are not."""
    maker, why_not = makers.find_maker(os.environ)
    print(f"Builds are isolated by {maker}." if maker else f"Builds cannot be isolated here: {why_not}.")
    return 0 if maker else 1


if __name__ == "__main__":
    sys.exit(main())
