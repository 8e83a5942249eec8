"""``gorchestrate demo``: orders a pizza over real HTTP, through every role, and shows each response."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console

from cloud_adapter.http.authenticators.dev import DEV_HEADER

ORDER = "/wf/pizza/order-1"
PAGE = "/ui/pizza/instances/order-1"
FINISH_S_MAX = 30


@dataclass(frozen=True, slots=True)
class Act:
    """An event that one role sends, and the expected status.

    Attributes:
        with_users: whether the expected status depends on who sends it.
    """

    role: str
    event: str
    input: Any = None
    expected: int = 200
    remark: str = ""
    with_users: bool = False


ACTS = (
    Act("customer", "AddToCart", {"name": "margherita", "qty": 2}),
    Act("customer", "AddToCart", {"name": "quattro stagioni"}),
    Act("cook", "StartCooking", expected=409, remark="The order is not submitted yet, so this event is rejected."),
    Act("customer", "AddToCart", {"name": "funghi", "qty": "many"}, 422, "Invalid input is rejected as well."),
    Act("customer", "SubmitCart"),
    Act(
        "cook", "ConfirmOrder", {"manager": "Joe", "amount": 1}, 403, "Only a manager confirms orders.", with_users=True
    ),
    Act("manager", "ConfirmOrder", {"manager": "Ada", "amount": 31.5}),
    Act("cook", "StartCooking", remark="A separate thread waits for the payment and does not block the others."),
    Act("customer", "Pay", {"amount": 20}),
    Act("cook", "FinishCooking"),
    Act("delivery", "TakeDelivery", {"courier": "Grace"}),
    Act("delivery", "Deliver"),
    Act("customer", "Pay", {"amount": 11.5}, remark="The last payment completes the order."),
)

USERS = {"customer": "ann", "manager": "ada", "cook": "joe", "delivery": "grace"}
"""The user with each role."""
OTHER_CUSTOMER = "ben"

_SHOP = {DEV_HEADER: f"shop; roles={','.join(USERS)}"}
"""Who looks at the order. An operator sees its threads, and who has all roles all events."""

_COLORS = {"customer": "cyan", "manager": "magenta", "cook": "yellow", "delivery": "green"}


def play(url: str, console: Console, *, with_users: bool) -> bool:
    """Plays all roles against the server at ``url``. Returns whether every response was as expected.

    Args:
        with_users: whether the server knows users from ``X-Dev-User``. If not, everyone may do everything.
    """
    with httpx.Client(base_url=url, timeout=30) as client:
        if with_users:
            users = ", ".join(f"{name} is the {role}" for role, name in USERS.items())
            console.print(f"Users: {users}.".replace("the delivery", "the courier"), highlight=False)
        if not _send(console, client, "customer", ORDER, None, 201):
            served = ", ".join(url.rpartition("/")[2] for url in client.get("/").json()["workflows"])
            console.print(f"The demo is for the sample workflow 'pizza'. Served here: {served}", markup=False)
            return False
        for act in ACTS:
            if act.with_users and not with_users:
                continue
            if act.remark:
                console.print(f"\n[dim]{act.remark}[/dim]")
            if not _send(console, client, act.role, f"{ORDER}/{act.event}", act.input, act.expected):
                return False
            if not act.with_users:
                _show_position(console, client.get(ORDER, headers=_SHOP).json())
        return _show_end(console, client) and (not with_users or _show_stranger(console, client))


def _send(console: Console, client: httpx.Client, role: str, path: str, input: Any, expected: int) -> bool:
    body = "" if input is None else json.dumps(input)
    response = client.post(path, content=body, headers={DEV_HEADER: f"{USERS[role]}; roles={role}"})
    return _show(console, role, f"POST {path}  {body}", response, expected)


def _show(console: Console, role: str, request: str, response: httpx.Response, expected: int) -> bool:
    color = _COLORS[role]
    console.print(f"\n[bold {color}]{role:>8}[/]  {request}", highlight=False)
    answer = response.text if len(response.text) <= 200 else response.text[:200] + "..."
    if response.is_error:
        problem = response.json()
        answer = problem["detail"]
    good = response.status_code == expected
    mark = "[green]as expected[/]" if good else f"[red]expected {expected}[/]"
    console.print(f"{'':>8}  {response.status_code} {mark}  ", end="")
    console.print(answer, markup=False, highlight=False)
    return good


def _show_stranger(console: Console, client: httpx.Client) -> bool:
    """Shows that an order exists only for its customer and for the shop."""
    console.print(f"\n[dim]For {OTHER_CUSTOMER}, another customer, the order does not exist.[/dim]", highlight=False)
    response = client.get(ORDER, headers={DEV_HEADER: f"{OTHER_CUSTOMER}; roles=customer"})
    return _show(console, "customer", f"GET {ORDER}", response, 404)


def _show_position(console: Console, instance: dict[str, Any]) -> None:
    for thread in instance["meta"]["threads"]:
        accepted = ", ".join(e["name"] for e in instance["events"] if e["thread"] == thread["id"])
        console.print(f"{'':>8}  [dim]{thread['name']}[/] is at [bold]{thread['step']}[/]", end="", highlight=False)
        console.print(f"[dim]{f', accepts {accepted}' if accepted else ''}[/]", highlight=False)


def _show_end(console: Console, client: httpx.Client) -> bool:
    until = time.monotonic() + FINISH_S_MAX
    instance = client.get(ORDER, headers=_SHOP).json()
    while instance["meta"]["status"] != "finished" and time.monotonic() < until:
        time.sleep(0.05)
        instance = client.get(ORDER, headers=_SHOP).json()
    state, status = instance["state"], instance["meta"]["status"]
    console.rule()
    console.print(f"The order is [bold]{state['status']}[/], the workflow [bold]{status}[/]; its fields:")
    console.print_json(data=state)
    return bool(status == "finished" and state["status"] == "completed")
