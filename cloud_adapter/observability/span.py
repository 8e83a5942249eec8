"""The interface of a span, with or without OpenTelemetry. Imports nothing of the package."""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "gorchestrate"

Value = str | int | float | bool
Trace = dict[str, str]
"""The origin of a task, as the W3C headers ``traceparent`` and ``tracestate``; empty if it is not recorded."""


class Span:
    """A span of a ``with`` block. An error that leaves the block is its failure. This class records nothing.

    Attributes:
        outcome: its outcome, if it differs from the usual one.
    """

    outcome = ""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *error: object) -> None:
        """An error is not recorded."""

    def set(self, **attributes: Value) -> None:
        """Sets attributes, under ``gorchestrate.``."""

    def refused(self, error: BaseException) -> None:
        """Records an error that is a response to the caller or to the queue, and not a failure."""

    def failed(self, error: BaseException) -> None:
        """Records an error that does not leave the block."""


def prefixed(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the attributes with the prefix ``gorchestrate.``."""
    return {f"{PREFIX}.{name}": value for name, value in attributes.items()}
