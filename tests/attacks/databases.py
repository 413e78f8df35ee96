"""Attackers who own a database: Airflow's, and the ledger's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg2
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from interlock.adapters.ledger.ledger import Ledger
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from tests.end_to_end.people import Release


class AirflowDatabase:
    """Airflow's own database, in the hands of its superuser."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        with closing(postgres.connect(self._settings, postgres.DATABASE)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    def set_state(self, release: Release, state: str | None, *tasks: str) -> None:
        """Write the state of tasks, whatever they did; each of a mapped one."""
        for task in tasks:
            changed = self.run(
                "UPDATE task_instance SET state = %s, start_date = coalesce(start_date, now()), end_date = now()"
                " WHERE dag_id = %s AND run_id = %s AND task_id = %s RETURNING id",
                *(state, release.dag_id, release.id, task),
            )
            assert changed, f"there is no task {task}"

    def run_again(self, release: Release, *tasks: str) -> None:
        """Have Airflow's scheduler run tasks of a run once more, whether it has ended or not."""
        for task in tasks:
            changed = self.run(
                "UPDATE task_instance SET state = NULL, start_date = NULL, end_date = NULL, next_method = NULL,"
                " next_kwargs = NULL, trigger_id = NULL, max_tries = try_number"
                " WHERE dag_id = %s AND run_id = %s AND task_id = %s RETURNING id",
                *(release.dag_id, release.id, task),
            )
            assert changed, f"there is no task {task}"
        self.run(
            "UPDATE dag_run SET state = 'running', end_date = NULL, last_scheduling_decision = NULL"
            " WHERE dag_id = %s AND run_id = %s",
            *(release.dag_id, release.id),
        )

    def xcom(self, release: Release, task: str) -> Any:
        """Return what a task handed on."""
        (row,) = self.run(
            "SELECT value FROM xcom WHERE dag_id = %s AND run_id = %s AND task_id = %s AND key = 'return_value'",
            *(release.dag_id, release.id, task),
        )
        return row[0]

    def write_xcom(self, release: Release, task: str, value: Any) -> None:
        """Write what a task is to have handed on."""
        self.run(
            "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp)"
            " SELECT id, %s, -1, 'return_value', dag_id, run_id, %s::jsonb, now() FROM dag_run"
            " WHERE dag_id = %s AND run_id = %s"
            " ON CONFLICT (dag_run_id, task_id, map_index, key) DO UPDATE SET value = EXCLUDED.value",
            *(task, json.dumps(value), release.dag_id, release.id),
        )

    def write_answer(self, release: Release, task: str, user: str, option: str, at: datetime | None = None) -> None:
        """Write that somebody answered the question that was asked of them, and let its task go on, as the API does."""
        changed = self.run(
            "UPDATE hitl_detail SET responded_at = %s, responded_by = %s, chosen_options = %s, params_input = %s"
            " FROM task_instance t WHERE t.id = ti_id AND t.dag_id = %s AND t.run_id = %s AND t.task_id = %s"
            " AND assignees::text LIKE %s RETURNING ti_id",
            at or datetime.now(UTC),
            json.dumps({"id": self.user_id(user), "name": user}),
            json.dumps([option]),
            json.dumps({"comment": "Fine with me"}),
            *(release.dag_id, release.id, task, f'%"id": "{user}"%'),
        )
        assert changed, f"{task} asks {user} nothing"
        self.run(
            "UPDATE task_instance SET trigger_timeout = now() WHERE id = %s AND state = 'awaiting_input'", *changed[0]
        )

    def user_id(self, user: str) -> str:
        """Return the number that FAB has for somebody."""
        return str(self.run("SELECT id FROM ab_user WHERE username = %s", user)[0][0])

    def instance(self, release: Release, task: str, map_index: int = -1) -> str:
        """Return the number of a task instance."""
        (row,) = self.run(
            "SELECT id FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s AND map_index = %s",
            *(release.dag_id, release.id, task, map_index),
        )
        return str(row[0])

    def forget(self, release: Release) -> None:
        """Delete a run and everything that Airflow has of it, its audit log included."""
        about = (release.dag_id, release.id)
        self.run("DELETE FROM log WHERE dag_id = %s AND run_id = %s", *about)
        self.run("DELETE FROM dag_run WHERE dag_id = %s AND run_id = %s", *about)


class LedgerDatabase:
    """The ledger's database, in the hands of its superuser, who can take its triggers away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def owner_url(self) -> str:
        """Return the URL that its owner logs in with."""
        password = postgres.ledger_password(self._settings, postgres.LEDGER_OWNER)
        login = f"{postgres.LEDGER_OWNER}:{password}"
        return f"postgresql://{login}@{LOOPBACK}:{self._settings.postgres_port}/{postgres.LEDGER}"

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        with closing(postgres.connect(self._settings, postgres.LEDGER)) as connection, connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # no foreign keys, and no ordinary trigger
            cursor.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    def as_writer(self, statement: str, *values: Any) -> None:
        """Run a statement as the role that tasks write with."""
        with closing(
            psycopg2.connect(
                host=LOOPBACK,
                port=self._settings.postgres_port,
                dbname=postgres.LEDGER,
                user=postgres.LEDGER_WRITER,
                password=postgres.ledger_password(self._settings, postgres.LEDGER_WRITER),
            )
        ) as connection:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
            connection.commit()

    def as_superuser(self) -> Ledger:
        """Open the ledger as somebody who may append anything."""
        password = (postgres.secrets_folder(self._settings) / "postgres_owner").read_text()
        login, place = f"{postgres.OWNER}:{password}", f"{LOOPBACK}:{self._settings.postgres_port}/{postgres.LEDGER}"
        return Ledger(create_engine(f"postgresql+psycopg2://{login}@{place}", poolclass=NullPool))

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take the triggers away, and for a block change what cannot be changed; then bring all back as it was."""
        tables = ("ledger.heads", "ledger.entries")
        for table in tables:
            self.run(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
            self.run(f"CREATE TABLE IF NOT EXISTS {table}_kept AS TABLE {table}")
        try:
            yield
        finally:
            for table in tables:
                self.run(f"DELETE FROM {table}")
                self.run(f"INSERT INTO {table} SELECT * FROM {table}_kept")
                self.run(f"DROP TABLE {table}_kept")
                self.run(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")
