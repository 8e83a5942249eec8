"""``gorchestrate demo``: orders a pizza over real HTTP, through every role, and shows each response."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console

from cloud_adapter.cli.demo_users import FORGER, MANAGER, OTHER_CUSTOMER, SENDERS, USERS, tokens
from cloud_adapter.errors import SettingsError
from cloud_adapter.token_issuer import TokenIssuer
from workflow_core import Workflow

WORKFLOW = "pizza"
ORDER = f"/wf/{WORKFLOW}/order-1"
PAGE = f"/ui/{WORKFLOW}/instances/order-1"
FINISH_S_MAX = 30


@dataclass(frozen=True, slots=True)
class Act:
    """An event that somebody sends, and the expected status.

    Attributes:
        event: the event; empty: the order is read.
        with_users: whether the expected status depends on who sends it.
        sender: who sends it, if that is not the usual user with the role.
    """

    role: str
    event: str
    input: Any = None
    expected: int = 200
    remark: str = ""
    with_users: bool = False
    sender: str = ""


ACTS = (
    Act("customer", "AddToCart", {"name": "margherita", "qty": 2}),
    Act("customer", "AddToCart", {"name": "quattro stagioni"}),
    Act(
        "customer",
        "",
        remark="Customers see and change only their own orders: for ben, that of ann does not exist.",
        with_users=True,
    ),
    Act("customer", "", expected=404, with_users=True, sender=OTHER_CUSTOMER),
    Act("customer", "EmptyCart", expected=404, with_users=True, sender=OTHER_CUSTOMER),
    Act(
        "customer",
        "EmptyCart",
        expected=401,
        remark="If ben writes ann's name into his token, its signature is wrong.",
        with_users=True,
        sender=FORGER,
    ),
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

_COLORS = {"customer": "cyan", "manager": "magenta", "cook": "yellow", "delivery": "green"}


def check(workflows: Collection[type[Workflow]]) -> None:
    """Checks that the sample workflow is among those that will be served.

    Raises:
        SettingsError: it is not.
    """
    names = [cls.__workflow_name__ for cls in workflows]
    if WORKFLOW not in names:
        raise SettingsError(f"the demo is for the sample workflow {WORKFLOW!r}. Served here: {', '.join(names)}")


def play(url: str, console: Console, issuer: TokenIssuer | None = None) -> bool:
    """Plays all roles against the server at ``url``. Returns whether every response was as expected.

    Args:
        issuer: issues the tokens of the users. If there is none, the server must be open to everyone.
    """
    with httpx.Client(base_url=url, timeout=30) as client:
        stage = _Stage(client, console, {} if issuer is None else tokens(issuer))
        if issuer is not None:
            console.print(f"Each user has a token of the issuer {issuer.url}, with these roles:", highlight=False)
            for name, roles in USERS.items():
                console.print(f"{name:>8}  {', '.join(roles)}", highlight=False)
        return stage.play()


@dataclass(frozen=True, slots=True)
class _Stage:
    """Sends what the roles do, and shows it.

    Attributes:
        tokens: the token of each user; empty if the server knows none.
    """

    client: httpx.Client
    console: Console
    tokens: Mapping[str, str]

    def play(self) -> bool:
        if not self._act(Act("customer", "", {}, 201)):
            return False
        for act in ACTS:
            if act.with_users and not self.tokens:
                continue
            if act.remark:
                self.console.print(f"\n[dim]{act.remark}[/dim]", highlight=False)
            if not self._act(act):
                return False
            if not act.with_users:
                self._show_position()
        return self._show_end()

    def _act(self, act: Act) -> bool:
        method = "POST" if act.event or act.input is not None else "GET"
        path = f"{ORDER}/{act.event}" if act.event else ORDER
        body = json.dumps(act.input) if act.input else ""
        headers = self._headers(act.sender or SENDERS[act.role])
        response = self.client.request(method, path, content=body, headers=headers)
        label = f"[bold {_COLORS[act.role]}]{act.sender or act.role:>8}[/]"
        self.console.print(f"\n{label}  {method} {path}  {body}", highlight=False)
        return self._show(response, act.expected)

    def _headers(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[user]}"} if self.tokens else {}

    def _show(self, response: httpx.Response, expected: int) -> bool:
        answer = response.text if len(response.text) <= 200 else response.text[:200] + "..."
        if response.is_error:
            answer = response.json()["detail"]
        good = response.status_code == expected
        mark = "[green]as expected[/]" if good else f"[red]expected {expected}[/]"
        self.console.print(f"{'':>8}  {response.status_code} {mark}  ", end="")
        self.console.print(answer, markup=False, highlight=False)
        return good

    def _order(self) -> Any:
        """The order as the manager sees it: as an operator, with its threads, and with all events."""
        return self.client.get(ORDER, headers=self._headers(MANAGER)).json()

    def _show_position(self) -> None:
        instance = self._order()
        for thread in instance["meta"]["threads"]:
            accepted = ", ".join(e["name"] for e in instance["events"] if e["thread"] == thread["id"])
            position = f"{'':>8}  [dim]{thread['name']}[/] is at [bold]{thread['step']}[/]"
            self.console.print(f"{position}[dim]{f', accepts {accepted}' if accepted else ''}[/]", highlight=False)

    def _show_end(self) -> bool:
        until = time.monotonic() + FINISH_S_MAX
        instance = self._order()
        while instance["meta"]["status"] != "finished" and time.monotonic() < until:
            time.sleep(0.05)
            instance = self._order()
        state, status = instance["state"], instance["meta"]["status"]
        self.console.rule()
        self.console.print(f"The order is [bold]{state['status']}[/], the workflow [bold]{status}[/]; its fields:")
        self.console.print_json(data=state)
        return bool(status == "finished" and state["status"] == "completed")
