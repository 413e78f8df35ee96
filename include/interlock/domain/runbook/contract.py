"""Steps that take away what older versions need (contract): not while anything still runs such a version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from interlock.domain.change.semver import is_version, parse_version
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PlannedStep, RunningRelease

Running = Mapping[str, Sequence[RunningRelease]]
"""Environment: what each of its hosts runs."""


def refuse_contract(steps: Iterable[PlannedStep], running: Running) -> None:
    """Refuse steps after which a version does not work that a host of any environment runs.

    What a host runs is what it goes back to, so that a back-out of the release works, too.

    :raises PolicyViolation: a host runs an older version, or it is not known which one.
    """
    found = [said for step in steps if step.works_from and not step.left_out for said in _older(step, running)]
    if found:
        raise PolicyViolation(
            " ".join(found),
            rule="expand and contract are two releases: what older versions need is taken away when none of them runs "
            "(works_from, in the runbook of the service)",
            who="the service's team",
            next_step="release a version to these hosts that works without it, then trigger the release again",
        )


def _older(step: PlannedStep, running: Running) -> Iterator[str]:
    for environment, hosts in running.items():
        for host in hosts:
            if host.release is None:
                continue  # it runs nothing
            if host.version is None or not is_version(host.version):
                runs = f"{host.release}, whose version is not known"
            elif parse_version(host.version).compare(parse_version(step.works_from or "")) < 0:
                runs = host.version
            else:
                continue
            yield (
                f"“{step.title}” takes away what versions before {step.works_from} need, and {host.host} of "
                f"{environment} runs {runs}."
            )
