"""The forms on an instance's page: one for each event that it accepts, and one for each thing an operator can do.

A card says for what it was made, and how it is posted; it sends nothing.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cloud_adapter.engine.operations import ACTIONS, Action
from cloud_adapter.engine.view import View
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.pages.form_fields import Field
from cloud_adapter.http.pages.forms import Form
from workflow_core.execution import MAIN_THREAD
from workflow_core.program.program import Program, SelectCase


@dataclass(slots=True)
class Card:
    """A form of its own, with a button that sends it.

    Attributes:
        id: the same each time the same form is made.
        kind: ``event``, ``operation`` or ``new``.
        name: of the event or the action.
        place: where the event is waited for, in words.
        hidden: what is posted beside the fields.
        form: its fields; None if there are none.
        message: why it was not sent, as far as no field is to blame.
        is_open: whether it shows more than its name.
        gone: it can no longer be sent.
        posted: it shows what was filled in.
        focus: the id of the field at which one goes on.
    """

    id: str
    kind: str
    name: str
    title: str
    button: str
    text: str = ""
    role: str = ""
    place: str = ""
    hidden: dict[str, str] = field(default_factory=dict)
    form: Form | None = None
    message: str = ""
    is_open: bool = True
    gone: bool = False
    posted: bool = False
    focus: str = ""

    @property
    def errors(self) -> list[tuple[Field, str]]:
        """What is wrong with its fields."""
        return [] if self.form is None else self.form.errors()

    @property
    def failed(self) -> bool:
        """Whether it was sent and refused."""
        return bool(self.message or self.errors)

    def renew(self) -> None:
        """Makes it another request than the one that was made with it."""
        self.hidden["key"] = secrets.token_urlsafe(16)


def event_cards(view: View) -> list[Card]:
    """A card for each event that an instance accepts now."""
    return [_event_card(one.thread.id, one.thread.step, one.wait_id, one.case) for one in view.accepted]


def posted_event(program: Program, data: Mapping[str, str]) -> Card:
    """The card of an event as it was posted, whether or not the event is accepted now.

    Raises:
        InvalidRequest: no page has posted it.
    """
    event, select = data.get("event", ""), data.get("select", "")
    case = next((case for name, case in program.events.get(event, ()) if name == select), None)
    if case is None:
        raise InvalidRequest(f"there is no event {event!r} at {select!r}: load the page again")
    card = _event_card(data.get("thread", ""), select, data.get("wait_id", ""), case, data)
    card.hidden["key"] = data.get("key") or card.hidden["key"]
    card.posted = True
    return card


def operation_cards(view: View) -> list[Card]:
    """A card for each thing that an operator can do with an instance as it is."""
    if view.problem:
        return []
    # In reverse, so that cancel, which cannot be undone, comes last.
    return [_operation_card(kind) for kind in reversed(ACTIONS.values()) if kind.is_offered(view.instance.execution)]


def posted_operation(data: Mapping[str, str]) -> Card:
    """The card of an operation as it was posted.

    Raises:
        InvalidRequest: there is no such operation.
    """
    name = data.get("operation", "")
    if name not in ACTIONS:
        raise InvalidRequest(f"unknown operation {name!r}. Available: {', '.join(ACTIONS)}")
    card = _operation_card(ACTIONS[name], data)
    card.is_open = card.posted = True
    return card


def new_card(schema: dict[str, Any], data: Mapping[str, str] | None = None) -> Card:
    """The card for the first fields of an instance."""
    card = Card("new", "new", "new", "First fields", "Create", form=Form(schema, data))
    card.renew()
    if data is not None:
        card.hidden["key"] = data.get("key") or card.hidden["key"]
    return card


def _event_card(
    thread: str, select: str, wait_id: str, case: SelectCase, data: Mapping[str, str] | None = None
) -> Card:
    assert case.signature is not None
    schema = case.signature.input_schema
    digest = hashlib.sha256(json.dumps([thread, select, case.event, schema]).encode()).hexdigest()
    card = Card(
        f"card-{digest[:12]}",
        "event",
        case.event,
        case.event,
        f"Send {case.event}",
        text=_described(case.handler),
        role=case.role or "",
        place=select if thread == MAIN_THREAD else f"{select} (thread {thread})",
        hidden={"event": case.event, "select": select, "thread": thread, "wait_id": wait_id},
        form=None if schema is None else Form(schema, data),
    )
    card.renew()
    return card


def _operation_card(kind: type[Action], data: Mapping[str, str] | None = None) -> Card:
    return Card(
        f"card-{kind.name}",
        "operation",
        kind.name,
        kind.title,
        kind.button,
        kind.confirmation,
        hidden={"operation": kind.name},
        form=Form(_arguments_schema(kind), data),
        is_open=False,
    )


@cache
def _arguments_schema(kind: type[Action]) -> dict[str, Any]:
    """The schema of an action's form: its own arguments, then who asks and why."""
    schema = kind.model_json_schema()
    properties = {name: schema["properties"][name] for name in (*kind.arguments(), "by", "reason")}
    kept = {key: schema[key] for key in ("$defs", "required") if key in schema}
    return {"type": "object", "properties": properties} | kept


def _described(function: Any) -> str:
    text = getattr(function, "__doc__", None)
    return inspect.cleandoc(text) if text and getattr(function, "__name__", "") != "<lambda>" else ""
