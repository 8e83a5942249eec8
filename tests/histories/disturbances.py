"""What disturbs processes while clients use them: each happens to one of them, and is over when it returns."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import httpx

from tests.deployment import Slot
from tests.histories.backends import LEASE_SECONDS, Site, signal_to
from tests.histories.steps import Trouble

AT_A_TIME = 2
"""How many things happen at a time: fewer than there are processes."""
PAUSE_SECONDS = (0.1, 1.2)
DOWN_SECONDS = (0.0, 1.0)
STANDSTILL_SECONDS = (1.2 * LEASE_SECONDS, 3.0 * LEASE_SECONDS)
FULL_SECONDS = (0.5, 3.0)
CLOCK_SECONDS_MAX = 6.0
ENDED_SECONDS = 0.5


class Disturber:
    """Disturbs the processes of a site.

    Attributes:
        counts: how often each disturbance happened.
        troubles: when which process was killed or stood still.
        found: processes that ended although nobody killed them.
    """

    def __init__(self, site: Site, http: httpx.AsyncClient, rng: random.Random) -> None:
        self.site = site
        self.http = http
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.troubles: list[Trouble] = []
        self.found: list[str] = []
        self._busy: set[str] = set()
        self._is_full = False

    async def disturb(self, kinds: Sequence[str], until: float) -> None:
        """Lets things happen until that time, by ``time.monotonic``; in the end all processes serve, with the right
        time."""
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*(self._disturb(kinds, until) for _ in range(AT_A_TIME)))
        finally:
            watching.cancel()
            for slot in self.site.slots:
                self.site.set_clock(slot, 0)
        for slot in self.site.slots:
            if not await slot.serves(self.http):
                self._has_ended(slot)
                await self._start(slot)

    async def _disturb(self, kinds: Sequence[str], until: float) -> None:
        while kinds and time.monotonic() < until:
            await asyncio.sleep(self.rng.uniform(*PAUSE_SECONDS))
            kind = self.rng.choice(kinds)
            if not (kind == "disk" and self._is_full):
                self.counts[kind] += 1
                await DISTURBANCES[kind](self)

    async def kill(self) -> None:
        """A process is killed, and starts again after a while."""
        slot = self._take()
        at, process = time.monotonic(), _process(slot)
        self.troubles.append(Trouble(process, at, float("inf")))
        await slot.kill()
        await asyncio.sleep(self.rng.uniform(*DOWN_SECONDS))
        await self._start(slot)
        self._busy.remove(slot.name)

    async def stop(self) -> None:
        """A process stands still for longer than its lease, and then goes on as if nothing had happened."""
        slot = self._take()
        at, process = time.monotonic(), _process(slot)
        signal_to(slot, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.rng.uniform(*STANDSTILL_SECONDS))
        finally:
            signal_to(slot, signal.SIGCONT)
        self.troubles.append(Trouble(process, at, time.monotonic()))
        self._busy.remove(slot.name)

    async def step_clock(self) -> None:
        """The clock of a process is set, forward or backward, and stays wrong."""
        slot = self.rng.choice(self.site.slots)
        self.site.set_clock(slot, self.rng.uniform(-CLOCK_SECONDS_MAX, CLOCK_SECONDS_MAX))

    async def fill_disk(self) -> None:
        """The disk of the database takes no more for a while."""
        disk = self.rng.choice(self.site.disks)
        self._is_full = True
        try:
            await asyncio.to_thread(disk.fill)
            await asyncio.sleep(self.rng.uniform(*FULL_SECONDS))
        finally:
            disk.free()
            self._is_full = False

    def _take(self) -> Slot:
        slot = self.rng.choice([slot for slot in self.site.slots if slot.name not in self._busy])
        self._busy.add(slot.name)
        return slot

    async def _start(self, slot: Slot) -> None:
        """Starts a process, again and again while the disk is full."""
        while True:
            was_full = self._is_full
            slot.start()
            if await slot.serves(self.http):
                return
            if not was_full and not self._is_full:
                self.found.append(f"{slot.name} does not start: {slot.process and slot.process.errors()[-2000:]}")
                return
            await asyncio.sleep(0.1)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(ENDED_SECONDS)
            for slot in self.site.slots:
                if slot.name not in self._busy and slot.process is not None and slot.process.process.poll() is not None:
                    self._has_ended(slot)
                    self._busy.add(slot.name)
                    await self._start(slot)
                    self._busy.remove(slot.name)

    def _has_ended(self, slot: Slot) -> None:
        assert slot.process is not None
        code, errors = slot.process.process.returncode, slot.process.errors()[-2000:]
        self.found.append(f"{slot.name} has ended with exit code {code}, and nobody killed it: {errors}")


DISTURBANCES: dict[str, Callable[[Disturber], Awaitable[None]]] = {
    "kill": Disturber.kill,
    "stop": Disturber.stop,
    "clock": Disturber.step_clock,
    "disk": Disturber.fill_disk,
}


def _process(slot: Slot) -> int:
    assert slot.process is not None
    return slot.process.process.pid
