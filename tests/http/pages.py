"""Reads the forms of a page as a browser without scripts would post them. Holds no test."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class PageForm:
    """A form: its target, the values that it posts unchanged, and its buttons with their texts and values."""

    action: str
    method: str
    data: list[tuple[str, str]] = field(default_factory=list)
    buttons: dict[str, tuple[str, str]] = field(default_factory=dict)

    def posted(self, button: str = "", **filled: str) -> dict[str, str]:
        """What is posted when that button is pressed, or the first one. ``filled`` is what was typed; for ``/`` in the
        name of a control write ``__``."""
        name, value = self.buttons[button] if button else next(iter(self.buttons.values()))
        data = dict(self.data) | {key.replace("__", "/"): text for key, text in filled.items()} | {name: value}
        return {key: text.replace("\n", "\r\n") for key, text in data.items()}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[PageForm] = []
        self.select: tuple[str, list[tuple[str, bool]]] | None = None
        self.area: tuple[str, str] | None = None
        self.button: tuple[str, str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(PageForm(given.get("action", ""), given.get("method", "get")))
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self.forms[-1].data.append((given["name"], given.get("value", "")))
        elif tag == "select":
            self.select = (given["name"], [])
        elif tag == "option" and self.select is not None:
            self.select[1].append((given["value"], "selected" in given))
        elif tag == "textarea":
            self.area = (given["name"], "")
        elif tag == "button" and "disabled" not in given:
            self.button = (given.get("name", ""), given.get("value", ""), "")

    def handle_data(self, data: str) -> None:
        if self.area is not None:
            self.area = (self.area[0], self.area[1] + data)
        if self.button is not None:
            self.button = (*self.button[:2], self.button[2] + data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self.select is not None:
            name, options = self.select
            if options:
                self.forms[-1].data.append((name, next((one for one, chosen in options if chosen), options[0][0])))
            self.select = None
        elif tag == "textarea" and self.area is not None:
            name, text = self.area
            self.forms[-1].data.append((name, text.removeprefix("\n")))  # a line break at the start is no part of it
            self.area = None
        elif tag == "button" and self.button is not None:
            name, value, text = self.button
            self.forms[-1].buttons[text] = (name, value)
            self.button = None


def forms(html: str) -> list[PageForm]:
    """All forms of a page, without the one in its header."""
    reader = _Reader()
    reader.feed(html.partition("</header>")[2] or html)
    return reader.forms


def form(html: str, button: str) -> PageForm:
    """The form that has a button of that text."""
    (found,) = [one for one in forms(html) if button in one.buttons]
    return found
