"""What happens to an agent."""

from __future__ import annotations

from datetime import timedelta

import agent
import agent_explicit

from tests.examples.running import Example, Run

TASK = [{"by": "person", "text": "clean up"}]


async def allowed(run: Run) -> None:
    await run.create(messages=TASK)
    assert await run.places() == {"act/allow or interrupt"}
    await run.send("allow", True)
    fields = await run.fields()
    assert (fields.answer, fields.turns) == ("It is clean", 3)
    assert run.services["tools"].log == ["list /tmp", "delete /tmp/old"]
    assert await run.status() == "finished"


async def not_allowed(run: Run) -> None:
    await run.create(messages=TASK)
    await run.pass_time(timedelta(hours=9))
    assert (await run.fields()).answer == "I have deleted nothing"
    assert run.services["tools"].log == ["list /tmp"]
    assert await run.status() == "finished"


async def interrupted_instead_of_allowed(run: Run) -> None:
    """The tool that it then uses is broken."""
    await run.create(messages=TASK)
    await run.send("interrupt", "only count")
    fields = await run.fields()
    assert [message.text for message in fields.messages][-4:] == [
        "only count",
        "I count",
        "count: broken",
        "I cannot count",
    ]
    assert (fields.answer, await run.status()) == ("I cannot count", "finished")


async def interrupted_while_it_thinks(run: Run) -> None:
    """The reply of the model to the first message no longer counts."""
    run.holds_activities = True
    await run.create(messages=TASK)
    await run.send("interrupt", "only count")
    assert [message.text for message in (await run.fields()).messages] == ["clean up", "only count"]
    run.holds_activities = False
    await run.pass_time(timedelta(minutes=1))
    fields = await run.fields()
    assert [message.text for message in fields.messages][2:] == ["I count", "count: broken", "I cannot count"]
    assert (fields.turns, await run.status()) == (3, "finished")


EXAMPLE = Example(
    agent,
    plain=(agent.Agent,),
    explicit=(agent_explicit.Agent,),
    scenarios=(allowed, not_allowed, interrupted_instead_of_allowed, interrupted_while_it_thinks),
)
