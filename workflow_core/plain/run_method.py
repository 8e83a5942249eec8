"""Finds the method ``run`` of a workflow's class, without the compiler."""

from __future__ import annotations

import inspect
from typing import Any

from workflow_core.replacements import COMPILED
from workflow_core.signatures import is_async

RUN = "run"


def plain_run(cls: type) -> Any:
    """Returns the method ``run`` of a workflow's class; None if its definition is explicit, or it has none."""
    for base in cls.__mro__:
        own = vars(base)
        if "definition" in own and COMPILED not in own:  # a subclass may override what was compiled from run
            return None
        if RUN in own and (is_async(own[RUN]) or inspect.isasyncgenfunction(own[RUN])):
            return own[RUN]
    return None
