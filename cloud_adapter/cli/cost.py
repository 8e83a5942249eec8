"""``gorchestrate cost``: prints what the paths through definitions cost; see ``cost_model``."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from cloud_adapter.cli.cost_model import CostedPath, paths
from cloud_adapter.cli.output import SafeConsole
from cloud_adapter.hosting.source import load_workflows

CHOICES_MAX = 12
"""The most choices of a path that the text output shows."""

TITLES = {
    "reads": "reads",
    "writes": "writes",
    "tasks": "tasks created",
    "deletions": "tasks deleted",
    "deliveries": "tasks delivered",
    "requests": "requests of clients",
    "lines": "log lines of the engine",
}
PARTS = {
    "read": "Firestore reads",
    "write": "Firestore writes",
    "task operation": "Cloud Tasks",
    "request": "Cloud Run requests",
    "second of an instance": "Cloud Run instances",
    "GiB of logs": "logs",
}

ASSUMED = (
    "List prices in us-central1 without free quotas, with logs, for a run without retries and conflicts. Not included: "
    "reads by GET and lists, idempotency keys (one write each), the work of children, storage, and your code's time."
)


def run(source: Path, *, orders: int, rounds: int, lazy_seconds: int, as_json: bool) -> None:
    """Prints the cheapest and the most expensive path of each workflow that a source defines or imports.

    Args:
        orders: how many instances a month has.
        rounds: how many times each loop runs.
        lazy_seconds: see ``Settings.lazy_timer_seconds``.

    Raises:
        SettingsError, DefinitionError: the source cannot be used.
    """
    lazy_after = timedelta(seconds=lazy_seconds) if lazy_seconds else None
    found = {
        cls.__workflow_name__: paths(cls.__program__, rounds=rounds, lazy_after=lazy_after)
        for cls in load_workflows(source)
    }
    console = SafeConsole(highlight=False, soft_wrap=True)
    if as_json:
        data = {
            name: {"cheapest": _as_data(cheapest, orders), "most_expensive": _as_data(most_expensive, orders)}
            for name, (cheapest, most_expensive) in found.items()
        }
        console.print_json(json.dumps(data))
        return
    for name, both in found.items():
        _print(console, name, dict(zip(("cheapest", "most expensive"), both, strict=True)), orders)
    times = "once" if rounds == 1 else f"{rounds:,} times"
    console.print(f"Each loop runs {times} (--rounds). {ASSUMED}")


def _print(console: SafeConsole, workflow: str, rows: dict[str, CostedPath], orders: int) -> None:
    table = Table("", *rows, title=escape(workflow), title_justify="left", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    numbers = [asdict(path.cost) for path in rows.values()]
    for field, title in TITLES.items():
        table.add_row(title, *(f"{number[field]:,}" for number in numbers))
    prices = [path.cost.prices for path in rows.values()]
    for name, title in PARTS.items():
        table.add_row(title, *(f"${price[name] * orders:,.2f}" for price in prices))
    table.add_row(f"for {orders:,} instances", *(f"${path.cost.dollars * orders:,.2f}" for path in rows.values()))
    console.print(table)
    for word, path in rows.items():
        more = " ..." if len(path.choices) > CHOICES_MAX else ""
        console.print(f"  {word}: {escape(', '.join(path.choices[:CHOICES_MAX]) or 'the only path')}{more}")
    console.print()


def _as_data(path: CostedPath, orders: int) -> dict[str, Any]:
    prices = {name: round(price * orders, 12) for name, price in path.cost.prices.items()}
    dollars = round(path.cost.dollars * orders, 12)
    return asdict(path.cost) | {"dollars": dollars, "prices": prices, "choices": list(path.choices)}
