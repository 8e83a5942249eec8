"""The errors of calls. Most messages are those of the real service."""

from __future__ import annotations

import grpc


class Refused(Exception):
    """A call fails with this status and message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> Refused:
    """Returns the error for an invalid request."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str = "Requested entity was not found.") -> Refused:
    """Returns the error for a missing resource."""
    return Refused(grpc.StatusCode.NOT_FOUND, message)


def unsupported(what: str) -> Refused:
    """Returns the error for a feature that only the real service has: an error is better than different behavior."""
    return Refused(grpc.StatusCode.UNIMPLEMENTED, f"The emulator does not support {what}.")
