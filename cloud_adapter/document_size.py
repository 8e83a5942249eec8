"""The size of a document, and the error for one that is too large."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cloud_adapter.errors import TooLarge
from workflow_core.execution import Thread

_UNCOUNTED = frozenset(("history", "entries", "entries_count", "entries_bytes", "tokens"))
"""The parts that grow with every commit. They have their own limits."""

REST_BYTES = 10_000
"""More than the bytes of everything beside the execution, the fields, and the search fields."""

THREADS_MANY = 100
"""With more threads than this, the error for a document that is too large names their number as the cause."""

ENCRYPTED = "$encrypted"
"""The name under which the fields of version 3 contain the encrypted fields, by their names. No field has this name."""


def counted_bytes(document: Mapping[str, Any]) -> int:
    """Returns how many bytes of the document count towards its limit."""
    return sum(_sizes(document).values())


def _sizes(document: Mapping[str, Any]) -> dict[str, int]:
    return {name: len(str(value).encode()) for name, value in document.items() if name not in _UNCOUNTED}


def check_size(document: Mapping[str, Any], limit: int, threads: Sequence[Thread]) -> None:
    """Raises ``TooLarge`` if the bytes of the document that count exceed ``limit``."""
    chars = len(document["execution"]) + len(document["fields"])
    if not document["search"] and 4 * chars + REST_BYTES < limit:
        return  # a character has at most 4 bytes; to count them takes a third of encoding a small document
    sizes = _sizes(document)
    total = sum(sizes.values())
    if total <= limit:
        return
    part = max(sizes, key=sizes.__getitem__)
    detail = f"its largest part is {part!r} with {sizes[part]:,} bytes"
    advice = "keep large data elsewhere and store a reference to it"
    fields: Any = json.loads(document["fields"])
    if part == "fields" and isinstance(fields, dict) and fields:
        fields |= fields.pop(ENCRYPTED, {})
        bytes_of = {name: len(json.dumps(value, ensure_ascii=False).encode()) for name, value in fields.items()}
        largest = max(bytes_of, key=bytes_of.__getitem__)
        detail = f"its largest field is {largest!r} with {bytes_of[largest]:,} bytes"
    elif part == "execution" and len(threads) > THREADS_MANY:
        ((name, count),) = Counter(thread.name for thread in threads).most_common(1)
        detail += f", of {len(threads):,} threads, {count:,} of them of {name!r}"
        advice = (
            "run fewer at a time with ForEach(..., parallel=True, limit=100), or process a chunk of the items in each "
            f"Child; {advice}"
        )
    raise TooLarge(f"the instance would take {total:,} bytes, the limit is {limit:,}; {detail}: {advice}")
