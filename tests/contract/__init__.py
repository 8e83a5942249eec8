"""One suite for each port, run on every adapter of it."""

import pytest

pytest.register_assert_rewrite("tests.contract.store_contract")
