"""What the processes serve: a register of words, and beside it a step that books them.

Each run of the step leaves two lines in the file that ``STEP_RUNS`` names, when it begins and when it is left, each
appended in one write, so that they stay whatever becomes of the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from cloud_adapter.hosting.service import Service
from workflow_core import Go, On, S, Select, Step, StepContext, WaitFor, While, Workflow

BOOKED_TOGETHER = 3
STEP_SECONDS_MAX = 0.15


class Register(Workflow, name="register"):
    search_fields = ("cohort", "owner", "last")
    create_fields = ("cohort", "owner")

    cohort: str
    owner: str
    last: str = ""
    words: list[str] = []
    booked: list[str] = []
    is_closed: bool = False

    def add(self, word: str) -> list[str]:
        self.words.append(word)
        self.last = word
        return self.words

    def close(self, word: str) -> list[str]:
        self.is_closed = True
        return self.add(word)

    async def book(self, step: StepContext) -> None:
        note("begin", step)
        try:
            await asyncio.sleep(random.uniform(0, STEP_SECONDS_MAX))
            self.booked.extend(self.words[len(self.booked) :])
        finally:
            note("end", step)

    definition = S(
        Go(
            "booking",
            While(
                "always",
                lambda register: True,
                WaitFor("enough words", lambda register: len(register.words) >= len(register.booked) + BOOKED_TOGETHER),
                Step("book", book),
            ),
        ),
        While(
            "open",
            lambda register: not register.is_closed,
            Select("the next word", On("Add", add), On("Close", close)),
        ),
    )


def note(what: str, step: StepContext) -> None:
    line = {"what": what, "id": step.workflow_id, "key": step.idempotency_key, "at": time.monotonic()}
    file = os.open(os.environ["STEP_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line | {"process": os.getpgrp()}).encode() + b"\n")
    finally:
        os.close(file)


if os.environ.get("GORCHESTRATE_BACKEND") == "cloud":  # `gorchestrate dev` needs no entry points
    service = Service(Register)

    @functions_framework.aio.http
    async def api(request: Request) -> Response:
        return await service.api(request)

    @functions_framework.aio.http
    async def worker(request: Request) -> Response:
        return await service.worker(request)
