"""The error with which a call is answered. The texts of most are those of the real service."""

from __future__ import annotations

import grpc


class Refused(Exception):
    """A call is answered with this status and text."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> Refused:
    """The request cannot be right."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str = "Requested entity was not found.") -> Refused:
    """What the request names is not there."""
    return Refused(grpc.StatusCode.NOT_FOUND, message)


def unsupported(what: str) -> Refused:
    """The real service can do it and the emulator cannot: better an error than another behaviour."""
    return Refused(grpc.StatusCode.UNIMPLEMENTED, f"The emulator does not know {what}.")
