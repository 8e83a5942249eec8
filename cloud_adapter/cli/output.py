"""Prints instances: as tables in a terminal; elsewhere as plain lines for other programs, one record each, with tabs
between the columns. JSON is printed as the API returned it.

What is printed may come from customers, so characters that a terminal would obey are escaped."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cloud_adapter.json_texts import readable
from workflow_core.printable import escaped
from workflow_core.secret_values import MASK

Json = dict[str, Any]

HISTORY_SHOWN = 10
_STYLES = {"failed": "bold red", "waiting": "cyan", "running": "green", "finished": "green", "paused": "yellow"}

Rows = list[list[Any]]


class SafeConsole(Console):
    """A console that escapes what a terminal would obey. Only styles get through."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escaped(segment.text, keep="\n"))


def is_terminal() -> bool:
    """Whether the output is a terminal."""
    return _console().is_terminal


def print_json(value: Any, *, lines: bool = False) -> None:
    """Prints JSON; ``lines``: on one line."""
    print_lines((json.dumps(value, ensure_ascii=False) if lines else readable(value)).split("\n"))


def print_lines(lines: Iterable[str]) -> None:
    """Prints plain lines and flushes them."""
    file = _console().file
    file.writelines(escaped(line, keep="\t") + "\n" for line in lines)
    file.flush()


def print_instances(page: Json) -> None:
    """Prints a page of instances."""
    search = sorted({name for instance in page["instances"] for name in instance["search"]})
    rows = [
        [
            *(instance["id"], instance["status"], _time(instance["updated_at"]), _time(instance["wake_at"])),
            *(instance["error"], *(instance["search"].get(name) for name in search)),
        ]
        for instance in page["instances"]
    ]
    _print_parts([("", ["id", "status", "updated", "wakes", "error", *search], rows)])
    if page["cursor"] is not None and is_terminal():
        print_lines([f"More instances: --cursor {page['cursor']}"])


def print_instance(view: Json) -> None:
    """Prints an instance: status and error, position, accepted events, deadlines, fields, locals and history."""
    if is_terminal():
        _console().print(_drawn(view))
        return
    print_lines(_head(view))
    _print_parts(_parts(view))


def print_live(views: Iterator[Json]) -> None:
    """Shows an instance and redraws it in place for each view."""
    with Live(console=_console(), auto_refresh=False, vertical_overflow="visible") as live:
        for view in views:
            live.update(_drawn(view), refresh=True)


def print_history(entries: list[Json]) -> None:
    """Prints entries of a history."""
    _print_parts([("", *_history(entries))])


def print_difference(before: Json, after: Json, given: Collection[str] = ()) -> None:
    """Prints the changes that an operation would make.

    Args:
        given: the fields that it sets. Whether a secret among them changes is not shown.
    """
    lines = []
    for name in sorted(before["state"].keys() | after["state"].keys()):
        old, new = before["state"].get(name), after["state"].get(name)
        if old != new:
            lines.append(f"{name}: {_value(old)} -> {_value(new)}")
        elif name in given and MASK in _value(new):
            lines.append(f"{name}: new value {_value(new)}")
    for thread in sorted(_threads(before).keys() | _threads(after).keys()):
        old, new = _threads(before).get(thread), _threads(after).get(thread)
        if old != new:
            lines.append(f"thread {thread}: {old or 'none'} -> {new or 'none'}")
    if before["meta"]["status"] != after["meta"]["status"]:
        lines.append(f"status: {before['meta']['status']} -> {after['meta']['status']}")
    print_lines(lines or ["No changes."])


def _threads(view: Json) -> dict[str, str]:
    return {thread["id"]: f"{thread['step']!r}, {thread['status']}" for thread in view["meta"]["threads"]}


def _head(view: Json) -> list[str]:
    meta = view["meta"]
    canceling = ", being canceled" if meta["canceling"] else ""
    lines = [f"{_cell(meta['workflow'])} {_cell(meta['id'])}\t{meta['status']}{canceling}"]
    if meta["error"]:
        error = meta["error"]
        lines.append(f"error\t{_cell(error['type'] + ': ' + error['message'])} (at {error['statement']!r})")
    if meta["problem"]:
        lines.append(f"problem\t{_cell(meta['problem'])}")
    return lines


def _parts(view: Json) -> list[tuple[str, list[str], Rows]]:
    """The tables of an instance, each with its title."""
    meta = view["meta"]
    threads = [
        [thread["id"], thread["step"], thread["status"], _time(thread["retry_at"])] for thread in meta["threads"]
    ]
    accepts = [[event["name"], event["role"], event["thread"]] for event in view["events"]]
    due = [
        [wait["event"], wait["kind"], _time(wait["deadline"]), thread["id"]]
        for thread in meta["threads"]
        for wait in thread["waits"]
        if wait["deadline"]
    ]
    locals = [
        [thread["id"], name, _value(value)]
        for thread in meta["threads"]
        for name, value in thread.get("locals", {}).items()
    ]
    return [
        ("stands", ["thread", "at", "status", "next attempt"], threads),
        ("accepts", ["event", "role", "thread"], accepts),
        ("due", ["name", "kind", "at", "thread"], due),
        ("fields", ["field", "value"], [[name, _value(value)] for name, value in view["state"].items()]),
        ("locals", ["thread", "local", "value"], locals),
        ("history", *_history(view["history"][-HISTORY_SHOWN:])),
    ]


def _by(entry: Json) -> str:
    """Returns who did it, and the other name that the request gave, if it did."""
    if not entry["by"]:
        return ""
    claimed = entry.get("claimed")  # an older API does not know it
    return f"by {entry['by']}" + (f" (as {claimed!r})" if claimed else "")


def _history(entries: list[Json]) -> tuple[list[str], Rows]:
    rows = []
    for entry in entries:
        notes = [entry["error"], entry["detail"], _by(entry), entry["reason"]]
        about = [_time(entry["at"]), entry["kind"], entry["statement"], entry["thread"]]
        rows.append([*about, "; ".join(filter(None, notes))])
    return ["at", "what", "statement", "thread", "notes"], rows


def _drawn(view: Json) -> RenderableType:
    first, *rest = _head(view)
    name, status = first.split("\t")
    parts: list[RenderableType] = [
        Text.assemble((name, "bold"), "  ", (status, _STYLES.get(view["meta"]["status"], "")))
    ]
    parts += [Text(line.partition("\t")[2], "red") for line in rest]
    parts += [_table(title, columns, rows) for title, columns, rows in _parts(view) if rows]
    return Group(*parts)


def _print_parts(parts: list[tuple[str, list[str], Rows]]) -> None:
    for title, columns, rows in parts:
        if is_terminal():
            _console().print(_table(title, columns, rows))
        else:
            print_lines("\t".join(map(_cell, [title, *row] if title else row)).rstrip() for row in rows)


def _table(title: str, columns: list[str], rows: Rows) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            escape(_cell(column)), overflow="fold", no_wrap=column in ("at", "updated", "wakes", "what", "status")
        )
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    return table


def _cell(value: Any) -> str:
    """A value on one line."""
    return "" if value is None else escaped(" ".join(str(value).split()))


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _time(text: str | None) -> str:
    """A time in UTC, with seconds."""
    return "" if not text else f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _console() -> Console:
    # Created for each use, because standard output may change, for example in tests.
    return SafeConsole(highlight=False)
