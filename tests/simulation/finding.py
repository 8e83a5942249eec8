"""Finds deliberate bugs within a bounded number of seeds. Holds no test: two files share the bugs, and so two cores."""

from __future__ import annotations

from itertools import chain

from tests.simulation.bugs import applied
from tests.simulation.failures import first_failure, run
from tests.simulation.scenario import Scenario

SEEDS = 4_000

FIRST = {
    "a forgotten commit counts as a conflict": 568,
    "attempt before its time": 6,
    "busy instance acknowledged without another task": 9,
    "cancel ends the lease of a running step": 7,
    "cancel not passed to the child": 26,
    "canceled child that may still be born": 452,
    "change of a decision that raised kept": 150,
    "changes of a result whose then has raised kept": 332,
    "child created twice": 7,
    "child without a name of its own": 7,
    "conditions not looked at after an event": 12,
    "conditions not looked at after fields are set": 39,
    "damaged document counts as none": 19,
    "deadlines counted from the beginning of the step": 5,
    "decision of a batch dropped at a conflict": 152,
    "dirty fields of a failed step kept": 3,
    "dry run is saved": 84,
    "early collecting task dropped": 83,
    "early event not kept by the library": 6,
    "early task dropped": 6,
    "early task put off by a minute": 5,
    "early timer dropped": 5,
    "end of a child not told": 11,
    "end of a child told again and again": 11,
    "end of an attempt ahead of its result": 110,
    "entries known by their statement alone": 231,
    "entry discarded before it was taken in": 8,
    "entry of a paused instance discarded": 4049,
    "entry without a collecting task": 65,
    "equal values searched for by their texts": 6,
    "error in a cleanup calls a cancellation off": 9,
    "event in the inbox taken twice": 245,
    "event under a live lease": 7,
    "events in the inbox overtaken": 17,
    "expired key still in the way": 83,
    "failed child counts as finished": 11,
    "failed task acknowledged": 12,
    "fence not compared": 89,
    "fence not stored anew for the next attempt": 9,
    "goto counts as no transition": 39,
    "goto leaves a wait without its teardowns": 39,
    "goto out of a cleanup that still goes on": 242,
    "heartbeat of an earlier attempt counts": 9,
    "heartbeat over a live lease": 27,
    "heartbeats heard for ten minutes only": 118,
    "history never cut": 86,
    "idempotency key without fingerprint": 60,
    "instance of another taken for the child": 26,
    "item of the loop around for that of the innermost": 311,
    "kept event due before the setups that come first": 184,
    "kept event overtaken by a later one": 283,
    "kept events in reverse order": 122,
    "kept events without limit": 4,
    "keys of a batch not recorded but for the first": 77,
    "lane unordered": 7,
    "last event in the inbox taken first": 245,
    "lease given back without a transition": 1,
    "lease not renewed": 0,
    "limit ignored after a result": 65,
    "migrated fields not saved": 16,
    "names that a thread remembers not renamed": 48,
    "newer version read by older code": 112,
    "no room left for a lease": 546,
    "no room left for the end": 292,
    "outcome of an event in the inbox not recorded": 245,
    "parent told twice": 11,
    "recovery skips timers": 16,
    "recovery under one name": 386,
    "refusal told although its batch lost": 155,
    "renamed wait with another idempotency key": 270,
    "renewal with the fields of a running step": 427,
    "repair of a newer state than was seen": 564,
    "result of an activity under a live lease": 11,
    "result of an earlier attempt counts": 9,
    "resume task with each commit": 6,
    "retry forgets how a cleanup goes on": 160,
    "retry offered for each instance that has ended": 146,
    "retry with the attempts of before": 160,
    "search fields of the last load": 6,
    "silent attempt never taken for dead": 27,
    "size not checked": 57,
    "stack traces of all attempts kept": 7,
    "status of a listing ignored": 6,
    "step begun whatever is left of the lease": 805,
    "step under the lease of another": 3,
    "task names without the commits token": 8,
    "task of the next attempt under the name of the last": 245,
    "task that never got to commit acknowledged": 258,
    "tasks created after the commit": 7,
    "tasks of the winner deleted after a conflict": 10,
    "teardown forgotten when it fails": 7,
    "thread given back twice": 412,
    "thread of a call in line not given back": 412,
    "timeout under a live lease": 3,
    "timeouts count from the start of slow code": 6,
    "timer before its deadline": 5,
    "timer not matched by wait id": 165,
    "timers deleted before the commit": 991,
    "timers not set again after a pause": 7,
    "unsearchable value stored": 30,
}
"""Seeds that have found them, and are tried first. One that no longer does costs time, and nothing else."""


def check_found(name: str) -> None:
    """Fails unless the bug of that name is found."""
    with applied(name):
        failure = first_failure(chain([FIRST[name]] if name in FIRST else [], range(SEEDS)))
    assert failure is not None, f"{SEEDS} seeds have not found the bug: {name}"
    assert run(Scenario(failure.scenario.seed)) is None, "the seed fails without the bug too"
    broken = failure.kind[0] in ("AttributeError", "NameError", "TypeError")
    assert not broken, f"the bug does not fit the code any more: {failure.error}"
