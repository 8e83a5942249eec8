"""The commands ``deploy`` and ``teardown``: without ``--yes``, they only print what they would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cloud_adapter.cli import deployment

app = typer.Typer()

SettingsFile = Annotated[Path, typer.Argument(help="The settings of the deployment.")]
DEFAULT_SETTINGS = Path("deploy.env")


@app.command()
def deploy(
    settings: SettingsFile = DEFAULT_SETTINGS,
    yes: Annotated[bool, typer.Option("--yes", help="Deploy. Otherwise only print what would be done.")] = False,
    skip_check: Annotated[
        bool, typer.Option("--skip-check", help="Deploy without a check of the source and of the live instances.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Deploy nothing: requests go to the deployment before.")
    ] = False,
) -> None:
    """Creates or updates all resources of a deployment on Google Cloud, and deploys the functions, with gcloud.

    First checks the source, as check --deployable does.
    With --rollback, both functions serve the previous deployment again, with its code and settings.
    The database is not changed by that.
    """
    _end(deployment.run(settings, yes=yes, skip_check=skip_check, rollback=rollback), yes=yes)


@app.command()
def teardown(
    settings: SettingsFile = DEFAULT_SETTINGS,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Otherwise only print what would be done.")] = False,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also delete the database with all instances, and the keys.")
    ] = False,
) -> None:
    """Removes what deploy has created on Google Cloud: the functions, the queues with their tasks, and the accounts.

    The database and the keys are kept, unless --delete-data is given.
    """
    _end(deployment.tear_down(settings, yes=yes, delete_data=delete_data), yes=yes)


def _end(code: int, *, yes: bool) -> NoReturn:
    if code == 0 and not yes:
        typer.echo("\nNothing was changed. To do this, run the command again with --yes.")
    raise typer.Exit(code)
