"""Small limits, which runs reach that the real ones are too large for: of documents, batches, inboxes, and time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from cloud_adapter import document, document_size, history
from cloud_adapter.engine import commits, inbox, lanes, plan, recovery, transaction
from tests.simulation.scenario import Scenario
from workflow_core.machine import events

RECOVERED_MAX = 1_000
HORIZON = timedelta(days=29)
HISTORY = history.HISTORY_MAX, history.FIRST_KEPT, history.OPERATIONS_KEPT


@dataclass(frozen=True)
class Limits:
    """The limits of a run.

    Attributes:
        horizon: how far ahead the engine creates tasks.
        recovered_max: how many instances a recovery schedules.
        history: how many entries of its history an instance keeps, how many of them are the first ones, and how many
            of operators.
        postpones: recovery postpones what cannot move at once, not after minutes.
        entry_bytes_max: how large an entry of an inbox may be; None: as large as any is.
    """

    horizon: timedelta = HORIZON
    recovered_max: int = RECOVERED_MAX
    history: tuple[int, int, int] = HISTORY
    entry_bytes_max: int | None = None
    batch: int | None = None
    batch_bytes: int | None = None
    told: int | None = None
    collected: int | None = None
    has_lax_checks: bool = False
    postpones: bool = False

    @classmethod
    def of(cls, scenario: Scenario, *, is_contended: bool, has_codec: bool) -> Limits:
        """Draws small limits. Where everything comes by way of inboxes, what is too large for one would never come. The
        entries of events always fit; those that are encrypted are larger."""
        choice = scenario.choice
        entry_bytes = (370, 500, None) if has_codec else (170, 300, None)
        return cls(
            horizon=timedelta(seconds=choice("horizon", (10.0, 90.0, HORIZON.total_seconds()))),
            recovered_max=choice("recovered at once", (1, 2, RECOVERED_MAX)),
            history=choice("entries of a history", ((8, 2, 3), (15, 5, 8), HISTORY)),
            entry_bytes_max=None if is_contended else choice("bytes of an entry", entry_bytes),
            batch=choice("large batch", (2, 2, None)),
            batch_bytes=choice("bytes of a batch", (0, None)),
            told=choice("answers at a time", (1, None)),
            collected=choice("entries collected at once", (1, 2, None)),
            has_lax_checks=scenario.chance("lax checks", 0.7),
        )

    @contextmanager
    def applied(self, tokens_kept: int, room: int) -> Iterator[None]:
        """Applies them inside the block.

        Args:
            tokens_kept: how many commits a document stores.
            room: how large it may be; 0: as large as any is.
        """
        small: list[tuple[Any, str, Any]] = [
            (recovery, "OVERDUE_MIN", timedelta() if self.postpones else None),
            (document, "TOKENS_MAX", tokens_kept),
            (plan, "TOKENS_MAX", tokens_kept),
            (commits, "TOKENS_MAX", tokens_kept),
            (document, "HISTORY_MAX", self.history[0]),
            (history, "HISTORY_MAX", self.history[0]),
            (history, "FIRST_KEPT", self.history[1]),
            (history, "OPERATIONS_KEPT", self.history[2]),
            (document, "DOCUMENT_BYTES_MAX", room or None),
            (document_size, "THREADS_MANY", 1 if room else None),
            (document, "INBOX_ENTRY_BYTES_MAX", self.entry_bytes_max),
            (transaction, "LARGE_BATCH", self.batch),
            (transaction, "BATCH_BYTES_MAX", self.batch_bytes),
            (lanes, "BATCH_BYTES_MAX", self.batch_bytes),
            (transaction, "TOLD_AT_A_TIME", self.told),
            (transaction, "LAX_BYTES_MIN", 0 if self.has_lax_checks else None),
            (inbox, "COLLECT_MAX", self.collected),
            (events, "NAMED_WAITS_MAX", 1 if self.has_lax_checks else None),
        ]
        with ExitStack() as patches:
            for module, name, value in small:
                if value is not None:
                    patches.enter_context(patch.object(module, name, value))
            yield
