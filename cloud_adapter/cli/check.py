"""``gorchestrate check``: opens the given store and prints the findings of ``stored_instances.py``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TextIO

from rich.markup import escape

from cloud_adapter.cli.access_matrix import Matrix
from cloud_adapter.cli.definition_warnings import DefinitionWarning, advise
from cloud_adapter.cli.output import SafeConsole
from cloud_adapter.cli.stored_instances import Place, Report, check_store
from cloud_adapter.cli.stores import check_tables, open_store
from cloud_adapter.clock import SystemClock
from cloud_adapter.codecs.chain import codec_of
from cloud_adapter.engine.registry import by_name
from cloud_adapter.hosting.source import Served, load
from cloud_adapter.store_settings import SecretSettings
from workflow_core import DefinitionError, Workflow

PROGRESS_SECONDS = 5.0
"""How often the progress is printed, to the standard error."""

SHOWN_MAX = 20
"""The maximum number of instances that the text output lists for one problem."""


def run(
    source: Path,
    against: str | None,
    *,
    as_json: bool,
    access: bool = False,
    functions: Collection[str] = (),
    accept: Callable[[Served], None] | None = None,
) -> bool:
    """Checks a source, and optionally the live instances of a store, and prints the findings.

    Args:
        access: also print who may do what.
        functions: names of functions that the source must define.
        accept: checks what the source serves, and raises ``SettingsError`` if that cannot be deployed.

    Returns:
        Whether the source can be deployed. Warnings do not prevent it.

    Raises:
        SettingsError: the source or the store cannot be used.
        Unavailable: the store did not answer.
    """
    console = SafeConsole(highlight=False, soft_wrap=True)
    try:
        served = load(source, *functions)
        workflows = served.workflows
        by_name(workflows)
    except DefinitionError as error:
        if as_json:
            console.print_json(json.dumps({"ok": False, "definition_error": str(error)}))
        else:
            console.print(f"[red]The definition has a mistake.[/] {escape(str(error))}")
        return False
    if accept is not None:
        accept(served)
    settings = SecretSettings.load()
    warnings = advise(workflows, settings)
    report = Report() if against is None else asyncio.run(_check(against, workflows, settings))
    matrices = [Matrix.of(workflow) for workflow in workflows] if access else []
    if as_json:
        more = {"access": [matrix.to_dict() for matrix in matrices]} if access else {}
        found = report.to_dict() | {"warnings": [warning.to_dict() for warning in warnings]} | more
        console.print_json(json.dumps(found))
    else:
        _print(console, source, workflows, warnings, against, report)
        for matrix in matrices:
            console.print()
            console.print(matrix.table())
            if matrix.narrows:
                console.print(escape(f"For single instances, authorize of {matrix.workflow!r} may deny more."))
    return not report.problems


async def _check(against: str, workflows: list[type[Workflow]], settings: SecretSettings) -> Report:
    codec = codec_of(settings, SystemClock())
    async with contextlib.AsyncExitStack() as stack:
        if codec is not None:
            stack.push_async_callback(codec.close)
        await check_tables(against, upgrade=True)
        store = open_store(against)
        stack.push_async_callback(store.close)
        return await check_store(store, workflows, codec, Progress(sys.stderr))


class Progress:
    """Prints how far a long check is: every few seconds, so that a short one prints nothing."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began = self._told = clock()

    def __call__(self, count: int) -> None:
        now = self._clock()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            print(f"{count:,} live instances read, {count / (now - self._began):,.0f} a second", file=self._stream)


def _print(
    console: SafeConsole,
    source: Path,
    workflows: list[type[Workflow]],
    warnings: list[DefinitionWarning],
    against: str | None,
    report: Report,
) -> None:
    names = ", ".join(cls.__workflow_name__ for cls in workflows)
    console.print(f"{escape(str(source))} compiles: {escape(names)}")
    for warning in warnings:
        console.print(f"[yellow]![/] {escape(str(warning))}")
    if against is None:
        return
    counts = ", ".join(f"{name} {count}" for name, count in report.checked.items()) or "none"
    console.print(f"Live instances in {escape(against)}: {escape(counts)}")
    for problem, places in report.problems.items():
        console.print(f"\n[red]✗[/] [bold]{escape(problem.workflow)}[/]: {escape(problem.what)}")
        if ids := [_shown(place) for place in places if place.id]:
            more = f", and {len(ids) - SHOWN_MAX} more" if len(ids) > SHOWN_MAX else ""
            count = "1 instance" if len(ids) == 1 else f"{len(ids)} instances"
            console.print(f"  {count}: {escape(', '.join(ids[:SHOWN_MAX]))}{more}")
        console.print(f"  Fix: {escape(problem.fix)}.")
    if not report.problems:
        console.print("[green]✓[/] All of them can continue.")


def _shown(place: Place) -> str:
    return f"{place.id} ({place.thread})" if place.thread else place.id
