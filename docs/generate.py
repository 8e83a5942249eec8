"""Writes the parts of docs/reference/ that come from the code, the diagrams of its examples, and docs/llms.txt.

python docs/generate.py

A part stands between two markers, ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``. The rest of a page is written by
hand.
"""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import sys
import tempfile
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
DIAGRAMS = DOCS / "images" / "statements"

sys.path[:0] = [str(ROOT), str(ROOT / "functions"), str(DOCS)]

import site_pages  # noqa: E402
from docstrings import described, first_sentence, markdown, signature, table  # noqa: E402

import gorchestrate  # noqa: E402
import gorchestrate.testing  # noqa: E402
from cloud_adapter.cli.main import app  # noqa: E402
from cloud_adapter.http.graphs import Format, draw  # noqa: E402
from cloud_adapter.http.problems import STATUS, _title, document  # noqa: E402
from cloud_adapter.observability import otel  # noqa: E402
from cloud_adapter.settings import Settings  # noqa: E402
from cloud_adapter.variables import PREFIX  # noqa: E402
from workflow_core import Workflow, WorkflowError  # noqa: E402

NO_SIGNATURE = ("Workflow", "Settings", "JsonFormatter", "EventRejected")
WITH_MEMBERS = ("Workflow", "Service", "EmbeddedRuntime", "CloudRuntime", "Execution", "StepContext", "ActivityContext")
"""The classes whose methods and properties are listed."""

ATTRIBUTES: Mapping[str, str] = {
    "gorchestrate.events": "workflow, event, outcome",
    "gorchestrate.attempt.duration": "workflow, kind (*step*, *activity*, *setup*, ...), statement, outcome",
    "gorchestrate.task.lateness": "task (*resume*, *timeout*, *deliver*)",
    "gorchestrate.instances.started": "workflow",
    "gorchestrate.instances.ended": "workflow, status",
    "gorchestrate.commit.conflicts": "workflow",
    "gorchestrate.busy.waits": "workflow",
}
"""The attributes of each metric, without their prefix."""

SEE: Mapping[str, str] = {
    "db_url": "[PostgreSQL](../guides/postgresql.md)",
    "log_level": "[logs](../guides/observability.md#logs)",
    "rate_limit": "[limits for each caller](../explanation/security.md#limits-for-each-caller)",
    "access": "[authenticators](../guides/identity.md)",
    "callback_keys": "[callback URLs](../guides/identity.md#what-outside-systems-send)",
    "secret_keys": "[secrets at rest](../guides/secrets.md)",
    "session_keys": "[login to the pages](../guides/identity.md#the-pages)",
    "lazy_timer_seconds": "[what an operation costs](../explanation/scale.md#what-an-operation-costs)",
    "queues": "[several queues](../explanation/scale.md#several-queues)",
    "index_shards": "[shards](../explanation/scale.md#shards)",
}
"""The page about a setting."""


# --- the parts -----------------------------------------------------------------------------------


def statement(words: str) -> str:
    """The reference of a statement: of its function or decorator in ``async def run``, and of its class."""
    plain, _, explicit = words.partition(" ")
    parts = []
    for name, what in ((plain, "In an `async def run`"), (explicit, "In the explicit form")):
        for each in filter(None, name.split("+")):
            if each == "-":
                continue
            of = getattr(gorchestrate, each)
            mark = "@" if each in ("step", "activity", "event", "section") else ""
            shown = f"```text\n@{each}\n```" if mark else signature(each, of)
            parts.append(f"{what}:\n\n{shown}\n\n{described(of)}")
    return "\n\n".join(parts)


def settings() -> str:
    """The table of settings, with their docstrings."""
    own = [cls for cls in reversed(Settings.__mro__) if cls.__module__.startswith("cloud_adapter.")]
    texts = {name: text for cls in own for name, text in _docstrings(cls)}
    rows = []
    ordered = sorted(Settings.model_fields.items(), key=lambda item: item[0] not in Settings.__annotations__)
    for name, field in ordered:
        text = re.sub(
            r"`(\w+)`",
            lambda match: f"`{PREFIX}{match[1].upper()}`" if match[1] in texts else match[0],
            markdown(texts[name]),
        )
        see = f" See {SEE[name]}." if name in SEE else ""
        default = "" if field.default == () or not str(field.default).strip("*") else f"`{field.default}`"
        rows.append((f"`{PREFIX}{name.upper()}`", default, text + see))
    return table(("variable", "default", "what it sets"), rows)


def _docstrings(cls: type) -> Iterator[tuple[str, str]]:
    """The names of the fields of a class, each with the text below it."""
    (body,) = [node for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef)]
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            yield field.target.id, inspect.cleandoc(str(text.value.value))


def commands() -> str:
    """Each command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    shared = set.intersection(*(_options(command) for name, command in group.commands.items() if name in _CALLERS))
    parts = []
    for name, command in group.commands.items():
        parameters = [p for p in command.params if name not in _CALLERS or _option(p) not in shared]
        rows = [(f"`{_option(p)}`", _default(p), markdown(p.help)) for p in parameters]
        called = " ".join(
            ["gorchestrate", name, *(_usage(p) for p in command.params if p.param_type_name == "argument")]
        )
        more = "\n\n" + table(("argument or option", "default", "what it is"), rows) if rows else ""
        parts.append(f"### {name}\n\n`{called}`\n\n{markdown_paragraphs(command.help)}{more}")
    rows = [
        (f"`{_option(p)}`", _default(p), markdown(p.help))
        for p in group.commands["show"].params
        if _option(p) in shared
    ]
    return (
        "\n\n".join(parts)
        + "\n\n### Options of all commands on instances\n\n"
        + table(("option", "default", "what it is"), rows)
    )


_CALLERS = ("ls", "show", "history", "start", "send", "cancel", "terminate", "pause", "unpause", "retry", "goto", "set")


def _option(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return ", ".join(parameter.opts)


def _options(command: Any) -> set[str]:
    return {_option(p) for p in command.params if p.param_type_name == "option"}


def _usage(parameter: Any) -> str:
    text = _option(parameter)
    return text if parameter.required or text.startswith("[") else f"[{text}]"


def _default(parameter: Any) -> str:
    default = parameter.default
    if default is None or callable(default) or default is False or default == "" or isinstance(default, Path):
        default = ""
    shown = f"`{getattr(default, 'value', default)}`" if default != "" else ""
    variable = f"`{parameter.envvar}`" if getattr(parameter, "envvar", None) else ""
    return ", or ".join(filter(None, (variable, shown)))


def markdown_paragraphs(text: str) -> str:
    return "\n\n".join(map(markdown, text.split("\n\n")))


def problems() -> str:
    """The table of the errors that the API answers with."""
    rows = []
    for error, status in STATUS.items():
        kind = document(status, _title(error), "")["type"]
        rows.append((str(status), f"`{kind}`", first_sentence(error)))
    return table(("status", "type", "meaning"), rows)


def python_errors() -> str:
    """The table of the public classes of errors."""
    rows = []
    for name in sorted(_public()):
        value = getattr(gorchestrate, name)
        if isinstance(value, type) and issubclass(value, WorkflowError):
            bases = [f"`{base.__name__}`" for base in value.__bases__ if base is not Exception]
            rows.append(
                (
                    f"`{name}`",
                    ", ".join(bases),
                    str(STATUS.get(value, "")),
                    first_sentence(value),
                )
            )
    return table(("error", "is a", "status", "meaning"), rows)


def _public() -> list[str]:
    return list(gorchestrate.__all__)


def metrics() -> str:
    """The table of the metrics, from what the code creates."""

    class Meter:
        def __init__(self) -> None:
            self.rows: list[tuple[str, ...]] = []

        def create_counter(self, name: str, unit: str, description: str) -> None:
            self.rows.append((f"`{name}`", "counter", f"`{unit}`", ATTRIBUTES[name], description))

        def create_histogram(self, name: str, unit: str, description: str, **_: Any) -> None:
            self.rows.append((f"`{name}`", "histogram", f"`{unit}`", ATTRIBUTES[name], description))

    meter: Any = Meter()
    otel.Instruments(meter)
    return table(("metric", "kind", "unit", "attributes", "what it counts or measures"), sorted(meter.rows))


def names(which: str) -> str:
    """The public names of a kind: signature and docstring."""
    parts = []
    for name in sorted(_public()):
        value = getattr(gorchestrate, name)
        if site_pages.kind_of(name, value) != which:
            continue
        text = site_pages.CONSTANTS.get(name) or described(value)
        members = _methods(value) if name in WITH_MEMBERS or getattr(value, "_is_protocol", False) else ""
        parts.append("\n\n".join(filter(None, (f"### {name}", _shown(name, value), text, members))))
    if which == "testing":
        for name in gorchestrate.testing.__all__:
            value = getattr(gorchestrate.testing, name)
            parts.append(
                f"### testing.{name}\n\n{_shown(name, value)}\n\n{described(value)}\n\n{_methods(value)}".rstrip()
            )
    return "\n\n".join(parts)


def _methods(cls: Any) -> str:
    rows = []
    for name, member in vars(cls).items() if isinstance(cls, type) else ():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)) and inspect.getdoc(member):
            of = member.fget if isinstance(member, property) else member
            called = name if isinstance(member, property) else f"{name}(...)"
            rows.append((f"`{called}`", first_sentence(of)))
    return table(("member", "what it is"), rows) if rows else ""


def _shown(name: str, value: Any) -> str:
    if isinstance(value, type) and issubclass(value, Enum):
        return f"One of {', '.join(f'`{member.value}`' for member in value)}."
    if not callable(value):
        return f"`{name} = {value!r}`" if isinstance(value, str) else ""
    if name in NO_SIGNATURE or getattr(value, "_is_protocol", False):
        return ""
    try:
        return signature(name, value)
    except (TypeError, ValueError):
        return ""


# --- writing -------------------------------------------------------------------------------------

PARTS = {"settings": settings, "commands": commands, "problems": problems, "errors": python_errors, "metrics": metrics}


def part(name: str) -> str:
    kind, _, words = name.partition(" ")
    if kind == "statement":
        return statement(words)
    return names(words) if kind == "names" else PARTS[kind]()


def written(page: str) -> str:
    """The page with its parts of today."""
    return re.sub(
        r"<!-- begin: (.+?) -->\n.*?<!-- end: \1 -->",
        lambda match: f"<!-- begin: {match[1]} -->\n\n{part(match[1])}\n\n<!-- end: {match[1]} -->",
        page,
        flags=re.DOTALL,
    )


def diagrams(page: str) -> dict[str, str]:
    """The file names and the texts of the diagrams: one for each workflow that the blocks of a page define."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "statements_md.py"
        source.write_text(code)
        values = runpy.run_path(str(source), run_name="statements_md").values()
        found = [
            value
            for value in values
            if isinstance(value, type) and issubclass(value, Workflow) and value is not Workflow
        ]
        return {f"{cls.__workflow_name__}.svg": draw(cls.__program__, Format.SVG).rstrip("\n") + "\n" for cls in found}


def files() -> dict[Path, str]:
    """Everything that this program writes."""
    texts = {
        path: written(path.read_text())
        for path in sorted(DOCS.rglob("*.md"))
        if "<!-- begin: " in path.read_text() and path.stem != "performance"
    }
    texts |= {DIAGRAMS / name: text for name, text in diagrams((REFERENCE / "statements.md").read_text()).items()}
    texts[DOCS / "llms.txt"] = site_pages.llms()
    return texts


if __name__ == "__main__":
    DIAGRAMS.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
