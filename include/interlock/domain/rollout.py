"""How a fleet is cut into waves."""

from __future__ import annotations

from collections.abc import Sequence

from .catalogue import Wave
from .errors import PolicyViolation
from .records import Host


def split_waves(hosts: Sequence[Host], waves: Sequence[Wave]) -> tuple[tuple[Host, ...], ...]:
    """Cut a fleet into waves, in its order: one part for each wave, each host in one part.

    Waves are counted from the start of the fleet: after ``25%``, a quarter of it is done, rounded up. A wave that adds
    nothing to the ones before it is empty.

    :raises PolicyViolation: the last wave leaves hosts behind.
    """
    parts: list[tuple[Host, ...]] = []
    done = 0
    for wave in waves:
        until = max(done, _reach(wave, len(hosts)))
        parts.append(tuple(hosts[done:until]))
        done = until
    if done < len(hosts):
        raise PolicyViolation(
            f"The waves {', '.join(map(str, waves)) or 'of an empty list'} leave {len(hosts) - done} of "
            f"{len(hosts)} hosts behind.",
            rule="the last wave is the whole fleet (services/*.yaml, environments.*.waves)",
            who="the service's team",
            next_step="end the list of waves with 100%",
        )
    return tuple(parts)


def _reach(wave: Wave, hosts: int) -> int:
    """Return how many hosts are done after a wave."""
    if wave.percent is not None:
        return -(-hosts * wave.percent // 100)
    return min(hosts, wave.hosts or 0)


def wave_title(number: int, of: int, wave: Wave) -> str:
    """Return a wave's name for people, such as ``Wave 1 of 2 · 1 host``.

    :param number: counted from 1.
    """
    return f"Wave {number} of {of} · {wave}"
