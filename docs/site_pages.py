"""What the pages of the site are: their order in mkdocs.yml, their titles, and where a public name is described."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from workflow_core import Statement, WorkflowError
from workflow_core.statements.basic import Part

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

KINDS = {
    "writing": "Workflow EventRejected Retry StepContext ActivityContext Selected EventHandler EventRequest "
    "WebhookRequest CreatedBy local named now section",
    "access": "ANONYMOUS ANYONE ANY_ROLE AUTHENTICATED EVERYONE Access Action Principal ApiKey Authenticator Dev Iap "
    "Login Oidc StoredKey claim",
    "serving": "Service EmbeddedRuntime CloudRuntime Settings JsonFormatter",
    "statements": "S Section Statement step activity event select until sleep timeout child gather parallel race go",
}
"""The public names in each part of the reference. Others are errors, statements, or belong to ``library``."""


def _texts_of_constants() -> dict[str, str]:
    """The texts below the constants of the modules that define them."""
    found = {}
    for file in ("access.py", "principal.py"):
        body = ast.parse((ROOT / "workflow_core" / file).read_text()).body
        for constant, text in pairwise(body):
            if (
                isinstance(constant, ast.AnnAssign)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                assert isinstance(constant.target, ast.Name)
                found[constant.target.id] = " ".join(str(text.value.value).replace("``", "`").split())
    return found


CONSTANTS = _texts_of_constants()
"""The descriptions of public constants."""


def kind_of(name: str, value: Any) -> str:
    """The part of the reference that describes a public name."""
    for kind, names in KINDS.items():
        if name in names.split():
            return kind
    if isinstance(value, type) and issubclass(value, WorkflowError):
        return "errors"
    if isinstance(value, type) and issubclass(value, Statement | Part):
        return "statements"
    return "library"


def nav() -> Iterator[tuple[int, str]]:
    """The lines of the navigation: how deep, and a heading or the path of a page."""
    text = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    for indent, entry in re.findall(r"^( *)- (.+)$", text, re.MULTILINE):
        yield len(indent) // 4, entry.rstrip(":").rpartition(": ")[2]


def source(page: str) -> Path:
    """The file of a page of the site."""
    path = DOCS / page
    return path if path.exists() else ROOT / page


def llms() -> str:
    """The index of the pages for language models, by the convention of llms.txt."""
    lines = ["# gorchestrate", "", f"> {_summary(DOCS / 'index.md')}"]
    for _, entry in nav():
        if entry.endswith(".md"):
            path = source(entry)
            if entry != "index.md":
                lines.append(f"- [{title(path)}]({entry}): {_summary(path)}".removesuffix(": "))
        else:
            lines += ["", f"## {entry}", ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def title(path: Path) -> str:
    """The heading of a page."""
    match = re.search(r"^# (.+)$", path.read_text(), re.MULTILINE)
    assert match, f"{path} has no heading"
    return match[1].replace("`", "")


def _summary(path: Path) -> str:
    """The first sentences of a page, up to 200 characters."""
    body = re.sub(r"^# .+$", "", path.read_text(), count=1, flags=re.MULTILINE)
    body = re.sub(r"<!--.*?-->|^```.*?^```", "", body, flags=re.DOTALL | re.MULTILINE)
    paragraphs = (" ".join(part.split()) for part in body.split("\n\n"))
    text = next((part for part in paragraphs if part and part[0] not in "#|<*-"), "")
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    sentences = re.split(r"(?<=[.:])\s", text)
    summary = sentences[0]
    for sentence in sentences[1:]:
        if len(summary) + len(sentence) > 200:
            break
        summary += f" {sentence}"
    return summary.rstrip(":")
