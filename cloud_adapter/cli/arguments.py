"""The arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from cloud_adapter.errors import SettingsError

LOCAL: Final = "127.0.0.1"
DEFAULT_SOURCES: Final = (Path("main.py"), Path("functions/main.py"))
STORE_HELP: Final = "A SQLite file, postgresql://USER@HOST/NAME, or PROJECT or PROJECT/DATABASE for Firestore."


def _default_source() -> Path:
    for path in DEFAULT_SOURCES:
        if path.is_file():
            return path
    raise SettingsError(
        f"neither {' nor '.join(map(str, DEFAULT_SOURCES))} is here: pass the Python file of your workflows, or run "
        "gorchestrate new"
    )


Source = Annotated[
    Path,
    typer.Argument(
        default_factory=_default_source,
        show_default="main.py, or else functions/main.py",
        help="The Python file that defines or imports the workflows.",
    ),
]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on; 0 selects a free port.", min=0, max=65535)]
Db = Annotated[
    str | None,
    typer.Option(help="The SQLite file, or the URL of a database. Defaults to GORCHESTRATE_DB or gorchestrate.db."),
]

Emulators = Annotated[
    bool,
    typer.Option(
        "--emulators",
        help="Run SOURCE's entry points api and worker as functions, on the Firestore and Cloud Tasks emulators.",
    ),
]
