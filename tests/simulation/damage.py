"""Documents that are damaged for a while, as by somebody who edits the database, until they are restored.

The rule: a request for such an instance is answered by ``DamagedDocument``, and changes nothing. No other instance is
affected. Listings and recoveries leave it out. Once it is restored, a recovery lets it go on as if nothing had
happened.
"""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import Document, decode
from cloud_adapter.errors import DamagedDocument
from tests.core import generate
from tests.simulation.model.violations import require

if TYPE_CHECKING:
    from tests.simulation.world import World

SHAPES = (generate.definition, *(generate.fan_out,) * 3, generate.orders, generate.inbox, generate.cleanups)
"""Those without children: what is damaged concerns one instance alone."""

ATTEMPTS = 40

SPANS_MAX = 3


class Damage:
    """What is damaged in a run, and when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.scenario.stream("damage")
        self._now: set[str] = set()
        self._ended: dict[str, float] = {}

    def plan(self) -> None:
        """Plans when documents are damaged, and restored."""
        if not self.world.settings.has_damage:
            return
        quiet_at = self.world.settings.quiet_at
        for _ in range(1 + self.rng.randrange(SPANS_MAX)):
            begin = self.rng.uniform(5, quiet_at)
            end = min(quiet_at, begin + self.rng.choice((3, 20, 90)))
            self.world.timeline.at(begin, self._begin, end)

    def _begin(self, end: float) -> None:
        database = self.world.database
        at = self.rng.choice(sorted(database.documents)) if database.documents else None
        if at is None or at in database.damaged or not self.world.faults.planned():
            return
        damaged = spoilt(database.documents[at][1], self.rng)
        if damaged is not None:
            self.world.say("the document of %s is damaged: %.150s", at[1], damaged)
            self.world.queue.has_lost = True  # a task that meets it is acknowledged
            database.damaged[at] = damaged
            self._now.add(at[1])
            self.world.timeline.at(end, self._end, at)

    def _end(self, at: tuple[str, str]) -> None:
        self.world.say("the document of %s is restored", at[1])
        self.world.database.damaged.pop(at, None)
        self._now.discard(at[1])
        self._ended[at[1]] = self.world.timeline.now

    def met(self, id: str, since: float) -> bool:
        """Whether the document was damaged at some moment since then."""
        return id in self._now or (id in self._ended and self._ended[id] >= since)


def spoilt(document: Document, rng: Random) -> Document | None:
    """The document, changed in a way that makes it unreadable; None if none was found. Whatever is changed, a document
    can be read, or is known to be damaged."""
    unreadable = None
    for _ in range(ATTEMPTS):
        changed = _changed(dict(document), rng)
        try:
            decode(changed, 1)
        except DamagedDocument as error:
            require(str(document["id"]) in str(error), f"the message does not name the instance: {error}")
            unreadable = changed
    return unreadable


def _changed(document: Document, rng: Random) -> Document:
    name = rng.choice(("format", "workflow", "fields", "tokens", "search", "lease", *["execution"] * 8))
    if name != "execution" or rng.random() < 0.1:
        document[name] = rng.choice((None, 99, "{", "[7]"))
        return document
    data = json.loads(document[name])
    places = list(_places(data))
    if places:
        inside, key = rng.choice(places)
        nested = inside[key]
        for _ in range(rng.randrange(12)):
            nested = [nested]
        inside[key] = rng.choice((None, 7, -1, "x", [], {}, nested, [1, 2, 3]))
        if rng.random() < 0.3:
            del inside[key]
    document[name] = json.dumps(data)
    return document


def _places(data: Any) -> Any:
    """Each place of a JSON value, as what it is in, and its name or number there."""
    for key, value in list(data.items()) if isinstance(data, dict) else enumerate(data):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from _places(value)
