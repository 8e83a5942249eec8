"""Whatever stands between and around awaits means what it means in Python."""

from __future__ import annotations

import pytest

from tests.plain.snippets import assert_same, read

SAME = read("sources.txt")


@pytest.mark.parametrize("what", SAME)
def test_as_in_python(what: str) -> None:
    assert_same(*SAME[what])
