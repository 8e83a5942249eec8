"""Generated programs give what plain asyncio gives for the same source. ``compared`` runs more of them."""

from __future__ import annotations

import pytest

from tests.plain.compared import differences


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(10, 80, 10))])
def test_programs_agree_with_asyncio(first: int) -> None:
    assert differences(first, 10) == []
