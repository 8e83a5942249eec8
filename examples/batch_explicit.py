"""The batch as an explicit definition: the same workflow as in ``batch.py``, as statements."""

from __future__ import annotations

from datetime import timedelta

from batch import InvalidRow, Problem, TooManyFailures, ledger, mail

from gorchestrate import (
    Activity,
    ActivityContext,
    ErrorInfo,
    Fail,
    ForEach,
    If,
    Retry,
    S,
    Step,
    StepContext,
    Try,
    Workflow,
)


async def book(row: str, context: ActivityContext) -> str:
    if not row.strip().isdigit():
        raise InvalidRow(f"{row!r} is not a number")
    return ledger.request(row, context.idempotency_key)


class Batch(Workflow, name="batch"):
    """Imports rows in parallel, and reports those that could not be imported."""

    create_fields = ("rows", "problems_max")
    rows: list[str]
    problems_max: int = 100
    imported: int = 0
    problems: list[Problem] = []
    canceled: str = ""

    def each_row(self) -> list[str]:
        return self.rows

    def count(self, receipt: str) -> None:
        self.imported += 1

    def note(self, error: ErrorInfo, *, item: str) -> None:
        self.problems.append(Problem(row=item, reason=error.message))

    def has_too_many(self) -> bool:
        return len(self.problems) > self.problems_max

    def too_many(self) -> str:
        return f"more than {self.problems_max} rows failed"

    def cancel(self, error: ErrorInfo) -> None:
        self.canceled = error.message

    def report(self, step: StepContext) -> None:
        mail.request(f"{self.imported} imported, {len(self.problems)} failed", step.idempotency_key)

    definition = S(
        Try(
            "import",
            ForEach(
                "each import_row",
                each_row,
                Try(
                    "try book",
                    Activity(
                        "import_row/book",
                        book,
                        then=count,
                        retry=Retry(max_attempts=3, initial=timedelta(seconds=5)),
                        timeout=timedelta(minutes=1),
                    ),
                ).except_(
                    Exception,
                    If("too many problems", has_too_many, Fail("too many", too_many, error=TooManyFailures)),
                    then=note,
                ),
                parallel=True,
                limit=50,
            ),
        ).except_(TooManyFailures, then=cancel),
        Step("report", report),
    )
