"""``gorchestrate new``: makes a project from a template: a workflow, its test, and the entry points of a deployment.

The files of a template have ``.txt`` added to their names. The workflows of most templates are examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Final

from cloud_adapter.cli.packaged_files import DEPLOY, EXAMPLES, TEMPLATES
from cloud_adapter.errors import InvalidRequest

_COMMON: Final = {
    "main.py": "main.py.txt",
    "requirements.txt": "requirements.txt.txt",
    "pytest.ini": "pytest.ini.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
    ".gcloudignore": "gcloudignore.txt",
}


_SETTINGS: Final = {
    "The settings of deploy.sh and teardown.sh. Copy this file to deploy/settings.env. PROJECT": (
        "The settings of `gorchestrate deploy`. Names such as docs/guides/identity.md and deploy/README.md are those\n"
        "# of files in the repository of gorchestrate. PROJECT"
    ),
    ", or to the repository if this file is in deploy/": "",
    "\nSOURCE=functions\n": "\nSOURCE=.\n",
}
"""What differs in the settings of a project from those of the repository: each text, and its replacement."""


class TemplateName(StrEnum):
    """A template of a project."""

    APPROVAL = "approval"
    ORDER = "order"
    AGENT = "agent"
    BATCH = "batch"


@dataclass(frozen=True)
class _Project:
    """What a template consists of.

    Attributes:
        title: what it is about.
        classes: the workflows to serve, as ``main.py`` lists them.
        body: initial fields for the first instance, as JSON.
        event: the path of an event that the first instance or its child waits for, and its input as JSON; None if it
            waits for no event.
        examples: the files that are examples.
    """

    title: str
    classes: str
    body: str
    event: tuple[str, str] | None
    examples: tuple[str, ...] = ()


_PROJECTS: Final = {
    TemplateName.APPROVAL: _Project(
        "An approval",
        "Approval",
        '{"title": "a new laptop", "asked_by": "ann"}',
        ("approval/first/approve", '"the old one is broken"'),
    ),
    TemplateName.ORDER: _Project(
        "An order with several parcels",
        "Order, Parcel",
        '{"number": "A7", "price": 120, "items": {"Wien": ["lamp"]}}',
        ("parcel/A7-Wien/hand_over", '"ann"'),
        ("order.py", "services.py"),
    ),
    TemplateName.AGENT: _Project(
        "An agent that a person can interrupt",
        "Agent",
        '{"messages": [{"by": "person", "text": "clean up"}]}',
        ("agent/first/allow", "true"),
        ("agent.py", "services.py"),
    ),
    TemplateName.BATCH: _Project(
        "A batch of many rows", "Batch", '{"rows": ["1", "2", "x"]}', None, ("batch.py", "services.py")
    ),
}


def create(directory: Path, template: TemplateName) -> list[Path]:
    """Creates a project. Returns its files.

    Raises:
        InvalidRequest: the directory exists and is not empty, or cannot be written. Nothing was changed.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidRequest(f"{directory} exists and is not empty: choose another directory")
    texts = _texts(template)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot write to {directory}: {error.strerror}") from error
    return [directory / name for name in texts]


def _texts(template: TemplateName) -> dict[str, str]:
    project, module = _PROJECTS[template], str(template)
    own = {f"{module}.py": TEMPLATES / module / f"{module}.py.txt"} if not project.examples else {}
    files = {
        **own,
        **{name: EXAMPLES / name for name in project.examples},
        f"test_{module}.py": TEMPLATES / module / f"test_{module}.py.txt",
        **{name: TEMPLATES / "common" / file for name, file in _COMMON.items()},
        "deploy.env": DEPLOY / "settings.env.example",
    }
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    values = {
        "title": project.title,
        "module": module,
        "workflow": module,
        "classes": project.classes,
        "body": f" --json '{project.body}'",
        "event": _event(project),
        "version": version("gorchestrate"),
    }
    texts |= {name: Template(texts[name]).substitute(values) for name in ("main.py", "README.md")}
    for old, new in _SETTINGS.items():
        texts["deploy.env"] = texts["deploy.env"].replace(old, new)
    return texts


def _event(project: _Project) -> str:
    """The part of the README about events."""
    if project.event is None:
        return "This workflow waits for no event. Look at the instance again to see its result."
    path, body = project.event
    return "\n".join(
        [
            "Send an event. The body of the request is the input of its handler itself, as JSON:",
            "",
            "```bash",
            f"curl -s -X POST http://127.0.0.1:8080/wf/{path} --json '{body}'",
            "```",
        ]
    )
