"""Commands about releases and trains, which any installation has: they ask its Airflow and its ledger."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from interlock.domain.errors import ReleaseError
from interlock.locations import catalogue_folder

from .where import Stack, asks_stack, end, failures_on_stderr, quiet_airflow, run_in_stack, runs, stack_settings


def add_to(app: typer.Typer) -> None:
    """Add these commands to an app."""
    app.command()(release)
    app.command()(explain)
    app.command()(trains)
    app.command()(evidence)
    app.command("policy-backtest")(policy_backtest)
    app.command("past-releases")(past_releases)
    app.command()(deliveries)
    app.command()(connect)
    app.command()(roles)
    app.command("permit-keys")(permit_keys)


def release(
    service: Annotated[str, typer.Argument(help="The service, as its file is named.")],
    version: Annotated[str, typer.Option(help="The version, such as 1.4.0.")],
    key: Annotated[
        str, typer.Option(help="What stands for this request, such as the build's number: again, it is the same run.")
    ],
    artifact: Annotated[str, typer.Option(help="sha256: and the digest of the artifact that the pipeline built.")] = "",
    ref: Annotated[str, typer.Option(help="The tag or commit. Default: the version.")] = "",
    summary: Annotated[str, typer.Option(help="The purpose of the release. Default: its version and the key.")] = "",
    change_type: Annotated[str, typer.Option(help="standard, normal or emergency.")] = "normal",
    ticket: Annotated[list[str] | None, typer.Option(help="A change ticket; can be given several times.")] = None,
    rehearsal: Annotated[bool, typer.Option("--rehearsal", help="To the test environment only.")] = False,
) -> None:
    """Request a release as a pipeline does: INTERLOCK_URL, INTERLOCK_USER and INTERLOCK_PASSWORD say where and who."""
    with failures_on_stderr():
        from .release import request_and_tell

        form = {
            "ref": ref or version,
            "version": version,
            "change_type": change_type,
            "summary": summary or f"Release {version}, by {key}",
            **({"artifact": artifact} if artifact else {}),
            **({"tickets": ticket} if ticket else {}),
            **({"rehearsal": True} if rehearsal else {}),
        }
        request_and_tell(service, form, key)


def explain(
    run: Annotated[str, typer.Argument(help="The release, rollback or train: <dag id>/<run id>.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for programs.")] = False,
) -> None:
    """Say why a release does not move, what has to happen, by whom and until when.

    INTERLOCK_URL, INTERLOCK_USER and INTERLOCK_PASSWORD say where and who.
    """
    with failures_on_stderr():
        from .release import explain_and_tell

        explain_and_tell(run, as_json=as_json)


def connect(
    kind: Annotated[str, typer.Argument(help="The kind of system: servicenow or jira.")],
    connection: Annotated[str, typer.Option(help="The Airflow connection with address and account.")],
    name: Annotated[str, typer.Option(help="How systems.yaml names it; default: its kind.")] = "",
    project: Annotated[str, typer.Option(help="Of jira: key of the project whose issues are changes.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Check a system of service management, propose its part of systems.yaml, and write it.

    It makes a test change and cancels it, after asking. Run it with the environment of Airflow's components.
    """
    quiet_airflow()
    with failures_on_stderr():
        from .connect import connect_jira, connect_servicenow

        folder, name = catalogue_folder(), name or kind
        if kind == "servicenow":
            end(connect_servicenow(name, connection, folder, yes=yes))
        elif kind == "jira" and project:
            end(connect_jira(name, connection, folder, project=project, yes=yes))
        elif kind == "jira":
            raise ReleaseError("Which project has the issues of changes?", next_step="add --project, such as CHG")
        else:
            raise ReleaseError(f"There is no kind of system {kind!r}. Available: servicenow, jira.")


def deliveries(
    every: Annotated[bool, typer.Option("--all", help="Also those that are up to date.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a delivery a line.")] = False,
    stack: Stack = None,
) -> None:
    """List what other systems refused, did not answer, or are still to be told of releases; end with 1 if they refused.

    The Dag retry_deliveries has them tried again.
    """
    with failures_on_stderr():
        if asks_stack(stack):
            options = [name for name, wanted in (("--all", every), ("--json", as_json)) if wanted]
            raise typer.Exit(run_in_stack(stack_settings(), "deliveries", "--here", *options))
        from .deliveries import read_deliveries, show

        found = read_deliveries(every=every)
        if as_json:
            print(*(one.model_dump_json() for one in found), sep="\n")
        else:
            show(found)
        end(all(one.state != "refused" for one in found))


def permit_keys(
    public_key: Annotated[Path, typer.Argument(help="The file with the public key that signs permits, in PEM.")],
) -> None:
    """Print the line of /etc/interlock/permit-keys with which a production host verifies permits."""
    from interlock.adapters.signing.signing import ssh_key
    from interlock.domain.permits.on_hosts import allowed_signer

    print(allowed_signer(ssh_key(public_key.read_bytes())), end="")


def trains(stack: Stack = None) -> None:
    """Print the next departures of each train, which services would board now, and why others would stay behind.

    Without a running stack, only the departures are printed.
    """
    if not asks_stack(stack):
        with failures_on_stderr():
            end(_show_trains(catalogue_folder(), os.environ.get("INTERLOCK_STATE"), with_ledger=True))
        return
    settings = stack_settings()
    if runs(settings):
        end(run_in_stack(settings, "trains", "--here") == 0)
    else:
        end(_show_trains(settings.catalogue, str(settings.state), with_ledger=False))


def _show_trains(catalogue: Path, state: str | None, *, with_ledger: bool) -> bool:
    from interlock.adapters.calendars.copies import copies_folder
    from interlock.estate.steps import open_console

    from .trains import show

    copies = copies_folder({"INTERLOCK_STATE": state} if state else {})
    return show(catalogue, open_console(), with_ledger=with_ledger, copies_in=copies)


def evidence(
    run: Annotated[
        str, typer.Argument(help="The release: <dag id>/<run id>. Without it, the latest releases are listed.")
    ] = "",
    file: Annotated[
        str,
        typer.Argument(help="The file to write, or a folder for it. Default: a folder in the stack's state, or here."),
    ] = "",
    stack: Stack = None,
) -> None:
    """Write the evidence pack of a release to a file, and keep it in the artifact store as well."""
    if not asks_stack(stack):
        with failures_on_stderr():
            from .evidence import write

            write(run, Path(file or "."))
        return
    settings = stack_settings()
    if not runs(settings):
        from interlock.estate.steps import StackError

        raise StackError("The stack does not run, and the ledger is in it.", next_step="make up")
    destination = Path(file).absolute() if file else settings.state / "evidence"
    if not file:
        destination.mkdir(mode=0o700, exist_ok=True)
    end(run_in_stack(settings, "evidence", "--here", "--", run, str(destination)) == 0)


def policy_backtest(
    releases: Annotated[
        Path | None,
        typer.Option(
            help="A JSON lines file of past releases. Default: the releases in the ledger, or those of the sample "
            "if the embedded stack does not run.",
            show_default=False,
        ),
    ] = None,
    old: Annotated[
        str, typer.Option(help="The old catalogue's folder; git is the new catalogue as it was committed last.")
    ] = "git",
    new: Annotated[
        Path | None,
        typer.Option(
            help="The new catalogue's folder. Default: INTERLOCK_CATALOGUE, or the project's.", show_default=False
        ),
    ] = None,
    stack: Stack = None,
) -> None:
    """Try the catalogue's changes against past releases: which would have stopped, and which people would be asked."""
    from tempfile import TemporaryDirectory

    from interlock.adapters.catalogue.backtest import compare
    from interlock.estate.steps import open_console

    console, catalogue = open_console(), new or catalogue_folder()
    if releases:
        compare(old, catalogue, releases, console)
        return
    with TemporaryDirectory(prefix="interlock-") as folder:
        found = Path(folder, "ledger.jsonl")
        if asks_stack(stack):
            from .past_releases import releases_of_stack

            compare(old, catalogue, releases_of_stack(stack_settings(), found, console), console)
        else:
            past_releases(found, stack=False)
            compare(old, catalogue, found, console)


def past_releases(
    file: Annotated[Path, typer.Argument(help="The file to write, one JSON object in each line.")], stack: Stack = None
) -> None:
    """Write the past releases of the ledger to a file, which policy-backtest reads with --releases."""
    if asks_stack(stack):
        end(run_in_stack(stack_settings(), "past-releases", "--here", "--", str(file.absolute())) == 0)
        return
    with failures_on_stderr():
        from .past_releases import write

        write(file)


def roles() -> None:
    """Print the table of roles: who may see and do what in Airflow, in Markdown."""
    from interlock.console.auth.roles import roles_table

    print(roles_table())
