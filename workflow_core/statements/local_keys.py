"""What errors call a local by its key. The compiler makes locals too, for what must be kept inside of a statement."""

from __future__ import annotations

import re

_ARGUMENT = r"\.(.+)\.(\w+)"
_RESULT = r"\.(.+)\[\d*\]"
_VALUE = r"\.(.+) \d+"


def local_in_words(key: str) -> str:
    """Returns ``the local 'x'``, or what a local of the compiler is: ``the argument 'to' of 'send'``."""
    section, _, name = key.rpartition("/")
    if not name.startswith("."):
        return f"the local {key!r}"
    if name == ".return":
        return f"the result of {section!r}"
    if found := re.fullmatch(_RESULT, name):
        return f"a result of {found[1]!r}"
    if found := re.fullmatch(_ARGUMENT, name):
        return f"the argument {found[2]!r} of {found[1]!r}"
    if re.fullmatch(_VALUE, name):
        return "a value in a statement with an await"
    return f"the items of {name[1:]!r}"


def is_argument(key: str, statement: str) -> bool:
    """Whether a local is an argument of a step with this name."""
    section, slash, name = key.rpartition("/")
    found = re.fullmatch(_ARGUMENT, name)
    return found is not None and f"{section}{slash}{found[1]}" == statement


def instead_of_secret(key: str) -> str:
    """Returns what to do if a local with a secret would be stored."""
    name = key.rpartition("/")[2]
    if not name.startswith("."):
        return "Keep the secret in a field, and what else you need of it in another local."
    if re.fullmatch(_RESULT, name):
        return "Await the call that returns it alone, and assign its result to a field."
    if found := re.fullmatch(_ARGUMENT, name):
        return f"Do not pass it: read the secret from a field in {found[1]!r}."
    if re.fullmatch(_VALUE, name):
        return "Assign it to a field before the next await."
    return "Loop over a field that has them." if name != ".return" else "Assign it to a field instead of returning it."
