"""Whether the connections that the catalogue's services name are there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.errors import ReleaseError
from interlock.estate.airflow.astro_settings import read_astro_settings
from interlock.estate.airflow.named_connections import faults_of, lacking_in_stack, named_by
from interlock.estate.settings import Settings
from interlock.estate.world.wanted import SETTINGS_FILE


def with_faults_of_connections(
    settings: Settings, catalogue: Path, wrong: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return what is wrong with the catalogue and the connections that it names, and what is doubtful.

    :param wrong: what is wrong with the catalogue's files.
    """
    try:
        named = list(named_by(load_catalogue(catalogue).services.values()))
        entries = read_astro_settings(SETTINGS_FILE).connections
        faults = faults_of(named, entries, os.environ, partial(lacking_in_stack, settings))
    except ReleaseError as error:
        return list(wrong) or [str(error)], []  # what keeps the catalogue from being read is among what is wrong
    return [*wrong, *faults.wrong], list(faults.doubtful)
