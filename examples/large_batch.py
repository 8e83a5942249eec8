"""A large batch: 20,000 rows in 20 children, each a document of its own. Activities read the rows by their numbers."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel
from services import OutsideService

from gorchestrate import ActivityContext, Retry, StepContext, Workflow, activity, child, gather, step

ledger, mail = OutsideService("ledger"), OutsideService("mail")

ROWS_PER_CHUNK = 1_000
ROWS_PER_REQUEST = 100


def read(row: int) -> str:
    """Represents a file in a bucket, or a table."""
    return "damaged" if row % 5_000 == 13 else str(row)


class Written(BaseModel):
    """What has become of some rows: how many were written, and the numbers of the wrong ones."""

    rows: int = 0
    wrong: list[int] = []


class Chunk(Workflow, name="chunk"):
    """Writes the rows from ``first`` to before ``end``, in a few requests at a time."""

    first: int
    end: int
    written: Written = Written()

    @activity(retry=Retry(max_attempts=5), timeout=timedelta(minutes=1))
    async def write(self, context: ActivityContext, first: int, end: int) -> Written:
        rows = {row: read(row) for row in range(first, end)}
        wrong = [row for row, text in rows.items() if not text.isdigit()]
        ledger.request(f"{first} to {end}", context.idempotency_key)
        return Written(rows=len(rows) - len(wrong), wrong=wrong)

    def result(self) -> Written:
        return self.written

    async def write_from(self, first: int) -> None:
        written = await self.write(first, min(first + ROWS_PER_REQUEST, self.end))
        self.written.rows += written.rows
        self.written.wrong += written.wrong

    async def run(self) -> None:
        await gather(*(self.write_from(first) for first in range(self.first, self.end, ROWS_PER_REQUEST)), limit=5)


class LargeBatch(Workflow, name="large_batch"):
    """Writes all rows, 10 chunks at a time. A chunk that fails does not stop the others."""

    create_fields = ("rows",)
    rows: int = 20_000
    written: int = 0
    wrong: list[int] = []
    failed_chunks: dict[int, str] = {}

    @step
    def report(self, step: StepContext, text: str) -> None:
        mail.request(text, step.idempotency_key)

    async def write_chunk(self, first: int) -> None:
        try:
            chunk = await child(Chunk, first=first, end=min(first + ROWS_PER_CHUNK, self.rows))
            self.written += chunk.rows
            self.wrong = sorted([*self.wrong, *chunk.wrong])
        except Exception as error:
            self.failed_chunks[first] = str(error)

    async def run(self) -> None:
        await gather(*(self.write_chunk(first) for first in range(0, self.rows, ROWS_PER_CHUNK)), limit=10)
        failed = len(self.failed_chunks)
        await self.report(f"{self.written} written, {len(self.wrong)} wrong, {failed} chunks failed")
