"""What happens to a trip."""

from __future__ import annotations

from datetime import timedelta

import trip
import trip_explicit

from tests.examples.running import Example, Run


async def booked(run: Run) -> None:
    run.services["agency"].errors["book hotel"] = [ConnectionError("no line")]
    await run.create()
    await run.pass_time(timedelta(minutes=1))
    assert run.services["agency"].log == ["book flight", "book hotel", "book car"]
    fields = await run.fields()
    assert [booking.what for booking in fields.bookings] == ["flight", "hotel", "car"]
    assert (fields.status, await run.status()) == ("booked", "finished")


async def undone(run: Run) -> None:
    run.services["agency"].errors["book car"] = [trip.SoldOut("no car left")] * 2
    await run.create()
    await run.pass_time(timedelta(minutes=1))
    assert run.services["agency"].log == ["book flight", "book hotel", "undo hotel", "undo flight"]
    fields = await run.fields()
    assert (fields.status, fields.reason, fields.settled_by_hand) == ("undone", "no car left", [])
    assert await run.status() == "finished"


async def undone_by_hand(run: Run) -> None:
    """A compensation fails: the other one is done anyway, once a person has settled the first."""
    agency = run.services["agency"]
    agency.errors["book car"] = [trip.SoldOut("no car left")] * 2
    agency.errors["undo hotel"] = [ConnectionError("the hotel does not answer")] * 9
    await run.create()
    await run.pass_time(timedelta(hours=1))
    assert await run.places() == {"settle"}
    assert run.services["tickets"].log == ["hotel: the hotel does not answer"]
    await run.send("settle", "called them")
    assert agency.log == ["book flight", "book hotel", "undo flight"]
    fields = await run.fields()
    assert (fields.status, fields.settled_by_hand) == ("undone", ["called them"])
    assert await run.status() == "finished"


EXAMPLE = Example(
    trip,
    plain=(trip.Trip,),
    explicit=(trip_explicit.Trip,),
    scenarios=(booked, undone, undone_by_hand),
)
