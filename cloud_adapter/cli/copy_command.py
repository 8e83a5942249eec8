"""``gorchestrate copy``: opens the stores, keeps the progress of ``store_copy.py`` in a file, and prints its report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter, ValidationError
from rich.markup import escape

from cloud_adapter.cli.output import SafeConsole
from cloud_adapter.cli.store_copy import Copier, Progress, Report
from cloud_adapter.cli.stores import check_shards, check_tables, has_tables, is_same_store, open_store, shown_store
from cloud_adapter.clock import SystemClock
from cloud_adapter.errors import SettingsError

SHOWN_MAX = 20
"""The most problems that are listed."""

_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


def run(source: str, destination: str, progress_file: Path, *, write: bool) -> bool:
    """Copies a store, and prints what was done.

    Returns:
        Whether the destination has all instances of the source, or would have them.

    Raises:
        SettingsError: a store cannot be used, or the progress is that of another copy.
        Unavailable: a store did not answer.
    """
    if is_same_store(source, destination):
        raise SettingsError("--from and --to are the same store")
    if write and not progress_file.absolute().parent.is_dir():
        raise SettingsError(f"the progress cannot be written to {progress_file}: create its folder first")
    console = SafeConsole(highlight=False, soft_wrap=True)
    names = shown_store(source), shown_store(destination)
    progress = _read(progress_file, *names) if write else Progress(*names)
    if progress.workflow:
        console.print(f"Continuing from {escape(str(progress_file))}.")

    def save(progress: Progress) -> None:
        if write:
            new = progress_file.with_name(f"{progress_file.name}.new")
            new.write_bytes(_PROGRESS.dump_json(progress))
            new.replace(progress_file)

    report = asyncio.run(_copy(source, destination, progress, write, save))
    if write and report.is_good:
        progress_file.unlink(missing_ok=True)
    _print(console, report, write=write)
    return report.is_good


async def _copy(
    source: str, destination: str, progress: Progress, write: bool, save: Callable[[Progress], None]
) -> Report:
    await check_tables(source, upgrade=write)
    async with AsyncExitStack() as stack:
        here = open_store(source)
        stack.push_async_callback(here.close)
        if not write and not await has_tables(destination, upgrade=False):
            destination = str(Path(stack.enter_context(TemporaryDirectory())) / "empty.db")
        there = open_store(destination, new=True)
        stack.push_async_callback(there.close)
        await check_shards(there, destination)
        return await Copier(here, there, write, SystemClock().now(), progress, save).run()


def _read(file: Path, source: str, destination: str) -> Progress:
    if not file.exists():
        return Progress(source, destination)
    try:
        progress = _PROGRESS.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise SettingsError(f"the progress in {file} cannot be read: {error}. Remove the file to begin anew") from None
    if (progress.source, progress.destination) != (source, destination):
        raise SettingsError(
            f"{file} has the progress of another copy, from {progress.source} to {progress.destination}: complete that "
            f"one, or remove the file"
        )
    return progress


def _print(console: SafeConsole, report: Report, *, write: bool) -> None:
    for workflow in sorted({*report.copied, *report.present, *report.counts}):
        verb = "copied" if write else "to copy"
        line = f"{workflow}: {report.copied[workflow]} {verb}, {report.present[workflow]} already there"
        if workflow in report.counts:
            here, there = report.counts[workflow]
            line += f"; the source has {here}, the destination {there}"
        console.print(escape(line))
    if not (report.copied or report.present or report.problems):
        console.print("The source has no instances." if not report.counts else "Everything was copied before.")
    for workflow, id, reason in report.problems[:SHOWN_MAX]:
        console.print(f"[red]✗[/] {escape(f'{workflow} {id}'.strip())}: {escape(reason)}")
    if (more := len(report.problems) - SHOWN_MAX) > 0:
        console.print(f"  and {more} more")
    if report.attempting:
        console.print(
            f"[yellow]![/] {report.attempting} of them wait for activities. If an attempt was not made, the "
            f"destination makes the next one after the timeout of the activity."
        )
    if not write:
        console.print("Nothing was written. To copy, stop what serves both stores, and run this again with --write.")
    elif report.is_good:
        console.print("[green]✓[/] Each copy was read back and compared.")
