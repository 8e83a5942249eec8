"""What `pytest -m slow` may leave out."""

from __future__ import annotations

import pytest

from tests.conftest import SLOW_ELSEWHERE


def test_all_files_with_slow_tests_are_collected_with_the_slow_tests(pytestconfig: pytest.Config) -> None:
    """Of the files that are collected now: all, when all tests are run."""
    assert pytestconfig.stash[SLOW_ELSEWHERE] == []
