"""JSON as people read it: in pages and on the command line."""

from __future__ import annotations

import json
from typing import Any

INDENTED_MAX = 100_000
"""The longest text that is indented. Indented JSON is written ten times slower, and is often several times longer."""


def readable(value: Any) -> str:
    """Returns data as JSON: indented, unless it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) > INDENTED_MAX else json.dumps(value, ensure_ascii=False, indent=2)
