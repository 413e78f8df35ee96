"""A pair of versions: a schema with rows, a change of it with its way back, and what both do with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Sql = Callable[..., list[tuple[Any, ...]]]
"""Runs a statement and returns its rows."""

TYPES: dict[str, Callable[[random.Random], Any]] = {
    "integer": lambda of: of.randrange(10**6),
    "text": lambda of: f"text {of.randrange(10**6)} ' \\",
    "numeric(12, 2)": lambda of: of.randrange(10**6),
    "boolean": lambda of: of.random() < 0.5,
    "date": lambda of: f"20{of.randrange(10, 30)}-0{of.randrange(1, 10)}-1{of.randrange(10)}",
}
LOSSES = ("deletes", "drops a column", "renames", "drops a table", "back deletes", "back resets", "back drops")
"""What a change or its way back gets wrong. Each has to be found in the rehearsal."""


@dataclass
class Pair:
    """Two versions, and the change between them.

    :param tables: of the version before: each with its columns and their types, beside ``id``.
    :param added: table: the columns that the version after writes, too, each with the column that it follows.
    :param new_tables: that the version after writes, and the one before does not know.
    :param kept: what was acknowledged: the values of the version before, by table and id.
    """

    of: random.Random
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    added: dict[str, dict[str, str]] = field(default_factory=dict)
    new_tables: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    kept: dict[tuple[str, int], tuple[Any, ...]] = field(default_factory=dict)
    news: int = 0

    def insert(self, sql: Sql, table: str, id: int, *, new: bool) -> None:
        """Write a row as one of the versions does, and remember what has to be there."""
        columns = self.tables[table]
        values = {name: TYPES[kind](self.of) for name, kind in columns.items()}
        told = dict(values)
        if new:
            for name, source in self.added.get(table, {}).items():
                told[name] = values[source] * 100
                del told[source]  # the version after leaves it to the trigger
        names = ", ".join(("id", *told))
        sql(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * (len(told) + 1))})", id, *told.values())
        self.kept[table, id] = self.read(sql, table, id)
        assert all(one is not None for one in self.kept[table, id]), "a value that the version before needs is missing"

    def read(self, sql: Sql, table: str, id: int) -> tuple[Any, ...]:
        """Read a row as the version before does."""
        ((*found,),) = sql(f"SELECT {', '.join(self.tables[table])} FROM {table} WHERE id = %s", id)
        return tuple(found)

    def works(self, sql: Sql, *, new: bool, rows: int = 2) -> None:
        """Do what a version does: write rows, change some, and read them."""
        for table in self.tables:
            ((last,),) = sql(f"SELECT coalesce(max(id), 0) FROM {table}")
            for id in range(last + 1, last + 1 + rows):
                self.insert(sql, table, id, new=new)
            id = self.of.choice([known for where, known in self.kept if where == table])
            column, kind = self.of.choice([*self.tables[table].items()])
            sql(f"UPDATE {table} SET {column} = %s WHERE id = %s", TYPES[kind](self.of), id)
            self.kept[table, id] = self.read(sql, table, id)
        for table in self.new_tables if new else ():
            sql(f"INSERT INTO {table} (note) VALUES ('new')")
            self.news += 1

    def lost(self, sql: Sql) -> list[str]:
        """Return what was acknowledged and is not there any more."""
        found = {(table, row[0]): row[1:] for table in self.tables for row in self._rows(sql, table)}
        missing = [f"{table} {id}" for (table, id), row in self.kept.items() if found.get((table, id)) != row]
        there = sum(
            sql(f"SELECT count(*) FROM {table}")[0][0]
            for table in self.new_tables
            if sql("SELECT to_regclass(%s)", table)[0][0]
        )
        return [*missing, *([f"{self.news - there} rows of new tables"] if there != self.news else [])]

    def _rows(self, sql: Sql, table: str) -> list[tuple[Any, ...]]:
        return sql(f"SELECT id, {', '.join(self.tables[table])} FROM {table}")

    def is_forward(self, sql: Sql) -> bool | None:
        """Tell whether the whole change is there; None: a part of it is."""
        columns = {(table, column) for table, added in self.added.items() for column in added}
        there = {(one, two) for one, two in sql("SELECT table_name, column_name FROM information_schema.columns")}
        triggers = {name for (name,) in sql("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")}
        wanted = {f"follow_{table}_{column}" for table, column in columns}
        parts = [one in there for one in columns] + [one in triggers for one in wanted]
        empty = [
            sql("SELECT to_regclass(%s) IS NOT NULL", table)[0][0] for table in self.new_tables if not self.news
        ]  # with rows in it, the way back leaves it
        parts += empty
        return all(parts) if all(parts) or not any(parts) else None


def make_pair(seed: object, loss: str = "") -> Pair:
    """Generate a pair of versions. With ``loss``, its change or its way back gets something wrong."""
    pair = Pair(random.Random(f"{seed}"))
    of = pair.of
    for number in range(of.randint(1, 3)):
        kinds = ["integer", *(of.choice([*TYPES]) for _ in range(of.randint(1, 4)))]
        pair.tables[f"t{number}"] = {f"c{index}": kind for index, kind in enumerate(kinds)}
    changes = [_add_column, _add_table, _add_index, _widen, _add_check]
    _add_column(pair)  # something that shows whether it is done
    for change in of.sample(changes, of.randint(0, 3)):
        change(pair)
    if loss:
        _get_wrong(pair, loss)
    return pair


def _source(pair: Pair) -> tuple[str, str]:
    table = pair.of.choice([*pair.tables])
    return table, pair.of.choice([name for name, kind in pair.tables[table].items() if kind == "integer"])


def _add_column(pair: Pair) -> None:
    """Add a column that follows another, for both versions: the trigger fills the one that a version leaves out."""
    table, source = _source(pair)
    added = pair.added.setdefault(table, {})
    if source in added.values():
        return
    column = f"{source}_cents"
    added[column] = source
    name = f"follow_{table}_{column}"
    pair.forward.append(
        f"ALTER TABLE {table} ADD COLUMN {column} bigint; UPDATE {table} SET {column} = {source}::bigint * 100;"
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.{column} IS NULL OR (TG_OP = 'UPDATE' AND NEW.{source} IS DISTINCT FROM OLD.{source}) THEN "
        f"NEW.{column} := NEW.{source}::bigint * 100; ELSE NEW.{source} := NEW.{column} / 100; END IF; RETURN NEW; "
        f"END $$; CREATE TRIGGER {name} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
    )
    pair.back.insert(
        0,
        f"DROP TRIGGER IF EXISTS {name} ON {table}; DROP FUNCTION IF EXISTS {name};"
        f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column}",
    )


def _add_table(pair: Pair) -> None:
    """Add a table, which the way back leaves if somebody wrote to it."""
    name = f"n{len(pair.new_tables)}"
    pair.new_tables.append(name)
    pair.forward.append(f"CREATE TABLE IF NOT EXISTS {name} (id serial PRIMARY KEY, note text)")
    pair.back.insert(
        0,
        f"DO $$ BEGIN IF to_regclass('{name}') IS NOT NULL THEN IF NOT EXISTS (SELECT 1 FROM {name}) THEN "
        f"DROP TABLE {name}; END IF; END IF; END $$",
    )


def _add_index(pair: Pair) -> None:
    table, column = _source(pair)
    pair.forward.append(f"CREATE INDEX IF NOT EXISTS i_{table}_{column} ON {table} ({column})")
    pair.back.insert(0, f"DROP INDEX IF EXISTS i_{table}_{column}")


def _widen(pair: Pair) -> None:
    """Widen a type, which no way back needs to narrow."""
    table = pair.of.choice([*pair.tables])
    texts = [name for name, kind in pair.tables[table].items() if kind == "numeric(12, 2)"]
    pair.forward.extend(f"ALTER TABLE {table} ALTER COLUMN {name} TYPE numeric(20, 2)" for name in texts[:1])


def _add_check(pair: Pair) -> None:
    table, column = _source(pair)
    pair.forward.append(f"ALTER TABLE {table} ADD CONSTRAINT k_{table} CHECK ({column} >= 0) NOT VALID")
    pair.back.insert(0, f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS k_{table}")


def _get_wrong(pair: Pair, loss: str) -> None:
    table = pair.of.choice([*pair.tables])
    column = [*pair.tables[table]][-1]
    wrong = {
        "deletes": f"DELETE FROM {table} WHERE mod(id, 7) = 1",
        "drops a column": f"ALTER TABLE {table} DROP COLUMN {column}",
        "renames": f"ALTER TABLE {table} RENAME COLUMN {column} TO renamed",
        "drops a table": f"DROP TABLE {table}",
        "back deletes": f"DELETE FROM {table} WHERE id = (SELECT max(id) FROM {table})",
        "back resets": f"UPDATE {table} SET {column} = NULL WHERE id = (SELECT min(id) FROM {table})",
        "back drops": f"ALTER TABLE {table} DROP COLUMN {column}",
    }[loss]
    (pair.back if loss.startswith("back") else pair.forward).append(wrong)


def statements_of_schema(pair: Pair) -> Iterator[str]:
    """Yield the statements that make the tables of the version before."""
    for table, columns in pair.tables.items():
        described = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        yield f"CREATE TABLE {table} (id integer PRIMARY KEY, {described})"
