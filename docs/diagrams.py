"""Draws the workflows of examples/, with the renderer of gorchestrate: examples/diagrams.md and examples/images/.

python docs/diagrams.py
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

sys.path[:0] = [str(ROOT), str(EXAMPLES)]

from workflow_core import Workflow  # noqa: E402
from workflow_core.diagrams import svg  # noqa: E402

NAMES = ("expense", "subscription", "trip", "order", "agent", "batch", "large_batch", "webhook")

HEAD = """# Diagrams of the examples

`gorchestrate graph` draws them from the code. This page is generated: run `python docs/diagrams.py`.
"""


def drawn() -> dict[Path, str]:
    """Returns the page and its images, by their paths."""
    files, parts = {}, [HEAD]
    for name in NAMES:
        module = importlib.import_module(name)
        title = name.replace("_", " ").capitalize()
        about = (inspect.getdoc(module) or "").partition("\n")[0]
        parts.append(f"## {title}\n\n{about} Source: [{name}.py]({name}.py).\n")
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, Workflow) and cls.__module__ == name:
                workflow = cls.__workflow_name__
                files[EXAMPLES / "images" / f"{workflow}.svg"] = svg.draw(cls.__program__)
                parts.append(f"![The statements of {workflow}](images/{workflow}.svg)\n")
    return {EXAMPLES / "diagrams.md": "\n".join(parts)} | files


if __name__ == "__main__":
    for path, text in drawn().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
