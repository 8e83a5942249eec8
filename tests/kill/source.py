"""What the processes serve that are killed: the pizza order, and an assembly of many steps that leave marks outside.

A mark is one line in the file that ``SIDE_EFFECTS`` names, appended in one write, so that it stays whatever becomes of
the process.
"""

from __future__ import annotations

import json
import os
import random
import time
from datetime import timedelta

import functions_framework.aio
from pizza import PizzaOrder
from starlette.requests import Request
from starlette.responses import Response

from cloud_adapter.hosting.service import Service
from workflow_core import EventRejected, Go, If, On, S, Select, Step, StepContext, Timeout, WaitFor, While, Workflow

STEP_SECONDS_MAX = 0.3
RACE = timedelta(seconds=0.4)


def mark(step: StepContext, what: str) -> None:
    line = {
        "what": what,
        "id": step.workflow_id,
        "step": step.step,
        "thread": step.thread_id,
        "key": step.idempotency_key,
        "attempt": step.attempt,
        "process": os.getpgrp(),
        "at": time.monotonic(),
    }
    file = os.open(os.environ["SIDE_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


class Assembly(Workflow, name="assembly"):
    """Rounds of steps, each with a race between an event and a timer; beside them parts come in, and are booked."""

    create_fields = ("rounds", "parts")

    rounds: int
    parts: int
    done: list[str] = []
    races: list[str] = []
    received: list[int] = []
    booked: list[int] = []

    def work(self, step: StepContext) -> None:
        mark(step, "start")
        time.sleep(random.uniform(0, STEP_SECONDS_MAX))
        self.done.append(step.idempotency_key)
        mark(step, "end")

    def book(self, step: StepContext) -> None:
        self.work(step)
        self.booked.append(len(self.received))

    def receive(self, part: int) -> int:
        self.received.append(part)
        return len(self.received)

    def win(self, round: int) -> str:
        if round != len(self.races):
            raise EventRejected(f"round {round} is over")
        self.races.append(f"event {round}")
        return "won"

    def lose(self, step: StepContext) -> None:
        self.work(step)
        self.races.append(f"timer {len(self.races)}")

    definition = S(
        Go(
            "parts come in",
            While(
                "parts are missing",
                lambda w: len(w.received) < w.parts,
                Select("next part", On("Receive", receive)),
                If("to be booked", lambda w: len(w.received) % 2 == 0, Step("book", book)),
            ),
        ),
        While(
            "rounds are left",
            lambda w: len(w.races) < w.rounds,
            Step("prepare", work),
            Step("assemble", work),
            Select("race", On("Win", win), Timeout("too late", RACE, Step("lose", lose))),
        ),
        WaitFor("all parts are in", lambda w: len(w.booked) >= w.parts // 2),
        Step("pack", work),
    )


service = Service(PizzaOrder, Assembly)


@functions_framework.aio.http
async def api(request: Request) -> Response:
    return await service.api(request)


@functions_framework.aio.http
async def worker(request: Request) -> Response:
    return await service.worker(request)
