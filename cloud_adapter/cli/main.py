"""The command ``gorchestrate``: ``new``, ``dev``, ``check``, ``copy``, ``cost``, diagrams, keys and others.

The commands about instances are in ``cloud_adapter.cli.instances``, ``login`` and ``logout`` in
``cloud_adapter.cli.login``, ``deploy`` and ``teardown`` in ``cloud_adapter.cli.deploy_commands``.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from cloud_adapter.cli import check as check_command
from cloud_adapter.cli import (
    copy_command,
    demo_users,
    deploy_commands,
    deployment,
    instances,
    login,
    projects,
    shard_command,
)
from cloud_adapter.cli import cost as cost_command
from cloud_adapter.cli import demo as demo_script
from cloud_adapter.cli.arguments import LOCAL, STORE_HELP, Db, Emulators, Host, Port, Source
from cloud_adapter.cli.instances import WorkflowName
from cloud_adapter.cli.output import SafeConsole
from cloud_adapter.cli.packaged_files import SAMPLE
from cloud_adapter.cli.projects import TemplateName
from cloud_adapter.errors import InvalidRequest, SettingsError
from cloud_adapter.hosting.dev_server import open_server, prefer_latency, running
from cloud_adapter.hosting.local_issuer import running_issuer
from cloud_adapter.hosting.local_stack import running_stack
from cloud_adapter.hosting.source import ENTRY_POINTS, load, load_workflows
from cloud_adapter.http import graphs
from cloud_adapter.http.authenticators.api_key import StoredKey, key_hash, new_key
from cloud_adapter.http.callers import SERVE_OTHERS, is_loopback
from cloud_adapter.http.graphs import Format
from cloud_adapter.observability import logs
from cloud_adapter.settings import LAZY_SECONDS_MAX, Settings
from cloud_adapter.sockets import listen
from cloud_adapter.token_issuer import TokenIssuer
from cloud_adapter.variables import PREFIX, TASKS_EMULATOR_VARIABLE
from workflow_core import WorkflowError
from workflow_core.diagrams import outline
from workflow_core.printable import escaped

STARTING_EMULATORS = "Starting the Firestore emulator, the Cloud Tasks emulator, the worker and the api ..."

app = typer.Typer(help="Stateful workflows on serverless Google Cloud.", no_args_is_help=True)
app.add_typer(instances.app)
app.add_typer(login.app)
app.add_typer(deploy_commands.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gorchestrate {version(deployment.PACKAGE)}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def new(
    directory: Annotated[Path, typer.Argument(help="The folder of the project. It is created if it does not exist.")],
    template: Annotated[TemplateName, typer.Option(help="What the workflow is about.")] = TemplateName.APPROVAL,
) -> None:
    """Creates a project: a workflow, its test, and the entry points of a deployment."""
    console = SafeConsole(highlight=False, soft_wrap=True)
    for path in projects.create(directory, template):
        console.print(f"  {path}")
    move = "" if directory == Path() else f"cd {shlex.quote(str(directory))} && "
    console.print(f"Now run: {move}pytest && gorchestrate dev main.py")


@app.command()
def dev(
    source: Source,
    host: Host = LOCAL,
    port: Port = 8080,
    db: Db = None,
    emulators: Emulators = False,
) -> None:
    """Serves every workflow that SOURCE defines or imports, on the embedded runtime or on the emulators."""
    if emulators:
        if db is not None or host != LOCAL:
            raise SettingsError("--emulators listens on 127.0.0.1 and uses its own database: omit --host and --db")
        _serve_on_emulators(source, port)
        return
    settings = Settings.load(backend="embedded", db=db)
    if not (settings.remote_clients or is_loopback(host)):
        raise SettingsError(
            f"--host {host} is not an address of this machine alone, as it has to be: omit --host. {SERVE_OTHERS}"
        )
    served = load(source)
    logs.configure(settings.log_level, settings.project, text=sys.stderr.isatty())  # the source may have done it
    with (
        contextlib.closing(listen(host, port)) as listener,
        open_server(
            served.workflows,
            settings,
            internal=served.internal,
            authentication=served.authentication,
            mcp=served.mcp,
        ) as server,
    ):
        url = f"http://{host}:{listener.getsockname()[1]}"
        console = SafeConsole(highlight=False, soft_wrap=True)
        console.print(f"Serving {source} on {url}, storing state in {settings.database_place}")
        for workflow in served.workflows:
            console.print(f"  {url}/wf/{workflow.__workflow_name__}/ID")
        if settings.serves_ui:
            console.print(f"Pages: {url}/ui/")
        console.print("Press Ctrl-C to stop. Restart to load code changes.")
        sys.stdout.flush()
        prefer_latency()
        server.run(sockets=[listener])


@app.command()
def demo(
    source: Annotated[Path, typer.Argument(help="The file of the sample workflow.", show_default=False)] = SAMPLE,
    port: Port = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the server running until Ctrl-C.")] = False,
    emulators: Emulators = False,
) -> None:
    """Starts a server on a free port and orders a pizza over HTTP, through every role."""
    console = SafeConsole(soft_wrap=True)
    logs.configure("ERROR", text=sys.stderr.isatty())  # that requests are denied is a part of the demo
    if emulators:
        demo_script.check(load_workflows(source, *ENTRY_POINTS))
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
        settings = Settings.load(backend="embedded", db=Path(folder) / "demo.db", ui=True, remote_clients=False)
        demo_script.check(workflows)
        with (
            running_issuer() as issuer,
            running(
                workflows,
                settings,
                listen(LOCAL, port),
                authentication=demo_users.authentication(issuer),
                dev_issuer=issuer.url,  # so that who looks at the pages can act as the users
            ) as url,
        ):
            good = _play(url, keep, console, issuer=issuer)
    raise typer.Exit(0 if good else 1)


def _play(
    url: str,
    keep: bool,
    console: SafeConsole,
    check: Callable[[], None] = lambda: None,
    issuer: TokenIssuer | None = None,
) -> bool:
    console.print(f"Server: {url}", highlight=False)
    good = demo_script.play(url, console, issuer)
    if not keep:
        console.print("\nTo look at the order's page in a browser, run this command with --keep.", highlight=False)
        return good
    console.print(f"\nThe page of the order: {url}{demo_script.PAGE}", highlight=False)
    if issuer is not None:
        console.print("On this machine, you need no token: choose ann and customer there, or ada and manager. Or send:")
        console.print(f"  curl -H 'X-Dev-User: ann; roles=customer' {url}{demo_script.ORDER}", highlight=False)
    console.print("The server keeps running. Ctrl-C stops it.", highlight=False)
    _wait_for_signal(check)
    return good


def _serve_on_emulators(source: Path, port: int) -> None:
    load_workflows(source, *ENTRY_POINTS)
    _unwind_on_sigterm()
    console = SafeConsole(highlight=False, soft_wrap=True)
    console.print(STARTING_EMULATORS)
    with running_stack(source, port=port) as stack:
        console.print(f"Serving {source} on {stack.api_url}, the worker on {stack.worker_url}. For other programs:")
        for name, value in stack.environment.items():
            console.print(f"  export {name}='{value}'")
        sys.stdout.flush()
        _wait_for_signal(stack.check)


@app.command()
def check(
    source: Source,
    against: Annotated[
        str | None,
        typer.Option(help=f"The store with the live instances. {STORE_HELP}"),
    ] = None,
    access: Annotated[bool, typer.Option("--access", help="Print which roles may do what.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, with every instance.")] = False,
    deployable: Annotated[
        bool,
        typer.Option(
            "--deployable", help="Also check that SOURCE has the entry points and the Service of a deployment."
        ),
    ] = False,
) -> None:
    """Checks whether SOURCE can be deployed: whether its definitions compile and live instances can continue.

    Warns about parallel steps, because they run one after another, and about unreachable statements.
    Warns about events that nobody may send once the API has authenticators, and workflows that only code can create.
    Changes no instance. The exit code is 1 if the check finds a problem, and 2 if it cannot run.
    """
    functions = ENTRY_POINTS if deployable else ()
    good = check_command.run(source, against, as_json=as_json, access=access, functions=functions)
    raise typer.Exit(0 if good else 1)


@app.command()
def copy(
    source: Annotated[str, typer.Option("--from", help=f"The store to copy. {STORE_HELP}")],
    destination: Annotated[str, typer.Option("--to", help="The store to copy to.")],
    write: Annotated[bool, typer.Option("--write", help="Write. Otherwise only show what would be copied.")] = False,
    progress: Annotated[
        Path, typer.Option(help="The file that has the progress, from which an interrupted copy continues.")
    ] = Path("gorchestrate-copy.json"),
) -> None:
    """Copies all instances of a store to another one: states, histories, inboxes and idempotency keys.

    Stop what serves both stores first. Each copy is read back and compared. Without --write, nothing is changed.
    The exit code is 1 if an instance was not copied, and 2 if the command cannot run.
    """
    raise typer.Exit(0 if copy_command.run(source, destination, progress, write=write) else 1)


@app.command()
def add_shards(
    store: Annotated[str, typer.Argument(help="PROJECT or PROJECT/DATABASE for Firestore.", show_default=False)],
    shards: Annotated[
        int,
        typer.Option(help="The number of shards.", envvar=f"{PREFIX}INDEX_SHARDS", min=2, max=30, show_default=False),
    ],
) -> None:
    """Writes the shard of each instance in Firestore that has none, at most 500 a second. Nothing needs to be stopped.

    Run it before indexes with shards are read, once all functions that are deployed write shards.
    """
    shard_command.run(store, shards)


@app.command()
def cost(
    source: Source,
    orders: Annotated[int, typer.Option(help="How many instances to price.", min=1)] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How many times each loop runs, at most 1,000.", min=0, max=1_000)] = 1,
    lazy_timer_seconds: Annotated[
        int,
        typer.Option(
            help="The setting of the deployment: later timers cost no task at first. 0: all do.",
            min=0,
            max=LAZY_SECONDS_MAX,
        ),
    ] = 600,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Prints the cost of the cheapest and the most expensive path of each workflow: reads, writes, tasks, dollars."""
    cost_command.run(source, orders=orders, rounds=rounds, lazy_seconds=lazy_timer_seconds, as_json=as_json)


@app.command()
def graph(
    workflow: WorkflowName,
    source: Source,
    format: Annotated[Format, typer.Option(help="An image, a Mermaid flowchart, or data.")] = Format.SVG,
) -> None:
    """Prints the diagram of a workflow that SOURCE defines or imports."""
    programs = {cls.__workflow_name__: cls.__program__ for cls in load_workflows(source)}
    if workflow not in programs:
        raise InvalidRequest(f"{source} has no workflow {workflow!r}. Available: {', '.join(sorted(programs))}")
    typer.echo(graphs.draw(programs[workflow], format).rstrip("\n"))


@app.command()
def explain(
    source: Source,
    workflow: Annotated[str | None, typer.Option(help="Explain only the workflow with this name.")] = None,
) -> None:
    """Prints the program that each definition in SOURCE becomes: its statements, their lines, and the stored locals."""
    workflows = {cls.__workflow_name__: cls for cls in load_workflows(source)}
    if workflow is not None and workflow not in workflows:
        raise InvalidRequest(f"{source} has no workflow {workflow!r}. Available: {', '.join(sorted(workflows))}")
    chosen = workflows.values() if workflow is None else [workflows[workflow]]
    typer.echo(escaped("\n\n".join(outline.explain(cls) for cls in chosen), keep="\n"))


@app.command()
def api_key(
    name: Annotated[str, typer.Argument(help="Who gets the key: a machine or a program, such as till-1.")],
    role: Annotated[list[str] | None, typer.Option(help="A role of the holder of the key. Repeatable.")] = None,
) -> None:
    """Makes a random API key, and the line of a Service that accepts it. Nothing is stored or sent."""
    key = new_key()
    stored = StoredKey(name, key_hash(key), role or [])
    typer.echo(f"The key, which is shown only now: {key}")
    typer.echo("Add this to your Service. It contains only a hash of the key, so it may be in your source:")
    typer.echo(f"  authenticators=[ApiKey({stored!r})]")


@app.command()
def secret_key() -> None:
    """Prints a new key for GORCHESTRATE_SECRET_KEYS, with which secrets are encrypted before they are stored."""
    from cloud_adapter.codecs import fernet  # lazy: no other command needs it

    typer.echo(fernet.new_key())


@app.command()
def tasks_emulator(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The gRPC port; 0 selects a free port.")] = 8123,
    issuer_port: Annotated[int, typer.Option(help="The HTTP port of the token issuer; 0 selects a free port.")] = 8124,
    issuer_url: Annotated[
        str | None, typer.Option(help="The URL at which programs that verify tokens reach the issuer, if not on HOST.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="A queue to create at the start: projects/P/locations/L/queues/Q. Repeatable."),
    ] = None,
) -> None:
    """Emulates Google Cloud Tasks, in memory, until Ctrl-C."""
    from cloud_adapter.tasks_emulator import serve  # lazy: Google's client takes longer to load than everything else

    async def run() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        async with serve(
            host=host, port=port, issuer_port=issuer_port, issuer_url=issuer_url, queues=queue or []
        ) as emulator:
            console = SafeConsole(highlight=False, soft_wrap=True)
            console.print(f"export {TASKS_EMULATOR_VARIABLE}={emulator.address}")
            console.print(f"Tokens are issued by {emulator.issuer_url}")
            for name in queue or []:
                console.print(f"  {name}")
            sys.stdout.flush()
            prefer_latency()
            await ended.wait()

    logs.configure("INFO", text=sys.stderr.isatty())
    asyncio.run(run())


def _unwind_on_sigterm() -> None:
    """Makes SIGTERM stop the child processes too. By default, it would end only this process."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _wait_for_signal(check: Callable[[], None]) -> None:
    """Waits for SIGTERM or Ctrl-C. Calls ``check`` every second, which raises an error if a child process ended."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with contextlib.suppress(KeyboardInterrupt):
        while not ended.wait(1):
            check()


def main() -> None:
    """Runs the command line. An error that the user can fix is printed as one line, with exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 shows escapes, and no traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except WorkflowError as error:
        typer.echo(escaped(f"gorchestrate: {error}", keep="\n"), err=True)
        sys.exit(2)
    except Exception:  # a bug; its text may contain what a customer wrote
        typer.echo(escaped(traceback.format_exc(), keep="\n"), err=True)
        sys.exit(1)
