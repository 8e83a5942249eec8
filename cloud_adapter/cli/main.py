"""The command line: ``gorchestrate``. Here is what serves; what asks is in ``cloud_adapter.cli.instances``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cloud_adapter.cli import check as check_command
from cloud_adapter.cli import demo as demo_script
from cloud_adapter.cli import instances
from cloud_adapter.cli.instances import WorkflowName
from cloud_adapter.emulators import TASKS_EMULATOR_VARIABLE
from cloud_adapter.errors import InvalidRequest, SettingsError
from cloud_adapter.hosting.dev_server import open_server, prefer_latency, running
from cloud_adapter.hosting.local_stack import running_stack
from cloud_adapter.hosting.source import load_workflows
from cloud_adapter.http import graphs
from cloud_adapter.http.graphs import Format
from cloud_adapter.observability import logs
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from workflow_core import WorkflowError

DEFAULT_SOURCE = Path("functions/main.py")
LOCAL = "127.0.0.1"
ENTRY_POINTS = ("api", "worker")
STARTING_EMULATORS = "Starting the Firestore emulator, the Cloud Tasks emulator, the worker and the api ..."

app = typer.Typer(help="Stateful workflows on serverless Google Cloud.", no_args_is_help=True)
app.add_typer(instances.app)

Source = Annotated[Path, typer.Argument(help="The Python file that defines or imports the workflows.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)]
Db = Annotated[Path | None, typer.Option(help="The database file. By default GORCHESTRATE_DB, else gorchestrate.db.")]

Emulators = Annotated[
    bool,
    typer.Option(
        "--emulators",
        help="Run SOURCE's entry points api and worker as functions, on the Firestore and Cloud Tasks emulators.",
    ),
]


@app.command()
def dev(
    source: Source = DEFAULT_SOURCE,
    host: Host = LOCAL,
    port: Port = 8080,
    db: Db = None,
    emulators: Emulators = False,
) -> None:
    """Serves every workflow that SOURCE defines or imports, on the embedded runtime or on the emulators."""
    if emulators:
        if db is not None or host != LOCAL:
            raise SettingsError("--emulators listens on 127.0.0.1 and has a database of its own: no --host, no --db")
        _serve_on_emulators(source, port)
        return
    settings = Settings.load(backend="embedded", db=db)
    logs.configure(settings.log_level, settings.project, text=sys.stderr.isatty())
    workflows = load_workflows(source)
    with contextlib.closing(listen(host, port)) as listener, open_server(workflows, settings) as server:
        url = f"http://{host}:{listener.getsockname()[1]}"
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"Serving {source} on {url}, the state is in {settings.db}")
        for workflow in workflows:
            console.print(f"  {url}/wf/{workflow.__workflow_name__}/ID")
        if settings.serves_ui:
            console.print(f"Pages to look at it: {url}/ui/")
        console.print("Ctrl-C ends it; start it again to take up changes of the code.")
        sys.stdout.flush()
        prefer_latency()
        server.run(sockets=[listener])


@app.command()
def demo(
    source: Source = DEFAULT_SOURCE,
    port: Port = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server up until Ctrl-C.")] = False,
    emulators: Emulators = False,
) -> None:
    """Starts a server on a free port and orders a pizza over HTTP, through every role."""
    console = Console(soft_wrap=True)
    if emulators:
        load_workflows(source, *ENTRY_POINTS)
        _unwind_on_sigterm()
        console.print(STARTING_EMULATORS)
        with (
            tempfile.TemporaryDirectory(prefix="gorchestrate-demo-") as folder,
            running_stack(source, port=port, output=Path(folder)) as stack,
        ):
            good = _play(stack.api_url, keep, console, stack.check)
        raise typer.Exit(0 if good else 1)
    workflows = load_workflows(source)
    with tempfile.TemporaryDirectory(prefix="gorchestrate-demo-") as folder:
        settings = Settings.load(backend="embedded", db=Path(folder) / "demo.db", ui=True)
        with running(workflows, settings, listen("127.0.0.1", port)) as url:
            good = _play(url, keep, console)
    raise typer.Exit(0 if good else 1)


def _play(url: str, keep: bool, console: Console, check: Callable[[], None] = lambda: None) -> bool:
    console.print(f"The server is {url}", highlight=False)
    good = demo_script.play(url, console)
    if keep:
        console.print(f"\nThe server stays up: {url}{demo_script.ORDER}  (Ctrl-C ends it)", highlight=False)
        console.print(f"The order as a page: {url}{demo_script.PAGE}", highlight=False)
        _wait_for_signal(check)
    return good


def _serve_on_emulators(source: Path, port: int) -> None:
    load_workflows(source, *ENTRY_POINTS)
    _unwind_on_sigterm()
    console = Console(highlight=False, soft_wrap=True)
    console.print(STARTING_EMULATORS)
    with running_stack(source, port=port) as stack:
        console.print(f"Serving {source} on {stack.api_url}, its worker on {stack.worker_url}. For other programs:")
        for name, value in stack.environment.items():
            console.print(f"  export {name}='{value}'")
        sys.stdout.flush()
        _wait_for_signal(stack.check)


@app.command()
def check(
    source: Source = DEFAULT_SOURCE,
    against: Annotated[
        str | None,
        typer.Option(help="The store whose instances must go on: a SQLite file, PROJECT or PROJECT/DATABASE."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, every instance listed.")] = False,
) -> None:
    """Says whether SOURCE can be deployed: its definitions compile, and live instances can go on under them.

    Warns of steps that are written in parallel, as they run one after another. Changes nothing. The exit code is 1 if
    something stands in the way, 2 if it could not be looked at.
    """
    raise typer.Exit(0 if check_command.run(source, against, as_json=as_json) else 1)


@app.command()
def graph(
    workflow: WorkflowName,
    source: Source = DEFAULT_SOURCE,
    format: Annotated[Format, typer.Option(help="A picture, the text of a Mermaid flowchart, or data.")] = Format.SVG,
) -> None:
    """Prints the diagram of a workflow that SOURCE defines or imports."""
    programs = {one.__workflow_name__: one.__program__ for one in load_workflows(source)}
    if workflow not in programs:
        raise InvalidRequest(f"{source} has no workflow {workflow!r}. Available: {', '.join(sorted(programs))}")
    typer.echo(graphs.draw(programs[workflow], format).rstrip("\n"))


@app.command()
def tasks_emulator(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The gRPC port; 0 takes a free one.")] = 8123,
    issuer_port: Annotated[int, typer.Option(help="The HTTP port of the token issuer; 0 takes a free one.")] = 8124,
    issuer_url: Annotated[
        str | None, typer.Option(help="How the issuer is reached by those who verify tokens, if not on HOST.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="A queue that is there from the start: projects/P/locations/L/queues/Q. Repeatable."),
    ] = None,
) -> None:
    """Emulates Google Cloud Tasks, in memory, until Ctrl-C."""
    from cloud_adapter.tasks_emulator import serve  # lazy: Google's client takes longer to load than all the rest

    async def run() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        async with serve(
            host=host, port=port, issuer_port=issuer_port, issuer_url=issuer_url, queues=queue or []
        ) as emulator:
            console = Console(highlight=False, soft_wrap=True)
            console.print(f"export {TASKS_EMULATOR_VARIABLE}={emulator.address}")
            console.print(f"Tokens are issued by {emulator.issuer_url}")
            for name in queue or []:
                console.print(f"  {name}")
            sys.stdout.flush()
            await ended.wait()

    logs.configure("INFO", text=sys.stderr.isatty())
    asyncio.run(run())


def _unwind_on_sigterm() -> None:
    """Otherwise the signal would end this process alone, and leave behind what it has started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _wait_for_signal(check: Callable[[], None]) -> None:
    """Waits; ``check`` raises once there is nothing left to wait for."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with contextlib.suppress(KeyboardInterrupt):
        while not ended.wait(1):
            check()


def main() -> None:
    """Runs the command line; an error that the user can fix is one line, and exit code 2."""
    try:
        app()
    except WorkflowError as error:
        typer.echo(f"gorchestrate: {error}", err=True)
        sys.exit(2)
