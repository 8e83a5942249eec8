"""Finds deliberate bugs within a bounded number of seeds. Holds no test: two files share the bugs, and so two cores."""

from __future__ import annotations

from functools import cache
from itertools import chain

from tests.simulation.bugs import BUGS, applied
from tests.simulation.definitions import LATER
from tests.simulation.failures import first_failure, run
from tests.simulation.scenario import Scenario

SEEDS = 4_000

FIRST = {
    "a duplicate key is written again": 2,
    "a lost reply counts as a conflict": 12,
    "a lost reply counts as success": 12,
    "answer told because of an assumption": 17,
    "attempt before its time": 7,
    "attempts not counted": 1,
    "both indexes read without removing duplicates": 31,
    "busy instance acknowledged without another task": 9,
    "cancel ends the lease of a running step": 7,
    "cancel not passed to the child": 1,
    "canceled child that may still be born": 115,
    "change of a decision that raised kept": 74,
    "child created twice": 1,
    "child without a name of its own": 1,
    "children of a select forgotten at an event": 4048,
    "cleanup left out when it is canceled": 22,
    "code that failed called again at once": 1,
    "commit without precondition": 2,
    "conditions not looked at after an event": 12,
    "conditions not looked at after fields are set": 54,
    "damaged document counts as none": 19,
    "deadlines counted from the beginning of the step": 6,
    "decision of a batch dropped at a conflict": 152,
    "dirty fields of a failed step kept": 1,
    "dry run is saved": 84,
    "early collecting task dropped": 61,
    "early event not kept by the library": 6,
    "early task dropped": 7,
    "early task put off by a minute": 5,
    "end of a child not told": 28,
    "end of a child told again and again": 1,
    "end of an attempt ahead of its result": 195,
    "entries known by their statement alone": 28,
    "entry discarded before it was taken in": 19,
    "entry without a collecting task": 65,
    "equal values searched for by their texts": 6,
    "error of a covered thread not thrown": 4008,
    "event in the inbox taken twice": 33,
    "event under a live lease": 9,
    "expired key still in the way": 137,
    "failed child counts as finished": 1,
    "failed task acknowledged": 13,
    "fence not compared": 89,
    "fence not stored anew for the next attempt": 9,
    "first report dropped": 31,
    "goto counts as no transition": 54,
    "goto leaves a wait without its teardowns": 160,
    "heartbeat of an earlier attempt counts": 155,
    "heartbeat over a live lease": 2,
    "heartbeats heard for ten minutes only": 118,
    "history never cut": 98,
    "idempotency key in a second write": 2,
    "idempotency key not looked up": 2,
    "idempotency key not recorded": 2,
    "idempotency key of a step by attempt": 1,
    "idempotency key without fingerprint": 60,
    "instance of another taken for the child": 20,
    "item of the loop around for that of the innermost": 40,
    "kept event delivered twice": 4,
    "kept event dropped at the next commit": 2,
    "kept event overtaken by a later one": 78,
    "kept event without a task of its own": 4,
    "kept events in reverse order": 122,
    "kept events without limit": 4,
    "kept state used although another process has committed": 17,
    "keys of a batch not recorded but for the first": 77,
    "keys shared by principals": 18,
    "lane unordered": 12,
    "last event in the inbox taken first": 97,
    "lazy timer forgotten by recovery": 70,
    "lease given back without a transition": 1,
    "limit ignored after a result": 65,
    "loop with broken items left": 400,
    "migrated fields not saved": 16,
    "newer version read by older code": 112,
    "no commit token": 73,
    "no room left for the end": 150,
    "no task for the next attempt": 1,
    "only the shards that are written are read": 6,
    "outcome of an event in the inbox not recorded": 90,
    "parent told twice": 37,
    "postponed instance not tried by new code": 55,
    "recovery skips leases": 16,
    "recovery skips timers": 16,
    "recovery under one name": 555,
    "refusal told although its batch lost": 24,
    "renewal with the fields of a running step": 6,
    "repair of a newer state than was seen": 564,
    "report not counted as a heartbeat": 22,
    "report of an earlier attempt kept": 40,
    "result of an activity under a live lease": 104,
    "result of an earlier attempt counts": 19,
    "resume task with each commit": 7,
    "retry offered for each instance that has ended": 215,
    "retry with the attempts of before": 51,
    "search fields of the last load": 6,
    "secret inputs masked for good": 6,
    "sender without the role accepted": 137,
    "shards skipped in due": 165,
    "silent attempt never taken for dead": 28,
    "size not checked": 57,
    "stack traces of all attempts kept": 3,
    "status of a listing ignored": 6,
    "step under the lease of another": 1,
    "task ahead of its commit acknowledged": 17,
    "task names without the commits token": 28,
    "task of the next attempt under the name of the last": 43,
    "task that never got to commit acknowledged": 1701,
    "tasks created after the commit": 7,
    "tasks of the winner deleted after a conflict": 2,
    "teardown forgotten when it fails": 3,
    "thread given back twice": 412,
    "timeout under a live lease": 5,
    "timeouts count from the start of slow code": 6,
    "timer not matched by wait id": 58,
    "timers not set again after a pause": 5,
    "tokens never cut": 5,
    "unsearchable value stored": 30,
    "version compared twice": 3,
    "wrong assumption counts as a commit": 17,
}
"""Seeds that have found them, and are tried first; without one here, 0 is. One that no longer does costs time, and
nothing else."""


RARE = frozenset(
    (
        "a forgotten commit counts as a conflict",
        "changes of a result whose then has raised kept",
        "entry of a paused instance discarded",
        "error in a cleanup calls a cancellation off",
        "events in the inbox overtaken",
        "goto out of a cleanup that still goes on",
        "kept event due before the setups that come first",
        "names that a thread remembers not renamed",
        "no room left for a lease",
        "renamed wait with another idempotency key",
        "retry forgets how a cleanup goes on",
        "step begun whatever is left of the lease",
        "thread of a call in line not given back",
        "timers deleted before the commit",
    )
)
"""Bugs that more than 200 seeds do not find. ``python -m tests.simulation.finding`` searches for them. No test does,
because that takes minutes."""


FOUND = sorted((name for name in BUGS if name not in RARE), key=lambda name: FIRST.get(name, 0))
"""The bugs that the tests find. Those that one seed finds stand side by side: it is run once without a bug for all."""

TRIED = frozenset(FIRST.get(name, 0) for name in FOUND)
"""Seeds that the tests of the bugs also run without a bug."""


@cache
def holds(seed: int) -> bool:
    """Whether the run without a bug keeps all promises."""
    return run(Scenario(seed)) is None


def check_found(name: str) -> None:
    """Fails unless the bug of that name is found, and by a seed that does not fail without it."""
    first = FIRST.get(name, 0)
    with applied(name):
        failure = first_failure(chain([first], range(LATER, LATER + SEEDS) if first >= LATER else range(SEEDS)))
    assert failure is not None, f"{SEEDS} seeds have not found the bug: {name}"
    for seed in (first, failure.scenario.seed):
        assert holds(seed), f"seed {seed} fails without the bug too"
    broken = failure.kind[0] in ("AttributeError", "NameError", "TypeError")
    assert not broken, f"the bug does not fit the code any more: {failure.error}"


if __name__ == "__main__":
    for rare in sorted(RARE):
        check_found(rare)
        print("found:", rare)
