"""A batch: 2,000 rows are imported, 50 at a time. Rows that fail are collected; too many failures stop the batch."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel
from services import OutsideService

from gorchestrate import ActivityContext, Retry, StepContext, TerminalError, Workflow, activity, gather, step

ledger, mail = OutsideService("ledger"), OutsideService("mail")


class InvalidRow(TerminalError):
    """The row is wrong, so another attempt is useless."""


class TooManyFailures(Exception):
    """The file as a whole is wrong."""


class Problem(BaseModel):
    """A row that was not imported."""

    row: str
    reason: str


class Batch(Workflow, name="batch"):
    """Imports rows in parallel, and reports those that could not be imported."""

    create_fields = ("rows", "problems_max")
    rows: list[str]
    problems_max: int = 100
    imported: int = 0
    problems: list[Problem] = []
    canceled: str = ""

    @activity(retry=Retry(max_attempts=3, initial=timedelta(seconds=5)), timeout=timedelta(minutes=1))
    async def book(self, context: ActivityContext, row: str) -> None:
        if not row.strip().isdigit():
            raise InvalidRow(f"{row!r} is not a number")
        ledger.request(row, context.idempotency_key)

    @step
    async def report(self, step: StepContext, text: str) -> None:
        mail.request(text, step.idempotency_key)

    async def import_row(self, row: str) -> None:
        try:
            await self.book(row)
            self.imported += 1
        except Exception as error:
            self.problems.append(Problem(row=row, reason=str(error)))
            if len(self.problems) > self.problems_max:
                raise TooManyFailures(f"more than {self.problems_max} rows failed") from error

    async def run(self) -> None:
        try:
            await gather(*(self.import_row(row) for row in self.rows), limit=50)
        except TooManyFailures as error:
            self.canceled = str(error)
        await self.report(f"{self.imported} imported, {len(self.problems)} failed")
