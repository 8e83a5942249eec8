"""Signatures and docstrings as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WIDTH = 88
"""The columns of a signature. Longer ones have a line for each parameter."""


def markdown(text: str) -> str:
    """Code of a docstring as code of Markdown, in one line."""
    text = re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))
    return re.sub(r"`docs/([\w/-]+\.md)`", lambda match: f"[{Path(match[1]).name}](../{match[1]})", text)


def cell(text: str) -> str:
    """The text for a cell of a table."""
    return text.replace("|", "\\|")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    text = "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)
    return re.sub(r"\| --- (?:\| --- )*\|", lambda match: match[0].replace(" ", ""), text, count=1)


def signature(name: str, of: Any) -> str:
    """The signature of a class or a function, as code."""
    parameters = list(inspect.signature(of).parameters.values())
    kinds = [parameter.kind for parameter in parameters]
    shown = [_parameter(parameter) for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    line = f"{name}({', '.join(shown)})"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in shown) + ")"
    return f"```text\n{line}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = parameter.annotation
    type_ = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    type_ = re.sub(r"Annotated\[(.+?), Field\(.*", r"\1", type_)
    text = f"{stars}{parameter.name}" + ("" if annotation is parameter.empty else f": {type_}")
    if parameter.default is parameter.empty:
        return text
    default = parameter.default
    if isinstance(default, type):
        value = default.__name__
    elif callable(default) or repr(default).startswith("<"):
        value = "..."
    else:
        value = repr(default).removeprefix("datetime.").replace("'", '"')
    return f"{text} = {value}"


def described(of: Any) -> str:
    """The docstring as Markdown: its paragraphs, and its arguments as a list. Examples of doctest are left out."""
    parts: list[str] = []
    for paragraph in (inspect.getdoc(of) or "").split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if head.startswith("Example"):
            break
        if head in ("Args:", "Attributes:", "Raises:"):
            items = re.split(r"\n(?=\S)", textwrap.dedent(rest))
            listed = "\n".join(_filled(_item(item), "* ") for item in items)
            parts.append(f"Raises:\n\n{listed}" if head == "Raises:" else listed)
        else:
            parts.append(_filled(markdown(paragraph)))
    return "\n\n".join(parts)


def _filled(text: str, mark: str = "") -> str:
    return textwrap.fill(
        text,
        120,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _item(item: str) -> str:
    name, colon, text = item.partition(": ")
    return f"`{name.strip()}`: {markdown(text)}" if colon else markdown(item)


def first_sentence(of: Any) -> str:
    paragraph = (inspect.getdoc(of) or "").partition("\n\n")[0]
    return markdown(paragraph)
