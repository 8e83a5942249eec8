"""The commands about instances: list, show, start, send, operate and repair. Each calls the API of a running
application or, with ``--source``, the same API in this process, directly on the database."""

from __future__ import annotations

import getpass
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_origin
from urllib.parse import quote

import typer
from pydantic.fields import FieldInfo

from cloud_adapter.cli import output
from cloud_adapter.cli.connection import Connection, Json
from cloud_adapter.cli.inputs import check_texts, read_input, read_pairs, split_pairs
from cloud_adapter.cli.tokens import token_for
from cloud_adapter.engine.operations import ACTIONS, REPAIRS, Operation, Repair
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http import views
from cloud_adapter.http.api import IDEMPOTENCY_HEADER
from cloud_adapter.http.queries import SEARCH
from cloud_adapter.names import check_id, check_key
from cloud_adapter.ports import PAGE_SIZE, PAGE_SIZE_MAX, Order
from cloud_adapter.settings import TOKEN_COMMAND_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE
from workflow_core.execution import Status

DEFAULT_URL = "http://127.0.0.1:8080"
OVER = frozenset((Status.FINISHED, Status.FAILED, Status.CANCELED))

app = typer.Typer()

WorkflowName = Annotated[str, typer.Argument(metavar="WORKFLOW", help="The name of the workflow.")]
InstanceId = Annotated[str, typer.Argument(metavar="ID", help="The id of the instance.")]
Url = Annotated[str, typer.Option(envvar=URL_VARIABLE, help="The root of the API.")]
Token = Annotated[
    str,
    typer.Option(
        envvar=TOKEN_VARIABLE,
        help="An identity token, if the API requires one: $(gcloud auth print-identity-token).",
    ),
]
TokenCommand = Annotated[
    str,
    typer.Option(
        envvar=TOKEN_COMMAND_VARIABLE,
        help="A command that prints the token: 'gcloud auth print-identity-token'. It is run without a shell.",
    ),
]
Source = Annotated[
    Path | None,
    typer.Option(help="Use the configured database directly, without an API. This Python file defines the workflows."),
]
Db = Annotated[
    str | None,
    typer.Option(help="With --source: the SQLite file, or the URL of a database. Defaults to GORCHESTRATE_DB."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON response.")]
Fields = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FIELD=VALUE]...", help="The input. A value is JSON or plain text."),
]
Input = Annotated[str | None, typer.Option("--input", help="The input as JSON; - reads standard input.")]
Key = Annotated[str | None, typer.Option(help="An idempotency key. A repeated request with this key has no effect.")]
By = Annotated[str | None, typer.Option(help="Your name, for the history. Defaults to your user name.")]
Reason = Annotated[str, typer.Option(help="The reason, for the history.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the changes.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation.")]


def _connect(
    *,
    new: bool,
    url: Url = DEFAULT_URL,
    token: Token = "",
    token_command: TokenCommand = "",
    source: Source = None,
    db: Db = None,
) -> Connection:
    sent = token_for(url, token, token_command) if source is None else ""
    return Connection(url, sent, source, db, new=new)


def _command(
    name: str | None = None, *, new_database: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command. Its first parameter, ``api``, is created from the options of all commands.

    Args:
        new_database: whether the command creates a missing database.
    """
    _, *shared = inspect.signature(_connect, eval_str=True).parameters.values()

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            check_texts(given)  # also the options of the connection
            connection = {option.name: given.pop(option.name) for option in shared}
            with _connect(new=new_database, **connection) as api:
                function(api, **given)

        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        run.__doc__ = function.__doc__
        run.__annotations__ = {option.name: option.annotation for option in (*own, *shared)}
        run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        app.command(name or function.__name__)(run)
        return function

    return register


# --- reading ---------------------------------------------------------------------------------


@_command("ls")
def list_instances(
    api: Connection,
    workflow: Annotated[
        str | None, typer.Argument(help="The name of the workflow. If omitted, lists the workflows.")
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Filter by status.")] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Filter by the value of a search field. Repeatable."),
    ] = None,
    order: Annotated[Order, typer.Option(help="Most recently updated first, newest first, or by id.")] = Order.UPDATED,
    limit: Annotated[int, typer.Option(help="The maximum number of instances.", min=1, max=PAGE_SIZE_MAX)] = PAGE_SIZE,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the previous page printed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lists the instances of a workflow."""
    if workflow is None:
        page = api.get("/")
    else:
        query = {f"{SEARCH}{name}": value for name, value in split_pairs(search or ()).items()}
        query |= {"order": order.value, "limit": str(limit)}
        page = api.get(_path("wf", workflow), status=status and status.value, cursor=cursor, **query)
    if as_json:
        output.print_json(page)
    elif workflow is None:
        output.print_lines(url.rpartition("/")[2] for url in page["workflows"])
    else:
        output.print_instances(page)


@_command()
def show(
    api: Connection,
    workflow: WorkflowName,
    id: InstanceId,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show the instance again after each change, until it ends.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Shows the position of an instance, what it waits for, and its fields."""
    views = _watched(api, workflow, id) if watch else iter([api.get(_instance_path(workflow, id))])
    if as_json:
        for view in views:
            output.print_json(view, lines=watch)
    elif watch and output.is_terminal():
        output.print_live(views)
    else:
        for view in views:
            output.print_instance(view)


def _watched(api: Connection, workflow: str, id: str) -> Iterator[Json]:
    """Yields the instance now and after each change, until it ends."""
    last: Json | None = None
    while last is None or last["meta"]["status"] not in OVER or last["meta"]["teardowns"]:
        view = api.get(_instance_path(workflow, id))
        if last is None or view["meta"]["pc"] != last["meta"]["pc"] or view["meta"]["status"] != last["meta"]["status"]:
            yield view
        last = view
        time.sleep(0.5)


@_command()
def history(
    api: Connection,
    workflow: WorkflowName,
    id: InstanceId,
    as_json: AsJson = False,
) -> None:
    """Shows what happened to an instance, oldest first."""
    entries = api.get(_instance_path(workflow, id))["history"]
    if as_json:
        output.print_json(entries)
    else:
        output.print_history(entries)


# --- what clients do -------------------------------------------------------------------------


@_command(new_database=True)
def start(
    api: Connection,
    workflow: WorkflowName,
    id: InstanceId,
    fields: Fields = None,
    input: Input = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Creates an instance with initial fields: start pizza order-1 'cart=[{"name": "funghi"}]'"""
    schema = api.get(_path("definition", workflow))["input"] if fields else {}
    view = api.post(_instance_path(workflow, id), read_input(fields, input, schema), **_key(key))
    _print_view(api, view, as_json)


@_command()
def send(
    api: Connection,
    workflow: WorkflowName,
    id: InstanceId,
    event: Annotated[str, typer.Argument(help="The name of the event.")],
    fields: Fields = None,
    input: Input = None,
    key: Key = None,
    thread: Annotated[
        str | None, typer.Option(help="The thread that receives the event, if several wait for it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sends an event and shows the response: send pizza order-1 Pay amount=31.5"""
    if event in (*ACTIONS, *REPAIRS):
        raise InvalidRequest(f"{event!r} is an operation, not an event: run gorchestrate {event} {workflow} {id}")
    schema: Json = {}
    parameter = ""
    if fields:
        events = api.get(_path("definition", workflow))["events"]
        found: Json = next((found for found in events if found["name"] == event), {})
        schema, parameter = found.get("input") or {}, found.get("parameter", "")
    query = f"?thread={quote(thread, safe='')}" if thread is not None else ""
    path = f"{_instance_path(workflow, id)}{_path(event)}{query}"
    handled, answer = api.send(path, read_input(fields, input, schema, parameter), **_key(key))
    if answer is None and not as_json:
        output.print_lines(["handled" if handled else "buffered until the instance waits for it"])
    else:
        output.print_json(answer)


# --- what operators do -----------------------------------------------------------------------


def _operation_command(kind: type[Operation]) -> Callable[..., None]:
    """Returns the command of an operation. Its required fields are arguments, its other fields are options."""
    repairs = issubclass(kind, Repair)

    def run(
        api: Connection,
        *,
        workflow: WorkflowName,
        id: InstanceId,
        by: By = None,
        reason: Reason = "",
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: AsJson = False,
        **given: Any,
    ) -> None:
        order = _who(by, reason)
        for name, field in kind.arguments().items():
            if _holds_fields(field):
                given[name] = read_pairs(given[name], api.get(_path("definition", workflow))["fields"])
            order[name] = given[name]
        path = f"{_instance_path(workflow, id)}/{kind.name}"
        if not repairs:
            _print_view(api, api.post(path, order), as_json)
        else:
            _repair(api, _instance_path(workflow, id), path, order, dry_run, yes, as_json)

    shared = inspect.signature(run, eval_str=True).parameters
    own = {name: _parameter(name, field) for name, field in kind.arguments().items()}
    asking = ("dry_run", "yes") if repairs else ()
    names = ("api", "workflow", "id", *own, "by", "reason", *asking, "as_json")
    run.__signature__ = inspect.Signature([{**shared, **own}[name] for name in names])  # type: ignore[attr-defined]
    run.__doc__ = kind.command
    return run


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    annotation, default = (
        field.annotation,
        typer.Option(field.get_default(call_default_factory=True), help=field.description),
    )
    if _holds_fields(field):
        annotation = list[str]
        default = typer.Argument(..., metavar="FIELD=VALUE...", help="A value is JSON or plain text.")
    elif field.is_required():
        default = typer.Argument(..., help=field.description)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _holds_fields(field: FieldInfo) -> bool:
    """Whether a field holds values of the workflow's fields."""
    return get_origin(field.annotation) is dict


for _kind in (*ACTIONS.values(), *REPAIRS.values()):
    _command(_kind.name)(_operation_command(_kind))


def _repair(api: Connection, instance: str, path: str, order: Json, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Shows the changes and asks for confirmation. Then makes them, unless the instance changed in the meantime."""
    if dry_run or not yes:
        with _broken_instances():
            before = api.get(instance)
            order = order | {"pc": before["meta"]["pc"]}
        after = api.post(path, order | {"dry_run": True})
        if as_json and dry_run:
            output.print_json(after)
        elif not as_json:
            output.print_difference(before, after, order.get("fields", ()))
        if dry_run:
            return
        if not yes:
            _confirm()
    _print_view(api, api.post(path, order), as_json)


def _confirm() -> None:
    """Asks for confirmation. Ends the command unless the answer is yes."""
    try:
        sure = typer.confirm("Apply the changes?", err=True)
    except typer.Abort:
        raise InvalidRequest("nothing was changed, because there was no confirmation: pass --yes to skip it") from None
    if not sure:
        raise typer.Abort


@contextmanager
def _broken_instances() -> Iterator[None]:
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(f"{error}. No preview is possible: pass --yes to make the change without it") from error


# --- helpers ---------------------------------------------------------------------------------


def _print_view(api: Connection, view: Json, as_json: bool) -> None:
    if as_json:
        output.print_json(view)
        return
    status = view["meta"]["status"]
    rests = status == Status.RUNNING and not api.delivers
    note = ": its steps will run when a server uses this database" if rests else ""
    output.print_lines([f"{view['meta']['id']} is {status}{note}"])


def _instance_path(workflow: str, id: str) -> str:
    """Returns the path of an instance.

    Raises:
        InvalidRequest: the id is invalid. With a slash in it, the path could be that of an action on another instance.
    """
    _path(workflow)
    return views.instance_url(workflow, check_id(id))


def _path(*parts: str) -> str:
    """Returns the path of these parts.

    Raises:
        InvalidRequest: a part would vanish from the path, which would then be that of something else.
    """
    if unusable := {"", ".", ".."}.intersection(parts):
        raise InvalidRequest(f"{unusable.pop()!r} is not a name of a workflow or an event")
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _who(by: str | None, reason: str) -> Json:
    if by is None:
        try:
            by = getpass.getuser()
        except (OSError, KeyError):  # no user name, for example in some containers
            by = ""
    return {"by": by, "reason": reason}


def _key(key: str | None) -> dict[str, str]:
    return {} if (key := check_key(key)) is None else {IDEMPOTENCY_HEADER: key}
