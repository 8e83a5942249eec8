"""What no run of the simulation meets, with the reason. See ``coverage.py``.

A gap is named by its file, its function and the text of its first line, so the list survives other changes.
"""

from __future__ import annotations

UNMET: dict[tuple[str, str, str], str] = {}
"""(path, function, code): the reason."""
