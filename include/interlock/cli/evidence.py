"""Write the evidence pack of a release to a file.

This runs where Airflow is configured, with the connections that releases have there.
"""

from __future__ import annotations

import getpass
from contextlib import ExitStack
from pathlib import Path

from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.artifacts.store import open_store
from interlock.adapters.evidence.pack import fingerprint
from interlock.adapters.evidence.sources import Packed, Sources, pack_name, pack_release, sealed_packs
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.quality.expectations import suite_digests
from interlock.adapters.signing.signing import open_signer
from interlock.adapters.signing.witness import witness_key
from interlock.domain.errors import AssetMissing

PREFIX = "release/"
SHOWN = 20


def write(run: str, destination: Path) -> Packed:
    """Write the pack of a release, keep it in the store as well, and print where it is."""
    with ExitStack() as open_until_done:
        ledger = open_until_done.enter_context(open_ledger(stored_connection("interlock_ledger")))
        dag_id, run_id = parsed(run, ledger)
        file = destination / pack_name(dag_id, run_id) if destination.is_dir() else destination
        sources = Sources(
            ledger=ledger,
            store=open_store(stored_connection("interlock_artifacts")),
            api=open_until_done.enter_context(AirflowApi.of(stored_connection("interlock_airflow"))),
            signer=open_signer(stored_connection("interlock_signing_key")),
            suites=suite_digests(),
            witness=witness_key(),
        )
        before = sealed_packs(dag_id, run_id, ledger)
        packed = pack_release(dag_id, run_id, sources, file, actor=f"make evidence, {getpass.getuser()}")
    print(f"{file}: {packed.sealed.files} files, {packed.sealed.size} bytes, SHA-256 {packed.sealed.sha256}")
    if not packed.known:
        print("Airflow does not have this run any more: no answers, task history and logs of its own are in the pack.")
        for blob in before:
            print(f"  a pack that was made before is in {blob.uri}")
    print(f"Signed with the key {fingerprint(sources.signer.public_key)}. Prove it:")
    print(f"  python -m interlock.verify {file} --key …   (or --fingerprint …, as you have it from elsewhere)")
    return packed


def parsed(run: str, ledger: Ledger) -> tuple[str, str]:
    """Return Dag id and run id of a release that has a chain; AssetMissing lists the latest releases."""
    chain = PREFIX + run.strip().removeprefix(PREFIX)
    there = ledger.chains(PREFIX)
    if chain not in there:
        listed = "".join(f"  {name.removeprefix(PREFIX)}\n" for name in there[-SHOWN:])
        raise AssetMissing(
            (f"The ledger has no release {run!r}." if run else "No release was named.")
            + (f" There are:\n{listed}" if listed else " There is none yet."),
            next_step="name one with RUN=…" if listed else "make a release first",
        )
    dag_id, _, run_id = chain.removeprefix(PREFIX).partition("/")
    return dag_id, run_id
