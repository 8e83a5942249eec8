"""How long the tests of the pages wait for what they expect to see."""

from playwright.sync_api import expect

expect.set_options(timeout=20_000)  # the default, 5 s, may pass on a machine that does other things as well
