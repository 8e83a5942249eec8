"""The files that are no code of the package: templates of projects, examples, the sample that ``demo`` runs, and the
deployment scripts.

In the repository, they lie at the top. A wheel has them in the package ``gorchestrate``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_REPOSITORY = Path(__file__).parents[2]
_PACKAGE = _REPOSITORY / "gorchestrate"


def _folder(in_wheel: str, in_repository: str) -> Path:
    packaged = _PACKAGE / in_wheel
    return packaged if packaged.is_dir() else _REPOSITORY / in_repository


TEMPLATES: Final = _PACKAGE / "templates"
EXAMPLES: Final = _folder("examples", "examples")
SAMPLE: Final = _folder("sample", "functions") / "main.py"
"""The pizza shop's order."""

DEPLOY: Final = _folder("deploy", "deploy")
