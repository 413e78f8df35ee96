"""Which Dags Interlock made: those of its catalogue, of its own files, and those that have a chain in the ledger.

A Dag that leaves release control by a name, a tag or another file would bypass the board. So nothing that a Dag says of
itself decides: the catalogue names the Dags of services; Airflow's record names the bundle and file of a Dag; and
releases stay in the ledger. In case of doubt, a Dag whose name could be Interlock's is under control.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.adapters.catalogue.catalogue import dags_of_catalogue
from interlock.domain.dag_names import Home, Place, file_of, home_of, stranger
from interlock.domain.ledger.chain import release_chain
from interlock.locations import catalogue_folder

from .lookups import places_of

if TYPE_CHECKING:
    from .break_glass import OpenLedger

log = logging.getLogger(__name__)

REMEMBERED = 5.0
"""Seconds for which another's Dag is not looked up again; Interlock's own Dags are never looked up again."""
MAX_CACHED = 10_000


def home() -> Home:
    """Return where Interlock's Dag files are: ``INTERLOCK_DAGS``, or the bundle that Airflow brings."""
    return home_of(os.environ.get("INTERLOCK_DAGS"))


class OwnDags:
    """Tells Interlock's Dags from those of others.

    :param folder: returns the catalogue's folder.
    :param places: returns where Airflow has a Dag from.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        open_ledger: OpenLedger,
        places: Callable[[str], Iterable[Place]] = places_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._open_ledger, self._places, self._clock = folder, open_ledger, places, clock
        self._ours: set[str] = set()
        self._others: dict[str, float] = {}

    def has(self, dag_id: str) -> bool:
        """Tell whether a Dag is Interlock's, or has the name of an Interlock Dag."""
        name = dag_id.lower()
        if file_of(name) is None:
            return False
        if name in self._ours:
            return True
        try:
            return name in dags_of_catalogue(self._folder()) or self._is_known(name)
        except Exception:  # of any kind: in case of doubt, it is under control
            log.exception("Could not determine whether %s is a Dag of Interlock", name)
            return True

    def stranger(self, dag_id: str) -> str:
        """Say why a Dag with a name of Interlock is not Interlock's; empty: it is, or it does not exist."""
        try:
            where = home()
            return next((why for place in self._places(dag_id) if (why := stranger(dag_id, place, where))), "")
        except Exception as error:  # of any kind: in case of doubt, it is not trusted
            log.exception("Could not determine the origin of the Dag %s", dag_id)
            return f"The origin of the Dag {dag_id} cannot be determined: {type(error).__name__}. Next: try again."

    def is_there(self, dag_id: str) -> bool:
        """Tell whether Airflow has a Dag; what cannot be told is."""
        try:
            return any(True for _ in self._places(dag_id))
        except Exception:
            log.exception("Could not determine whether Airflow has the Dag %s", dag_id)
            return True

    def _is_known(self, name: str) -> bool:
        """Tell whether a Dag that the catalogue does not name is Interlock's, by Airflow's record or by the ledger."""
        now = self._clock()
        if self._others.get(name, now) > now:
            return False
        if set(home().places_of(name)).intersection(self._places(name)) or self._was_released(name):
            self._ours.add(name)
            return True
        if len(self._others) >= MAX_CACHED:
            self._others.clear()
        self._others[name] = now + REMEMBERED
        return False

    def _was_released(self, name: str) -> bool:
        with self._open_ledger() as ledger:
            return bool(ledger.chains(release_chain(name, "")))


@cache
def made() -> OwnDags:
    """Return the only instance of this process."""
    from .break_glass import configured_ledger  # not at the top: break_glass imports rules, which imports this module

    return OwnDags(catalogue_folder, configured_ledger)
