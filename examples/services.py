"""Represents the services that the examples call: a bank, an airline, a mail server.

They accept an idempotency key, as real ones should: a request that is repeated after a crash has no second effect.
"""

from __future__ import annotations


class OutsideService:
    """A service that is called over the network.

    Attributes:
        done: the requests that took effect, by idempotency key.
        errors: for a request, the errors that its next attempts meet.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.done: dict[str, str] = {}
        self.errors: dict[str, list[Exception]] = {}

    def request(self, what: str, key: str) -> str:
        """Performs a request once for each key. Returns a reference number."""
        if key not in self.done:
            if self.errors.get(what):
                raise self.errors[what].pop(0)
            self.done[key] = what
        return f"{self.name}-{key[:6]}"

    @property
    def log(self) -> list[str]:
        """The requests that took effect, in their order."""
        return list(self.done.values())
