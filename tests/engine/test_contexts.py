"""``in_context``: work in another context, in the task of its caller."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar

import pytest

from cloud_adapter.engine.lanes import in_context

NAME: ContextVar[str] = ContextVar("name", default="none")


def test_work_sees_the_context_before_and_after_it_waits() -> None:
    async def main() -> None:
        context = Context()
        context.run(NAME.set, "request")
        seen = []

        async def work() -> asyncio.Task[None] | None:
            seen.append(NAME.get())
            await asyncio.sleep(0)
            seen.append(NAME.get())
            NAME.set("changed")
            return asyncio.current_task()

        assert await in_context(context, work()) is asyncio.current_task()
        assert seen == ["request", "request"]
        assert (NAME.get(), context.run(NAME.get)) == ("none", "changed")

    asyncio.run(main())


def test_errors_pass_in_both_directions() -> None:
    async def main() -> None:
        missing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        missing.set_exception(KeyError("oven"))

        async def work() -> None:
            with pytest.raises(KeyError, match="oven"):
                await missing
            raise ValueError("cold")

        with pytest.raises(ValueError, match="cold"):
            await in_context(Context(), work())

    asyncio.run(main())


def test_a_cancellation_reaches_the_work() -> None:
    async def main() -> None:
        seen = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                seen.append(NAME.get())

        context = Context()
        context.run(NAME.set, "request")
        task = asyncio.ensure_future(in_context(context, work()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["request"]

    asyncio.run(main())
