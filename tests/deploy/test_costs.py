"""What deploy/README.md says an order costs: the operations are counted here, the prices are multiplied."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from pizza import PizzaOrder

from cloud_adapter.cli.demo import ACTS
from cloud_adapter.engine import recent_sessions
from tests.engine.harness import World

README = Path(__file__).parents[2] / "deploy" / "README.md"


async def order(directory: Path) -> Counter[str]:
    """Orders a pizza through every role, without errors, and counts what is paid for."""
    world = World(directory, PizzaOrder)
    deliveries = 0
    with world.process.calls() as calls:
        await world.create()
        deliveries += await world.deliver()
        acts = [act for act in ACTS if act.expected == 200 and not act.with_users]
        for act in acts:
            await world.send(act.event, act.input)
            deliveries += await world.deliver()
    assert (await world.instance()).execution.status == "finished"
    count = Counter(calls)
    return Counter(
        {
            "reads": count["load"] + count["load_key"],
            "writes": count["create"] + count["commit"],
            # Each delivery is an operation of Cloud Tasks, too.
            "task operations": count["create_task"] + count["delete_task"] + deliveries,
            "requests": 1 + len(acts) + deliveries,
        }
    )


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = README.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows[2:]]


def test_the_page_counts_an_order_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_sessions, "SHARED", timedelta())  # each event comes so late that it has to be read
    counted = asyncio.run(order(tmp_path))
    rows = {row[0]: row for row in table("What an order costs")}
    assert {name: int(row[1]) for name, row in rows.items() if name in counted} == counted


def test_the_page_multiplies_right() -> None:
    *rows, total = table("What an order costs")
    costs = []
    for _, count, price, unit, cost in rows:
        cents = float(count) * float(price.strip("$")) / float(unit.replace(",", "")) * 1e6
        assert abs(float(cost) - cents) < 0.01
        costs.append(cents)
    assert abs(float(total[-1]) - sum(costs)) < 0.05
