"""Hooks of MkDocs: files outside of docs/ that the pages link to are part of the site.

The links in the pages are those of the repository, so that they work on GitHub too. GitHub draws the state diagrams.
The site shows them as tables, because it loads no program that draws them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "deploy/README.md"),
    *("examples/*.md", "examples/images/*.svg", "examples/peers/*.md"),
)
"""The pages and pictures outside of docs/ that the site contains, at the same path."""

LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[#)])|(?<=href=\")([^\"#]+)(?=[\"#])")

STATES = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Adds the files outside of docs/."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Replaces the links that cross the border of docs/ by those of the site, and adds the other files they lead to."""
    uri = page.file.src_uri
    outside = (ROOT / uri).is_file()

    def replaced(match: re.Match[str]) -> str:
        target = match[0]
        if ":" in target or target.startswith("/"):
            return target
        path = os.path.normpath(os.path.join(os.path.dirname(uri if outside else f"docs/{uri}"), target))
        path = path.removeprefix("docs/")
        if files.get_file_from_path(path) is None:
            source = ROOT / path
            if path.startswith("../") or path.endswith(".md") or not source.is_file():
                return target  # mkdocs warns: a page must be in OUTSIDE
            files.append(File.generated(config, path, abs_src_path=str(source)))
        return os.path.relpath(path, os.path.dirname(uri) or ".")

    return STATES.sub(_table_of_states, LINK.sub(replaced, markdown))


def _table_of_states(match: re.Match[str]) -> str:
    """The arrows of a state diagram as a table."""
    lines = ["| from | to | what happens |", "|---|---|---|"]
    for state, following, labels in re.findall(r"^ *(\S+) --> (\S+): (.+)$", match[1], re.MULTILINE):
        names = [{"[*]": "(none)"}.get(name, f"`{name}`") for name in (state, following)]
        lines.append(f"| {' | '.join(names)} | {labels.replace('<br/>', ', or ')} |")
    return "\n" + "\n".join(lines) + "\n"


def on_post_build(config: Any, **_: object) -> None:
    """Copies the Markdown of the pages beside them: the links of llms.txt lead there."""
    for entry in re.findall(r"\]\(([^)]+\.md)\)", (ROOT / "docs" / "llms.txt").read_text()):
        source = ROOT / "docs" / entry
        target = Path(config["site_dir"]) / entry
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((source if source.is_file() else ROOT / entry).read_text())
