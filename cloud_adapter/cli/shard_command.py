"""``gorchestrate add-shards``: prepares the documents of a Firestore database for indexes with shards."""

from __future__ import annotations

import asyncio

from rich.markup import escape

from cloud_adapter.cli.output import SafeConsole
from cloud_adapter.cli.stores import open_store, shown_store
from cloud_adapter.errors import SettingsError


def run(name: str, shards: int) -> None:
    """Writes the shard of each document that has none, and prints how many these were.

    Raises:
        SettingsError: the store cannot be used, or is not Firestore.
        Unavailable: the store did not answer.
    """
    asyncio.run(_run(name, shards))


async def _run(name: str, shards: int) -> None:
    store = open_store(name, shards=shards)
    try:
        from cloud_adapter.stores.firestore.store import FirestoreStore  # takes long to import, see ``stores``

        if not isinstance(store, FirestoreStore):
            raise SettingsError(f"{shown_store(name)} is not Firestore. Other databases need no shards")
        console = SafeConsole(highlight=False, soft_wrap=True)
        workflows = sorted(await store.workflows())
        if not workflows:
            console.print(escape(f"{shown_store(name)} has no instances."))
        for workflow in workflows:
            read = written = 0
            async for more_read, more_written in store.add_shards(workflow):
                read, written = read + more_read, written + more_written
                if more_written:
                    console.print(escape(f"{workflow}: {written} of {read} instances got a shard ..."))
            console.print(
                f"[green]✓[/] {escape(f'{workflow}: all {read} instances have a shard, {written} got it now')}"
            )
    finally:
        await store.close()
