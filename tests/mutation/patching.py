"""Changes the functions of modules that are imported already, so that a mutant needs no new process."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType

Key = tuple[str, str, int]
"""The file of a function, its qualified name, and its first line."""

Live = Mapping[Key, Sequence[FunctionType]]


def functions_below(folder: Path) -> Live:
    """The functions of this process whose source is in the folder."""
    found: dict[Key, list[FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(f"{folder}/"):
            found.setdefault(_key(thing.__code__), []).append(thing)
    return found


def patched(file: Path, original: bytes, mutated: bytes, live: Live) -> bool:
    """Makes imported functions run the code of the changed source.

    Returns:
        Whether that is the whole change. If not, nothing is changed: the change is outside of functions, in a default
        value, or in a function that exists only when it runs.
    """
    before, after = (compile(source, str(file), "exec", dont_inherit=True) for source in (original, mutated))
    changes = _changes(before, after)
    if changes is None:
        return False
    for old, new in changes:
        if not live.get(_key(old)) or old.co_freevars != new.co_freevars:
            return False
    for old, new in changes:
        for function in live[_key(old)]:
            function.__code__ = new
    return True


def _changes(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]] | None:
    """The functions that differ in two versions of the body of a module or class; None if more than these differs."""
    if _essence(before, deep=False) != _essence(after, deep=False):
        return None
    changes: list[tuple[CodeType, CodeType]] = []
    for old, new in zip(_inner(before), _inner(after), strict=True):
        if not old.co_flags & CO_OPTIMIZED:  # the body of a class
            found = _changes(old, new)
            if found is None:
                return None
            changes += found
        elif _essence(old) != _essence(new):
            changes.append((old, new))
    return changes


def _essence(code: CodeType, *, deep: bool = True) -> tuple[object, ...]:
    """What a code object does, without the numbers of its lines, and ``deep`` with the code inside it."""
    constants = tuple(
        (_essence(constant) if deep else constant.co_qualname)
        if isinstance(constant, CodeType)
        else (type(constant), repr(constant))
        for constant in code.co_consts
    )
    variables = code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_code, code.co_exceptiontable, code.co_names, variables, constants, code.co_flags


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _key(code: CodeType) -> Key:
    return code.co_filename, code.co_qualname, code.co_firstlineno
