"""All checks, in the order in which a platform engineer would fix what they find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import outside, processes, proof, rules
from .inspection import Check, Finding, inspect


def checks(api_servers: Sequence[str] = ()) -> Iterator[tuple[str, Check]]:
    """Yield the name of each check and the check.

    :param api_servers: addresses of the API servers; by default the one that releases read.
    """
    yield "packages", rules.packages
    yield "auth manager", rules.auth_manager
    yield "catalogue", rules.catalogue
    yield "connections", rules.connections
    yield "Dag files", rules.dag_files
    yield "builds", rules.builds
    yield "ledger", proof.ledger
    yield "signing key", proof.signing_key
    yield "key of answers", proof.public_key_of_answers
    yield from processes.servers(api_servers)
    yield "execution API", processes.execution_api
    yield "components", processes.components
    yield "service accounts", processes.accounts
    yield "Dags", processes.dags
    yield "questions", processes.questions
    yield "waits", processes.waits
    yield "queue", rules.queue
    yield "artifacts", outside.artifacts
    yield "results", outside.results
    yield "mail", outside.mail
    yield "hosts", outside.hosts


def findings(api_servers: Sequence[str] = ()) -> Iterator[Finding]:
    """Run all checks."""
    return inspect(checks(api_servers))
