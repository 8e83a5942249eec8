"""``RequestRate``: how many requests a caller may send, as a setting says it: ``20/s``, ``600/m`` or ``10000/h``."""

from __future__ import annotations

import re

from workflow_core.records import record

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_REQUESTS_MAX = 1_000_000


@record(frozen=True)
class RequestRate:
    """So many requests in so many seconds. Up to all of them may come at once."""

    requests: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> RequestRate:
        """Returns the rate that a text says.

        Raises:
            ValueError: it says none.
        """
        found = re.fullmatch(r"([0-9]{1,7})/([smh])", text)
        if found is None or not 1 <= int(found[1]) <= _REQUESTS_MAX:
            raise ValueError(
                f"{text!r} is not a rate: write 1 to {_REQUESTS_MAX} requests and s, m or h, such as 20/s or 600/m"
            )
        return cls(int(found[1]), _SECONDS[found[2]])
