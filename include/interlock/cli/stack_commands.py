"""``interlock stack``: start, stop, show and ask the embedded stack. The targets of ``make`` call these."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .where import end, stack_settings

app = typer.Typer(
    name="stack",
    help="Start, stop and show the embedded stack: Airflow, PostgreSQL, hosts, AWS and mail on this machine.",
    no_args_is_help=True,
)


@app.command()
def up() -> None:
    """Start everything, and print the address and the logins. Again: bring changes in."""
    from interlock.adapters.catalogue.catalogue import load_catalogue
    from interlock.estate.airflow.accounts import accounts
    from interlock.estate.stack import stack
    from interlock.estate.steps import Steps, open_console

    from .stack_tables import logins_table

    settings, console = stack_settings(), open_console()
    stack.up(settings, Steps(console))
    console.print(logins_table(settings, accounts(load_catalogue(settings.catalogue))))
    told = f"Stop it with [bold]{settings.make}down[/]; what it costs: [bold]{settings.make}status[/]."
    console.print(told, highlight=False)


@app.command()
def demo(
    release: Annotated[str, typer.Option(envvar="RELEASE", help="The version of the bike shop to release.")] = "1.1.0",
) -> None:
    """Start everything, release the bike shop, and show the stages live."""
    from interlock.estate.commands.demo import demonstrate
    from interlock.estate.stack import stack
    from interlock.estate.steps import Steps, open_console

    settings, console = stack_settings(), open_console()
    stack.up(settings, Steps(console))
    end(demonstrate(settings, console, release))


@app.command()
def down() -> None:
    """Stop everything that was started here, and nothing else. The state stays."""
    from interlock.estate.stack import stack
    from interlock.estate.steps import open_console

    stopped = stack.down(stack_settings())
    said = f"[green]✓[/] {stopped} processes stopped" if stopped else "Nothing was running."
    open_console().print(said, highlight=False)


@app.command()
def reset() -> None:
    """Stop everything and delete its state."""
    from interlock.estate.stack import stack
    from interlock.estate.steps import open_console

    settings = stack_settings()
    stack.reset(settings)
    open_console().print(f"[green]✓[/] {settings.state} is gone", highlight=False)


@app.command()
def status() -> None:
    """Show each component with its state and memory; end with 1 if one does not run."""
    from interlock.estate.stack import process_supervisor
    from interlock.estate.steps import open_console

    from .stack_tables import status_table

    settings = stack_settings()
    open_console().print(status_table(settings))
    end(all(info["statename"] == "RUNNING" for info in process_supervisor.states(settings).values()))


@app.command()
def hosts() -> None:
    """List the embedded hosts: address, state, tags, target groups."""
    from rich.markup import escape

    from interlock.estate.steps import open_console
    from interlock.estate.world import memory
    from interlock.estate.world.wanted import wanted_of

    from .stack_tables import hosts_table

    settings, console = stack_settings(), open_console()
    console.print(hosts_table(settings, memory.read_memory(settings)))
    for note in wanted_of(settings).elsewhere:
        console.print(f"[yellow]![/] no hosts for {escape(note)}", highlight=False, soft_wrap=True)
    end(settings.estate_ready.exists())


@app.command()
def logs() -> None:
    """Follow the logs of all components until interrupted."""
    from interlock.estate.steps import StackError

    settings = stack_settings()
    files = sorted(str(file) for file in settings.logs.glob("*.log"))
    if not files:
        raise StackError(f"There are no logs in {settings.logs}.", next_step="make up")
    os.execvp("tail", ["tail", "-n", "5", "-F", *files])


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, such as: airflow dags list")],
) -> None:
    """Run a command in the environment of the stack's components: its Airflow, its database, its settings."""
    from interlock.estate.airflow.home import airflow_environment
    from interlock.estate.steps import StackError

    from .where import runs

    settings = stack_settings()
    if not runs(settings):
        raise StackError("The stack does not run.", next_step="make up")
    environment = airflow_environment(settings)
    os.environ.clear()
    os.environ.update(environment)  # os.execvpe looks for the command by this process's PATH
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise StackError(f"{command[0]} cannot be run: {error.strerror}.") from None
