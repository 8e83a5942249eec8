"""``gorchestrate demo``: orders a pizza over real HTTP, through every role, and shows each response."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console

ORDER = "/wf/pizza/order-1"
PAGE = "/ui/pizza/instances/order-1"
FINISH_S_MAX = 30


@dataclass(frozen=True, slots=True)
class Act:
    """An event that one role sends, and the expected status."""

    role: str
    event: str
    input: Any = None
    expected: int = 200
    remark: str = ""


ACTS = (
    Act("customer", "AddToCart", {"name": "margherita", "qty": 2}),
    Act("customer", "AddToCart", {"name": "quattro stagioni"}),
    Act("cook", "StartCooking", expected=409, remark="The order is not submitted yet, so this event is rejected."),
    Act("customer", "AddToCart", {"name": "funghi", "qty": "many"}, 422, "Invalid input is rejected as well."),
    Act("customer", "SubmitCart"),
    Act("manager", "ConfirmOrder", {"manager": "Ada", "amount": 31.5}),
    Act("cook", "StartCooking", remark="A separate thread waits for the payment and does not block the others."),
    Act("customer", "Pay", {"amount": 20}),
    Act("cook", "FinishCooking"),
    Act("delivery", "TakeDelivery", {"courier": "Grace"}),
    Act("delivery", "Deliver"),
    Act("customer", "Pay", {"amount": 11.5}, remark="The last payment completes the order."),
)

_COLORS = {"customer": "cyan", "manager": "magenta", "cook": "yellow", "delivery": "green"}


def play(url: str, console: Console) -> bool:
    """Plays all roles against the server at ``url``. Returns whether every response was as expected."""
    with httpx.Client(base_url=url, timeout=30) as client:
        if not _send(console, client, "customer", ORDER, None, 201):
            return False
        for act in ACTS:
            if act.remark:
                console.print(f"\n[dim]{act.remark}[/dim]")
            if not _send(console, client, act.role, f"{ORDER}/{act.event}", act.input, act.expected):
                return False
            _show_position(console, client.get(ORDER).json())
        return _show_end(console, client)


def _send(console: Console, client: httpx.Client, role: str, path: str, input: Any, expected: int) -> bool:
    body = "" if input is None else json.dumps(input)
    response = client.post(path, content=body)
    color = _COLORS[role]
    console.print(f"\n[bold {color}]{role:>8}[/]  POST {path}  {body}", highlight=False)
    answer = response.text if len(response.text) <= 200 else response.text[:200] + "..."
    if response.is_error:
        problem = response.json()
        answer = problem["detail"]
    good = response.status_code == expected
    mark = "[green]as expected[/]" if good else f"[red]expected {expected}[/]"
    console.print(f"{'':>8}  {response.status_code} {mark}  ", end="")
    console.print(answer, markup=False, highlight=False)
    return good


def _show_position(console: Console, instance: dict[str, Any]) -> None:
    for thread in instance["meta"]["threads"]:
        accepted = ", ".join(e["name"] for e in instance["events"] if e["thread"] == thread["id"])
        console.print(f"{'':>8}  [dim]{thread['name']}[/] is at [bold]{thread['step']}[/]", end="", highlight=False)
        console.print(f"[dim]{f', accepts {accepted}' if accepted else ''}[/]", highlight=False)


def _show_end(console: Console, client: httpx.Client) -> bool:
    until = time.monotonic() + FINISH_S_MAX
    instance = client.get(ORDER).json()
    while instance["meta"]["status"] != "finished" and time.monotonic() < until:
        time.sleep(0.05)
        instance = client.get(ORDER).json()
    state, status = instance["state"], instance["meta"]["status"]
    console.rule()
    console.print(f"The order is [bold]{state['status']}[/], the workflow [bold]{status}[/]; its fields:")
    console.print_json(data=state)
    return bool(status == "finished" and state["status"] == "completed")
