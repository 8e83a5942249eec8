"""What the command line prints of instances: tables in a terminal; elsewhere plain lines, one record each,
with tabs between the columns, as logs and other programs read them. JSON goes out as the API gave it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]

HISTORY_SHOWN = 10
_STYLES = {"failed": "bold red", "waiting": "cyan", "running": "green", "finished": "green", "paused": "yellow"}

Rows = list[list[Any]]


def is_terminal() -> bool:
    """Whether a person looks at the output."""
    return _console().is_terminal


def print_json(value: Any, *, lines: bool = False) -> None:
    """Prints JSON; ``lines``: on one line."""
    print_lines([json.dumps(value, ensure_ascii=False, indent=None if lines else 2)])


def print_lines(lines: Iterable[str]) -> None:
    """Prints plain lines, at once."""
    file = _console().file
    file.writelines(f"{line}\n" for line in lines)
    file.flush()


def print_instances(page: Json) -> None:
    """Prints a page of instances."""
    search = sorted({name for one in page["instances"] for name in one["search"]})
    rows = [
        [one["id"], one["status"], _time(one["updated_at"]), _time(one["wake_at"]), one["error"]]
        + [one["search"].get(name) for name in search]
        for one in page["instances"]
    ]
    _print_parts([("", ["id", "status", "updated", "wakes", "error", *search], rows)])
    if page["cursor"] is not None and is_terminal():
        print_lines([f"There are more: --cursor {page['cursor']}"])


def print_instance(view: Json) -> None:
    """Prints an instance: status and error first, then where it stands, what it waits for, its fields, its history."""
    if is_terminal():
        _console().print(_drawn(view))
        return
    print_lines(_head(view))
    _print_parts(_parts(view))


def print_live(views: Iterator[Json]) -> None:
    """Shows an instance in place, anew for each view."""
    with Live(console=_console(), auto_refresh=False, vertical_overflow="visible") as live:
        for view in views:
            live.update(_drawn(view), refresh=True)


def print_history(entries: list[Json]) -> None:
    """Prints entries of a history."""
    _print_parts([("", *_history(entries))])


def print_difference(before: Json, after: Json) -> None:
    """Prints what an operation would change."""
    lines = []
    for name in sorted(before["state"].keys() | after["state"].keys()):
        old, new = before["state"].get(name), after["state"].get(name)
        if old != new:
            lines.append(f"{name}: {_value(old)} -> {_value(new)}")
    for thread in sorted(_threads(before).keys() | _threads(after).keys()):
        stood, stands = _threads(before).get(thread), _threads(after).get(thread)
        if stood != stands:
            lines.append(f"thread {thread}: {stood or 'none'} -> {stands or 'none'}")
    if before["meta"]["status"] != after["meta"]["status"]:
        lines.append(f"status: {before['meta']['status']} -> {after['meta']['status']}")
    print_lines(lines or ["nothing would change"])


def _threads(view: Json) -> dict[str, str]:
    return {one["id"]: f"{one['step']!r}, {one['status']}" for one in view["meta"]["threads"]}


def _head(view: Json) -> list[str]:
    meta = view["meta"]
    lines = [f"{meta['workflow']} {meta['id']}\t{meta['status']}{', being canceled' if meta['canceling'] else ''}"]
    if meta["error"]:
        error = meta["error"]
        lines.append(f"error\t{_cell(error['type'] + ': ' + error['message'])} (at {error['statement']!r})")
    if meta["problem"]:
        lines.append(f"problem\t{_cell(meta['problem'])}")
    return lines


def _parts(view: Json) -> list[tuple[str, list[str], Rows]]:
    """The tables of an instance, each with its title."""
    meta = view["meta"]
    threads = [[one["id"], one["step"], one["status"], _time(one["retry_at"])] for one in meta["threads"]]
    accepts = [[one["name"], one["role"], one["thread"]] for one in view["events"]]
    due = [
        [wait["event"], wait["kind"], _time(wait["deadline"]), one["id"]]
        for one in meta["threads"]
        for wait in one["waits"]
        if wait["deadline"]
    ]
    return [
        ("stands", ["thread", "at", "status", "next attempt"], threads),
        ("accepts", ["event", "role", "thread"], accepts),
        ("due", ["name", "kind", "at", "thread"], due),
        ("fields", ["field", "value"], [[name, _value(value)] for name, value in view["state"].items()]),
        ("history", *_history(view["history"][-HISTORY_SHOWN:])),
    ]


def _history(entries: list[Json]) -> tuple[list[str], Rows]:
    rows = []
    for one in entries:
        notes = [one["error"], one["detail"], f"by {one['by']}" if one["by"] else "", one["reason"]]
        rows.append([_time(one["at"]), one["kind"], one["statement"], one["thread"], "; ".join(filter(None, notes))])
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
        table.add_column(column, overflow="fold", no_wrap=column in ("at", "updated", "wakes", "what", "status"))
    for row in rows:
        table.add_row(*(escape(_cell(one)) for one in row))
    return table


def _cell(value: Any) -> str:
    """A value on one line."""
    return "" if value is None else " ".join(str(value).split())


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _time(text: str | None) -> str:
    """A moment, to the second, in UTC."""
    return "" if not text else f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _console() -> Console:
    # Made anew, as what the standard output is may change, as in tests.
    return Console(highlight=False)
