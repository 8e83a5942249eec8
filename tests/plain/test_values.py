"""Values of locals are kept exactly: types by annotation, by the call that they come from, or by what is plain."""

from __future__ import annotations

import pytest

from tests.plain.snippets import assert_same, read

SAME = read("values.txt")


@pytest.mark.parametrize("what", SAME)
def test_as_in_python(what: str) -> None:
    assert_same(*SAME[what])
