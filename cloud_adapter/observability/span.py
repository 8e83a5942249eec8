"""What a span is to those that fill it, whether OpenTelemetry is there or not. Imports nothing of the package."""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "gorchestrate"

Value = str | int | float | bool
Trace = dict[str, str]
"""Where a task comes from, as the W3C headers ``traceparent`` and ``tracestate``; empty if that is not recorded."""


class Span:
    """A span that lasts while its ``with`` block does; an error that leaves the block is its failure. This one is none.

    Attributes:
        outcome: what has come of it, if it is not the usual.
    """

    outcome = ""

    def set(self, **attributes: Value) -> None:
        """Sets attributes, under ``gorchestrate.``."""

    def refused(self, error: BaseException) -> None:
        """Notes an error that is an answer, to the caller or to the queue: no failure."""

    def failed(self, error: BaseException) -> None:
        """Notes an error that does not leave the block."""


def prefixed(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """The attributes under our own names."""
    return {f"{PREFIX}.{name}": value for name, value in attributes.items()}
