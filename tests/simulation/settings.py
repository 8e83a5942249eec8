"""What is drawn once for a run: the options of the engine, and what the run is like."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cloud_adapter.options import EngineOptions
from tests.simulation.limits import Limits
from tests.simulation.scenario import Scenario
from tests.simulation.weather import Weather
from workflow_core import Retry


class Settings:
    """The settings of a run; they do not change.

    Attributes:
        is_plain: the definitions are written as ``async def run``. They have neither former names nor mistakes, and
            nothing repairs their instances: the model knows the places and the errors of the explicit form.
        is_peaceful: there are no faults.
        is_repaired: operators repair instances.
        is_searched: the definitions have search fields, and clients list instances.
        has_limit: a document may have ``room`` bytes only.
        is_renamed: each revision has other names for the statements.
        is_slow: the handlers of event objects take time.
        has_slow_threads: synchronous user code takes time, too, and cannot be interrupted.
        threads_max: how many threads the pools of a process have, for which that code waits in line; 0: no pools.
        has_late_threads: the threads are those that the engine starts, and that code takes no time.
        has_mistakes: the code of the workflows has mistakes, in one process or, ``is_mistaken_everywhere``, in all.
        has_rare_statements: the definitions are of rarer statements.
        has_library: applications keep instances by the library alone, beside those of the engine.
        has_typed_fields: the definitions have fields of many types, by which clients list instances.
        has_codec: the secrets of typed fields and of inputs are encrypted before they are stored.
        has_principals: the workflows have roles, and each request has a principal.
        has_visitors: people look at the pages of instances, and do what these offer.
        is_contended: each instance counts as contended for, so that results come by way of its inbox.
        is_local: the store is on the same machine, for all that the engine knows.
        assumed_seconds, wrong_seconds: how long a process assumes that nobody else commits, and how long not after it
            was wrong.
        prompt: nothing takes long; tasks are given up after a minute.
        queue_drags: each call of the queue may take up to half a lease while there are faults.
        drag: by what factor calls are slower than usual; slow calls let more wait in lanes.
        failing, slowness: the part of user code that fails, and that takes long.
        skew: how many seconds a clock may be wrong.
        tokens_kept: how many commits a document remembers.
        has_bad_deployment: for a while, processes have a revision that knows no statement of any instance.
        has_damage: documents are damaged for a while.
        recovers: recovery runs every minute.
        is_lazy: timers that are due later than in five minutes get their tasks from recovery.
        loses_tasks: the queue loses tasks.
        pause_seconds: how long a client waits between requests, on the average.
        quiet_at: when the faults end.
    """

    def __init__(self, scenario: Scenario) -> None:
        choice, chance = scenario.choice, scenario.chance
        self.is_plain = scenario.is_plain
        self.is_peaceful = chance("peace", 0.15)
        self.is_repaired = scenario.has("repairs") and not (self.is_peaceful or self.is_plain)
        self.is_searched = scenario.has("search fields")
        self.has_limit = scenario.has("little room")
        self.room = scenario.stream("room").randrange(500, 1_400) if self.has_limit else 0
        self.is_renamed = scenario.has("renaming") and not (self.is_repaired or self.is_peaceful or self.is_plain)
        self.is_slow = scenario.has("slow handlers")
        self.has_slow_threads = scenario.has("slow threads")
        has_pools = self.has_slow_threads and chance("pools of threads", 0.7)
        self.threads_max: int = choice("threads of a pool", (1, 1, 2, 20)) if has_pools else 0
        self.has_late_threads = has_pools and chance("late threads", 0.4)
        self.has_mistakes = scenario.has("mistakes") and not (self.is_peaceful or self.is_plain)
        self.has_rare_statements = scenario.has("rare statements") and not (self.is_repaired or self.is_renamed)
        self.has_library, self.has_visitors = scenario.has("library"), scenario.has("visitors")
        is_looked_at = (self.is_searched or self.has_visitors) and not scenario.has("renaming")
        self.has_typed_fields = is_looked_at and chance("typed fields", 0.7)
        self.has_codec = self.has_typed_fields and chance("encryption", 0.5)
        self.has_principals = is_looked_at and not self.is_plain and chance("principals", 0.5)
        self.is_contended = chance("contention", 0.4)
        self.is_local = chance("local store", 0.5)
        self.assumed_seconds: int = choice("assumptions", (2, 20, 300))
        self.wrong_seconds: int = choice("wrong assumptions", (0, 60))
        self.prompt = chance("promptness", 0.3)
        self.queue_drags = not self.prompt and chance("slow queue", 0.1)
        self.drag = choice("drag", (1, 1, 10))
        self.failing = choice("failing code", (0.0, 0.1, 0.4))
        self.slowness = choice("slow code", (0.0, 0.1, 0.3))
        self.skew = choice("skew", (0.0, 0.5, 2.0))
        kept = 1 if chance("few tokens", 0.15) else choice("tokens", (2, 20))
        self.tokens_kept = 20 if self.is_peaceful else kept
        is_undisturbed = self.is_peaceful or self.is_repaired or self.is_renamed
        self.has_bad_deployment = scenario.has("bad deployment") and not is_undisturbed
        self.has_damage = scenario.has("damage") and not (is_undisturbed or self.has_rare_statements)
        # A task that meets code without the statement of its instance, or a damaged document, is not tried again.
        must_recover = self.has_bad_deployment or self.has_damage
        self.recovers = (chance("recovery", 0.4) or must_recover) and not self.is_peaceful
        # A task that meets a mistake at once is not tried again.
        self.is_mistaken_everywhere = chance("mistakes everywhere", 0.5) or not self.recovers
        self.loses_tasks = self.recovers and chance("losing tasks", 0.6)
        self.is_lazy = self.recovers and chance("lazy timers", 0.4)
        self.pause_seconds = choice("pace of clients", (5.0, 5.0, 300.0))
        self.quiet_at = scenario.stream("end of faults").uniform(60, 300)
        self.weather = Weather.of(scenario, is_peaceful=self.is_peaceful, is_prompt=self.prompt, quiet_at=self.quiet_at)
        self.limits = Limits()
        if scenario.has("small limits"):
            self.limits = Limits.of(scenario, is_contended=self.is_contended, has_codec=self.has_codec)
        elif self.has_mistakes and chance("mistakes in batches", 0.5):
            self.limits = Limits(batch=2, has_lax_checks=True)
        if self.recovers and chance("postponing", 0.5):
            self.limits = replace(self.limits, postpones=True)
        self.options = EngineOptions(
            task_age_max=timedelta(minutes=1 if self.prompt else 10),
            lease=timedelta(seconds=choice("lease", (20, 60))),
            max_wait=timedelta(seconds=choice("patience", (1, 10))),
            retry=Retry(max_attempts=choice("attempts", (2, 4, 10))),
            budget=timedelta(seconds=choice("budget", (2, 30))),
            budget_steps=choice("steps of a task", (1, 3, 500)),
            buffer_max=choice("events kept", (1, 3, 100)),
            key_ttl=self.weather.key_ttl,
            horizon=self.limits.horizon,
            lazy_after=timedelta(seconds=300) if self.is_lazy else None,
        )
        if self.is_repaired and chance("much to repair", 0.6):
            self.failing, self.options = 0.4, replace(self.options, retry=Retry(max_attempts=2))

    @property
    def has_short_keys(self) -> bool:
        """Whether idempotency keys may expire within the run."""
        return self.options.key_ttl < timedelta(hours=1)
