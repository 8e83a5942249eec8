"""The names of the operations that send events, which are the names of methods in generated clients."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import count


def operation_ids(events: Iterable[str]) -> dict[str, str]:
    """Names a method that sends each event, such as ``send_add_to_cart``. Duplicate names get a number."""
    result: dict[str, str] = {}
    for event in events:
        plain = unicodedata.normalize("NFKD", event).encode("ascii", "ignore").decode()
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", plain)
        name = "_".join(["send", *words]).lower() if words else "send_event"
        candidates = (name if number == 1 else f"{name}_{number}" for number in count(1))
        result[event] = next(name for name in candidates if name not in result.values())
    return result
