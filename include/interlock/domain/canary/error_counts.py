"""Does a canary fail more requests than its baseline? A test of counts: over all, by host, by path, and in time.

For each host, path and round, the number of requests and the number of failures are known. Fisher's exact test,
one-sided, says whether the canary has more failures than chance explains: for the whole fleet, for each host, for each
path, for each path of each host, and for each of these in every run of rounds; each against all hosts of the baseline
in the same rounds. So a dead host does not disappear in an average, and a bad hour does not disappear in a day.

The risk of a false alarm is divided among all these tests. If two fleets are alike, and each request fails
independently and equally often on both, at most the share :data:`RISK` of all canaries fails, whatever the share of
errors is (Boole's inequality). The exception is a share so high that the baseline answers nothing on a path by chance.
Failures that are too rare to be told from chance are not found; ``docs/benchmarks.md`` says how many that is.

Counts that cannot be compared prove nothing, and never count as good: no counts at all, hosts that got different
requests, a host that answered nothing, a baseline of which one host fails more than the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

RISK = 0.01
"""Maximum share of canaries that fail because of errors although they are as good as their baseline."""
OVERALL, IN_TIME, OF_BASELINE, AT_THE_END = 0.5, 0.3, 0.1, 0.1
"""Shares of the risk: of tests over all rounds, of tests of some rounds, of whether the hosts of the baseline are
alike, and of whether a host answers nothing at the end."""
FLEET, HOST, PATH, BOTH = 4, 2, 1, 1
"""Weights within a share: of the fleet as a whole, of all hosts, of all paths, of all paths of all hosts."""
MAX_ROUNDS = 60
"""Of more rounds, neighbours are taken together: there are as many tests in time as pairs of rounds."""

Values = NDArray[np.float64]
Table = NDArray[np.float64]
"""Host, path, round: a number of requests."""


class Count(NamedTuple):
    """How many requests one host got for one path in one round, and how many of them failed."""

    host: str
    path: str
    round: int
    total: float
    failed: float

    @property
    def percent(self) -> float:
        """The share that failed."""
        return 100 * self.failed / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """What came of comparing.

    :param unusable: why the counts prove nothing; empty: they can be compared.
    :param whole: why the canary fails over all paths; empty: by that, it does not.
    :param paths: path: why the canary fails on it.
    """

    unusable: str = ""
    whole: str = ""
    paths: tuple[tuple[str, str], ...] = ()

    def of(self, path: str) -> str:
        """Return why the canary fails on a path; empty: it does not."""
        return dict(self.paths).get(path, "")


def compare(baseline: Sequence[Count], canary: Sequence[Count], *, risk: float = RISK, what: str = "requests") -> Found:
    """Compare the failures of a canary with those of its baseline.

    :param what: what was made and failed, in words.
    """
    if unusable := _unusable(baseline, canary, what):
        return Found(unusable)
    tried, old = _Side.of(canary), _Side.of(baseline)
    if bad := _dead(old, risk * AT_THE_END / 2, what) or _uneven(old, risk * OF_BASELINE, what):
        return Found(f"The baseline has no usable data: {bad}")
    found = _strongest(_tests(tried, _as_if_well(old), risk, what))
    dead = _dead(tried, risk * AT_THE_END / 2, what)
    whole = f"In the canary, {dead}" if dead else found.pop("", "")
    return Found(whole=whole, paths=tuple(sorted(found.items())))


def _unusable(baseline: Sequence[Count], canary: Sequence[Count], what: str) -> str:
    """Say why counts cannot be compared; empty: they can."""
    if wrong := _no_count((*canary, *baseline), what):
        return wrong
    for side, counts in (("canary", canary), ("baseline", baseline)):
        if not sum(one.total for one in counts):
            return f"There are no {what} of the {side}."
    return _not_alike((*canary, *baseline), what)


def _no_count(counts: Iterable[Count], what: str) -> str:
    seen: set[tuple[str, str, int]] = set()
    for one in counts:
        place = f"{one.host}, {one.path}, round {one.round}"
        if not (np.isfinite(one.total) and np.isfinite(one.failed) and 0 <= one.failed <= one.total):
            return f"{one.failed:g} of {one.total:g} {what} failed is not a valid count ({place})."
        if one[:3] in seen:
            return f"The {what} of {place} are recorded twice."
        seen.add(one[:3])
    return ""


def _not_alike(counts: Sequence[Count], what: str) -> str:
    """Return which hosts got a different load: too few requests prove nothing, too many hide failures."""
    total = {one[:3]: one.total for one in counts}
    hosts = sorted({one.host for one in counts})
    for path, number in sorted({one[1:3] for one in counts}):
        asked = sorted((total.get((host, path, number), 0.0), host) for host in hosts)
        (least, who), (most, other) = asked[0], asked[-1]
        if least != most:
            return (
                f"The hosts did not get the same load: {path} in round {number}, {least:g} {what} of {who} and "
                f"{most:g} of {other}."
            )
    return ""


@dataclass(frozen=True, slots=True)
class _Side:
    """One side's counts as tables; hosts, paths and rounds in order."""

    hosts: tuple[str, ...]
    paths: tuple[str, ...]
    rounds: tuple[int, ...]
    total: Table
    failed: Table

    @classmethod
    def of(cls, counts: Sequence[Count]) -> _Side:
        """Put counts into tables."""
        hosts, paths = tuple(sorted({one.host for one in counts})), tuple(sorted({one.path for one in counts}))
        rounds = tuple(sorted({one.round for one in counts}))
        total, failed = np.zeros((2, len(hosts), len(paths), len(rounds)))
        places = [{value: place for place, value in enumerate(values)} for values in (hosts, paths, rounds)]
        for one in counts:
            place = places[0][one.host], places[1][one.path], places[2][one.round]
            total[place], failed[place] = one.total, one.failed
        return cls(hosts, paths, rounds, total, failed)


def _dead(side: _Side, risk: float, what: str) -> str:
    """Return which host failed all requests, in total or in the last round, beyond its earlier failure rate."""
    total, failed = side.total.sum(axis=1), side.failed.sum(axis=1)
    usual = (failed[:, :-1].sum() + 1) / (total[:, :-1].sum() + 1)
    for host, asked, lost in zip(side.hosts, total, failed, strict=True):
        if lost.sum() >= asked.sum():
            return f"{host} failed all of {asked.sum():g} {what}."
        if lost[-1] >= asked[-1] and usual ** asked[-1] <= risk / len(side.hosts):
            return f"{host} failed all of {asked[-1]:g} {what} of the last round."
    return ""


def _uneven(side: _Side, risk: float, what: str) -> str:
    """Say which host fails more than the others beside it: with such a baseline, a bad canary is as good as it."""
    total, failed = side.total.sum(axis=(1, 2)), side.failed.sum(axis=(1, 2))
    if len(side.hosts) == 1:
        return ""
    chances = _chance(failed, total, failed.sum() - failed, total.sum() - total)
    place = int(np.argmin(chances))
    if chances[place] > risk / len(side.hosts):
        return ""
    return (
        f"{side.hosts[place]} failed {failed[place]:g} of {total[place]:g} {what}, and the others "
        f"{failed.sum() - failed[place]:g} of {total.sum() - total[place]:g}."
    )


def _as_if_well(old: _Side) -> _Side:
    """Treat a path that the old version does not have, and never answered, as a path that never fails."""
    never = old.failed.sum(axis=(0, 2)) >= old.total.sum(axis=(0, 2))
    return _Side(old.hosts, old.paths, old.rounds, old.total, np.where(never[None, :, None], 0.0, old.failed))


class _Scope(NamedTuple):
    """The host and path whose failures are tested, and the share of the risk; none: all."""

    host: int | None
    path: int | None
    share: float


class _Failure(NamedTuple):
    """A test by which the canary fails more: how far below the allowed probability, and the sentence."""

    excess: float
    path: str
    reason: str


def _strongest(failures: Iterable[_Failure]) -> dict[str, str]:
    """Return for each path, and for all of them under an empty name, what is least likely to be chance."""
    found: dict[str, _Failure] = {}
    for one in failures:
        found[one.path] = min(one, found.get(one.path, one))
    return {path: one.reason for path, one in found.items()}


def _scopes(side: _Side) -> list[_Scope]:
    """Return the scopes of the tests; a fleet with one host or one path needs no separate scope for it."""
    hosts = [*range(len(side.hosts))] if len(side.hosts) > 1 else []
    paths = [*range(len(side.paths))] if len(side.paths) > 1 else []
    kinds: list[tuple[int, list[tuple[int | None, int | None]]]] = [
        (FLEET, [(None, None)]),
        (HOST, [(host, None) for host in hosts]),
        (PATH, [(None, path) for path in paths]),
        (BOTH, [(host, path) for host in hosts for path in paths]),
    ]
    total = sum(weight for weight, members in kinds if members)
    return [_Scope(*one, weight / total / len(members)) for weight, members in kinds for one in members]


def _tests(tried: _Side, old: _Side, risk: float, what: str) -> Iterator[_Failure]:
    """Test all scopes over all rounds and in each run of rounds; yield differences that chance does not explain."""
    ends = [*_cut(len(tried.rounds))]
    begins, stops, shares = _runs(len(ends) - 1)
    for scope in _scopes(tried):
        sums = [_sums(table, scope, ends) for table in (tried.failed, tried.total)]
        sums += [_sums(table, scope._replace(host=None), ends) for table in (old.failed, old.total)]
        counts = [total[stops] - total[begins] for total in sums]
        excess = _chance(*counts) / (risk * shares * scope.share)
        place = int(np.argmin(excess))
        if excess[place] <= 1:
            numbers = [float(one[place]) for one in counts]
            run = ends[begins[place]], ends[stops[place]]
            path = "" if scope.path is None else tried.paths[scope.path]
            yield _Failure(float(excess[place]), path, _in_words(tried, scope, run, numbers, what))


def _cut(rounds: int) -> Iterator[int]:
    """Yield where runs of rounds begin and end: before, between and after rounds, or blocks of neighbours."""
    parts = min(rounds, MAX_ROUNDS)
    return (round(rounds * part / parts) for part in range(parts + 1))


def _runs(rounds: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Values]:
    """Return the start and the end of each run of rounds, and its share of the risk.

    All rounds have theirs. Of the others, those of a length have together the less the longer they are: there are more
    short ones, and a dead round has fewer requests to show it.
    """
    begins, stops = np.triu_indices(rounds + 1, 1)
    lengths = stops - begins
    weights = np.where(lengths < rounds, 1 / (lengths * (rounds - lengths + 1)), 0.0)
    shares = np.where(lengths == rounds, OVERALL, IN_TIME * weights / max(weights.sum(), 1e-9))
    return begins, stops, shares


def _sums(table: Table, scope: _Scope, ends: Sequence[int]) -> Values:
    """Return how many there were in a scope up to each end."""
    hosts = slice(None) if scope.host is None else slice(scope.host, scope.host + 1)
    paths = slice(None) if scope.path is None else slice(scope.path, scope.path + 1)
    by_round = table[hosts, paths].sum(axis=(0, 1))
    return np.concatenate(([0.0], np.cumsum(by_round)))[list(ends)]


def _chance(failed: Values, total: Values, failed_before: Values, total_before: Values) -> Values:
    """Return the probability of at least so many failures if both fail equally: Fisher's exact test, one-sided."""
    chances = np.ones(len(failed))
    worse = failed * total_before > failed_before * total
    lost, asked, lost_before, asked_before = (
        np.rint(one[worse]) for one in (failed, total, failed_before, total_before)
    )
    chances[worse] = hypergeom.sf(lost - 1, asked + asked_before, lost + lost_before, asked)
    return chances


def _in_words(tried: _Side, scope: _Scope, run: tuple[int, int], numbers: Sequence[float], what: str) -> str:
    failed, total, failed_before, total_before = numbers
    of = "" if scope.path is None else f" of {tried.paths[scope.path]}"
    who = "The canary" if scope.host is None else f"{tried.hosts[scope.host]} of the canary"
    first, last = tried.rounds[run[0]], tried.rounds[run[1] - 1]
    when = f" in round {first}" if first == last else f" in rounds {first} to {last}"
    if run == (0, len(tried.rounds)):
        when = ""
    return (
        f"{who} failed {failed:g} of {total:g} {what}{of}{when}, the baseline {failed_before:g} of {total_before:g}: "
        "a difference that chance does not explain."
    )
