"""What a rehearsal of database changes has to prove: no row is lost, and what production runs works after them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.errors import PolicyViolation, QualityRejected
from interlock.domain.quality.rows import TestRow
from interlock.domain.records import MigrationRehearsal, PlannedStep, RolloutPlan, SmokeResult

RULE = (
    "a change of a database is rehearsed on a restored copy: no row is lost, and the version that production runs "
    "works on the schema after it (migrates, in the runbook of the service)"
)
WHO = "the service's team"
MAX_NAMED = 5
"""So many things of a kind a refusal names."""


class Rows(Model):
    """What a table has.

    :param columns: those that were read; of a later look, those of the first one that are still there.
    :param contents: a number that is the same for the same rows in those columns, in whatever order they are.
    """

    columns: tuple[str, ...]
    count: int
    contents: str


Tables = Mapping[str, Rows]
"""Table with its schema: what it has."""


def migrating(steps: Iterable[PlannedStep]) -> tuple[PlannedStep, ...]:
    """Return the steps of a release that change a database."""
    return tuple(step for step in steps if step.migrates and not step.left_out)


def digest_of(steps: Iterable[PlannedStep]) -> Sha256:
    """Return the digest of what steps that change databases do; where they do it is not a part of it."""
    told = [step.model_dump(mode="json", exclude={"host", "left_out", "estimate"}) for step in steps]
    return sha256_of({"steps": told})


def taken_away(before: Tables, after: Tables) -> tuple[str, ...]:
    """Return the tables, and the columns of others, that are not there any more."""
    return tuple(_taken_away(before, after))


def _taken_away(before: Tables, after: Tables) -> Iterator[str]:
    for name, rows in before.items():
        if name not in after:
            yield name
        else:
            yield from (f"{name}.{column}" for column in rows.columns if column not in after[name].columns)


def lost_rows(before: Tables, after: Tables) -> tuple[str, ...]:
    """Say of each table that is still there how many rows it has lost."""
    return tuple(
        f"{name} had {rows.count} rows and has {after[name].count}"
        for name, rows in before.items()
        if name in after and after[name].count < rows.count
    )


def changed_contents(before: Tables, after: Tables) -> tuple[str, ...]:
    """Return the tables whose contents differ, of those that have the same columns and as many rows."""
    return tuple(
        name
        for name, rows in before.items()
        if name in after
        and (after[name].columns, after[name].count) == (rows.columns, rows.count)
        and after[name].contents != rows.contents
    )


def judge_forward(database: str, before: Tables, after: Tables, *, contracts: bool) -> tuple[str, ...]:
    """Return what people are told of a change that nobody else wrote beside.

    :param contracts: a step of it takes away what older versions need.
    :raises QualityRejected: it loses rows, or takes away what an expansion must leave.
    """
    if lost := lost_rows(before, after):
        raise rejected(f"The change of {database} loses rows: {_listed(lost)}.")
    gone = taken_away(before, after)
    if gone and not contracts:
        raise rejected(
            f"The change of {database} takes away {_listed(gone)}, which the version that production runs may need.",
            next_step="take it away in a later release, in a step with works_from (expand and contract)",
        )
    empty = not any(rows.count for rows in before.values())
    return (
        *([f"{database}: the restored copy has no row, so it is not shown that rows are kept"] if empty else []),
        *(f"{database}: {name} is taken away" for name in gone),
        *(f"{database}: the contents of {name} are changed" for name in changed_contents(before, after)),
    )


def judge_back(database: str, first: Tables, forward: Tables, before: Tables, after: Tables) -> tuple[str, ...]:
    """Return what people are told of a way back that nobody else wrote beside.

    :param first: the restored copy; ``forward``: the same columns after the change.
    :param before: the same columns just before the way back; ``after``: those after it.
    :raises QualityRejected: it loses rows, does not bring back what was there, or changes what the change had left.
    """
    if gone := taken_away(first, after):
        raise rejected(f"The way back of {database} does not bring back {_listed(gone)}.")
    if lost := lost_rows(before, after):
        raise rejected(f"The way back of {database} loses rows: {_listed(lost)}.")
    altered, left = changed_contents(before, after), {*changed_contents(first, forward)}
    if spoilt := [name for name in altered if name not in left]:
        raise rejected(
            f"The way back of {database} changes the contents of {_listed(spoilt)}, which the change had left as they "
            "were."
        )
    return tuple(f"{database}: the way back changes the contents of {name}, too" for name in altered)


def refuse_broken(version: str, smoked: Sequence[SmokeResult], tests: Sequence[TestRow], moment: str) -> None:
    """Refuse a change after which the version that production runs does not work.

    :param moment: when it was tried, in words.
    """
    wrong = [f"{one.path}: expected {one.expected}, found {one.found}" for one in smoked if not one.passed]
    wrong += [f"{one.classname}.{one.name}: {one.status}" for one in tests if one.status in ("failed", "error")]
    if wrong:
        raise rejected(f"{version}, which production runs, does not work {moment}: {_listed(wrong)}.")


def rejected(what: str, key: str = "", *, next_step: str = "") -> QualityRejected:
    """Return the refusal of a release whose database changes are not proven.

    :param key: of the service's database that has to be mended; empty: the programs of the step.
    """
    mend = f"correct the program under databases.{key}" if key else "correct the programs of the step"
    return QualityRejected(what, rule=RULE, who=WHO, next_step=f"{next_step or mend}, and release a new version")


def describe_way_back(steps: Iterable[PlannedStep]) -> str:
    """Say for a board whether the way back of the database changes was tried."""
    if names := [step.title for step in migrating(steps) if step.is_irreversible]:
        return f"No way back was tried, because there is none: {'; '.join(names)}."
    return "They were taken back on the copy without losing a row, and done again."


def refuse_unproven(plan: RolloutPlan, recorded: MigrationRehearsal | None) -> None:
    """Refuse a plan whose database changes are not proven, before anybody votes.

    :raises PolicyViolation: with every reason.
    """
    if found := unproven(plan, recorded):
        raise PolicyViolation(" ".join(found), rule=RULE, who=WHO, next_step="trigger the release again")


def unproven(plan: RolloutPlan, recorded: MigrationRehearsal | None) -> tuple[str, ...]:
    """Say why the database changes of a plan are not proven; nothing: they are, or it has none.

    :param recorded: by the ledger.
    """
    return tuple(_unproven(plan, recorded))


def _unproven(plan: RolloutPlan, recorded: MigrationRehearsal | None) -> Iterator[str]:
    steps, named = migrating(plan.steps), plan.migrations
    if named != recorded:
        yield "What the plan says of the rehearsal of its database changes is not what the ledger has."
    if not steps:
        return
    if named is None:
        yield "The database changes of the release were not rehearsed."
        return
    if (named.bundle, named.steps) != (plan.bundle.sha256, digest_of(steps)):
        yield "Other database changes were rehearsed than those that the plan has."
    runs = {release for release in plan.back_out.releases.values() if release}
    if missing := sorted(runs - {one.release for one in named.before}):
        yield f"The database changes were not rehearsed with {', '.join(missing)}, which hosts of the plan run."


def _listed(found: Sequence[str]) -> str:
    more = f", and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return "; ".join(found[:MAX_NAMED]) + more
