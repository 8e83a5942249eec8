"""The definitions of a run: those that its instances and their children have, and those that the model runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from tests.core import generate
from tests.simulation import damage, flows, shapes
from tests.simulation.mistakes import Mistakes
from tests.simulation.plain_trees import reduced
from tests.simulation.rare import rare
from tests.simulation.scenario import Scenario
from tests.simulation.settings import Settings
from tests.simulation.typed import SAMPLES
from workflow_core import Workflow
from workflow_core.program.cases import ActivityCase, SelectOp
from workflow_core.statements.calls import ACTIVITY_TIMEOUT


def with_children(data: bytes, *, calm: bool = False) -> list[generate.Spec]:
    """Anything, children included."""
    return generate.definition(data, calm=calm, children=True)


def child_cases(data: bytes, *, calm: bool = False) -> list[generate.Spec]:
    """Anything, with children that a select waits for beside events, timeouts and conditions."""
    return generate.definition(data, calm=calm, child_cases=True)


def fan_out(data: bytes, *, calm: bool = False) -> list[generate.Spec]:
    """Many activities, some of them with children before or behind them."""
    return generate.fan_out(data, calm=calm, children=True)


def covered(data: bytes, *, calm: bool = False) -> list[generate.Spec]:
    """Threads that are started inside of a ``Try``, without deadlines: the model cannot move a thread into these."""
    return generate.covered(data, calm=calm, deadlines=False)


Shape = Callable[..., list[generate.Spec]]

SHAPES = (*(generate.definition, with_children, fan_out) * 2, generate.orders, generate.inbox, generate.cleanups)

LATER = 4_000
"""The first seed that may have one of ``LATER_SHAPES``. Those before keep their shapes, and so what they find."""

LATER_SHAPES = (covered, child_cases)


def shape_of(scenario: Scenario, settings: Settings) -> Shape:
    """What the definition of instances is read with."""
    shape: Shape = scenario.choice("shape", SHAPES)
    if scenario.chance("deadlines", 0.15) and not settings.is_repaired:
        shape = generate.deadlines  # the model cannot move a thread into a section with a deadline
    if scenario.seed >= LATER and scenario.chance("later shape", 0.4):
        shape = scenario.choice("which later shape", LATER_SHAPES)
    if (settings.is_repaired or settings.is_renamed) and scenario.chance("definition to repair", 0.4):
        shape = shapes.to_repair
    if settings.has_rare_statements:
        shape = rare
    if settings.threads_max and scenario.chance("fan out in threads", 0.6):
        shape = fan_out
    if settings.has_mistakes and scenario.chance("mistakes in loops", 0.5):
        shape = shapes.loops
    if settings.has_damage:
        shape = scenario.choice("shape of what is damaged", damage.SHAPES)
    return shape


class Definitions:
    """The definitions of instances (``flow``) and of their children (``child``).

    Attributes:
        flows, children: one class for each revision.
        bad_revision: the number of the one that knows no statement, if there is one.
        least_delays: by workflow and activity, how long an attempt may take, or be silent.
        shared: the names of fields whose values children get.
        modeled: by workflow, what the model runs.
    """

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        tapes = scenario.stream("tape")
        tape = tapes.randbytes(tapes.choice((40, 100, 250)))[: scenario.tape]
        calm = scenario.chance("calm definitions", 0.6)
        shape = shape_of(scenario, settings)
        errand = generate.errand(scenario.stream("tape of the child").randbytes(60), calm=calm)
        specs = {"flow": shape(tape, calm=calm), "child": errand}
        if settings.is_plain:
            specs = {name: reduced(spec) for name, spec in specs.items()}
        search_by: tuple[str, ...] = ("x", "y") if settings.is_searched else ()
        search_by += tuple(SAMPLES) if settings.is_searched and settings.has_typed_fields else ()
        self.shared = ("pin",) if settings.has_codec and not settings.is_plain else ()
        revisions = range(3 if settings.is_renamed else scenario.choice("revisions", (1, 1, 2)))
        kind = partial(_built, scenario, settings, search_by, self.shared)
        self.children = [kind("child", specs["child"], revision) for revision in revisions]
        knows_class = settings.has_rare_statements or settings.is_plain or bool(self.shared)
        by_class = self.children if knows_class else ["child"] * len(revisions)
        self.flows = [
            kind("flow", specs["flow"], revision, child_class=child)
            for revision, child in zip(revisions, by_class, strict=True)
        ]
        self.bad_revision = len(self.flows)
        if settings.has_bad_deployment:
            for revisions_of, (name, spec) in zip((self.flows, self.children), specs.items(), strict=True):
                times = scenario.stream(f"times of {name}")
                revisions_of.append(
                    flows.build(
                        spec,
                        times,
                        0,
                        name,
                        search_by,
                        knows_none=True,
                        is_typed=settings.has_typed_fields,
                        is_guarded=settings.has_principals,
                        child_class=self.children[0],
                        shared=self.shared,
                        plain_rng_of=_plain_rng_of(scenario, settings, name),
                    )
                )
        self.least_delays = {
            name: _limits_of(one) for name, (one, *_) in zip(specs, (self.flows, self.children), strict=True)
        }
        modeled = partial(
            flows.build_model, is_typed=settings.has_typed_fields, is_plain=settings.is_plain, shared=self.shared
        )
        child = modeled(specs["child"], "child")
        flow = modeled(specs["flow"], "flow", child_class=child if knows_class else "child")
        self.modeled = {"flow": flow, "child": child}

    def first_revision(self, workflow: str) -> type[Workflow]:
        return (self.flows if workflow == "flow" else self.children)[0]


def _built(
    scenario: Scenario,
    settings: Settings,
    search_by: tuple[str, ...],
    shared: tuple[str, ...],
    name: str,
    spec: list[generate.Spec],
    revision: int,
    child_class: Any = "child",
) -> type[generate.Fields]:
    return flows.build(
        spec,
        scenario.stream(f"times of {name}"),
        revision,
        name,
        search_by,
        slow=settings.is_slow,
        threads=settings.threads_max > 0,
        mistakes=_mistakes_of(scenario, name) if settings.has_mistakes else None,
        renames=settings.is_renamed,
        is_typed=settings.has_typed_fields,
        is_guarded=settings.has_principals,
        delay_max=40 * settings.limits.horizon.total_seconds(),
        child_class=child_class,
        shared=shared,
        plain_rng_of=_plain_rng_of(scenario, settings, name),
    )


def _mistakes_of(scenario: Scenario, name: str) -> Mistakes:
    kinds = ("", "messages of ", "items of ")
    return Mistakes(*(scenario.stream(f"mistakes of {kind}{name}") for kind in kinds))


def _plain_rng_of(scenario: Scenario, settings: Settings, name: str) -> Callable[[str], Random] | None:
    """The random numbers for the plain form of a workflow; None if it has the explicit form."""
    return (lambda at: scenario.stream(f"plain form of {name} at {at}")) if settings.is_plain else None


def _limits_of(cls: type[Workflow]) -> dict[str, timedelta]:
    """How long each attempt at an activity may take, or be silent."""
    selects = (instruction for instruction in cls.__program__.code if isinstance(instruction, SelectOp))
    cases = (case for select in selects for case in select.cases.values())
    specs = {case.event: case.activity for case in cases if isinstance(case, ActivityCase)}
    return {name: spec.heartbeat or spec.timeout or ACTIVITY_TIMEOUT for name, spec in specs.items()}
