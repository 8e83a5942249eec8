"""Compares the time of an event on Firestore with the minimum: one read and one conditional write of the document,
without the history, which an event neither reads nor rewrites.

    python benchmarks/firestore_event.py

It runs on the emulator, which it starts if FIRESTORE_EMULATOR_HOST is not set. It alternates between both, so that both
are measured under the same load. Fails if the ratio of the medians exceeds the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from google.cloud.firestore import AsyncClient  # noqa: E402
from pizza import PizzaOrder  # noqa: E402

from cloud_adapter.clock import SystemClock  # noqa: E402
from cloud_adapter.emulators import FIRESTORE_EMULATOR_VARIABLE  # noqa: E402
from cloud_adapter.engine.engine import Engine  # noqa: E402
from cloud_adapter.ports import Task  # noqa: E402
from cloud_adapter.queues.local import LocalQueue  # noqa: E402
from cloud_adapter.stores.firestore.store import FirestoreStore  # noqa: E402
from tests.firestore_emulator import running  # noqa: E402

RATIO_MAX = 1.5
WARM_UP = 60
"""The number of events that fill the tokens and the history. After that, what an event writes keeps its size."""


async def measure(rounds: int) -> float:
    client = AsyncClient(project=f"benchmark-{uuid.uuid4().hex[:12]}")
    engine = Engine([PizzaOrder], FirestoreStore(client), LocalQueue(_deliver, SystemClock()))
    await engine.create("pizza", "order-1")
    order = client.document("workflows/pizza/instances/order-1")
    bare = client.document("bare/order-1")

    async def event(number: int) -> None:
        name, body = ("EmptyCart", b"") if number % 2 else ("AddToCart", b'{"name": "margherita", "qty": 2}')
        await engine.handle_event("pizza", "order-1", name, body)

    async def get_and_update(number: int) -> None:
        snapshot = await bare.get()
        document = (snapshot.to_dict() or {}) | {"pc": number}
        await bare.update(document, option=client.write_option(last_update_time=snapshot.update_time))

    for number in range(WARM_UP):
        await event(number)
    document = (await order.get()).to_dict() or {}
    history = document.pop("entries")
    await bare.set(document)
    for number in range(WARM_UP):
        await get_and_update(-1 - number)

    events, bares = [], []
    for number in range(rounds):
        events.append(await _milliseconds(event, number))
        bares.append(await _milliseconds(get_and_update, number))
    await client._firestore_api.transport.close()

    size = sum(len(str(value)) for value in document.values())
    print(f"{rounds} rounds on a document of {size:,} bytes, and a history of {sum(map(len, history)):,} bytes;")
    print("medians (and 95th percentiles):")
    print(f"  bare get + conditional update   {median(bares):6.2f} ms  ({quantiles(bares, n=20)[-1]:.2f} ms)")
    print(f"  event through the engine        {median(events):6.2f} ms  ({quantiles(events, n=20)[-1]:.2f} ms)")
    ratio = median(events) / median(bares)
    print(f"  ratio                           {ratio:6.2f}     (goal: at most {RATIO_MAX})")
    return ratio


async def _deliver(task: Task, retries: int) -> bool:
    return True


async def _milliseconds(action: Callable[[int], Awaitable[None]], number: int) -> float:
    started = time.perf_counter()
    await action(number)
    return (time.perf_counter() - started) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    given = os.environ.get(FIRESTORE_EMULATOR_VARIABLE)
    with nullcontext(given) if given else running() as host:
        os.environ[FIRESTORE_EMULATOR_VARIABLE] = str(host)
        return 0 if asyncio.run(measure(rounds)) <= RATIO_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
