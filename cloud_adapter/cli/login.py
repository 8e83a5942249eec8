"""The commands ``login`` and ``logout``: a user's token for an API, for the other commands."""

from __future__ import annotations

from typing import Annotated

import typer

from cloud_adapter.cli.device_flow import OAuthClient, Prompt
from cloud_adapter.cli.instances import DEFAULT_URL, Url
from cloud_adapter.cli.tokens import Logins, StoredLogin
from cloud_adapter.errors import SettingsError
from cloud_adapter.http.callers import is_secure
from workflow_core.printable import escaped

app = typer.Typer()


@app.command()
def login(
    issuer: Annotated[str, typer.Option(help="The OpenID Connect issuer: https://login.example.com")],
    client_id: Annotated[str, typer.Option(help="The id of this program at the issuer, which must allow device flow.")],
    url: Url = DEFAULT_URL,
    audience: Annotated[str, typer.Option(help="The name of the API at the issuer, if the issuer needs it.")] = "",
    scope: Annotated[str, typer.Option(help="The scopes to ask for.")] = "openid profile email offline_access",
    id_token: Annotated[bool, typer.Option("--id-token", help="Send the ID token, not the access token.")] = False,
) -> None:
    """Logs in to an API in a browser, which may be on another device. The other commands then use the token.

    The token is stored for the API at --url, in a file that only you can read.
    """
    if not is_secure(url):
        raise SettingsError(f"--url {url} must begin with https://, because the token is sent there")
    client = OAuthClient.of(issuer, client_id)
    tokens = client.log_in(_show, scope=scope, audience=audience)
    if id_token and not tokens.id_token:
        raise SettingsError("the issuer has sent no ID token: add openid to --scope, or omit --id-token")
    logins = Logins()
    logins.store(url, StoredLogin(client=client, tokens=tokens, sends="id_token" if id_token else "access_token"))
    typer.echo(f"Logged in to {url}. The token is in {logins.file}.")


@app.command()
def logout(url: Url = DEFAULT_URL) -> None:
    """Deletes the stored token for an API."""
    typer.echo(f"Logged out of {url}." if Logins().remove(url) else f"There is no login for {url}.")


def _show(prompt: Prompt) -> None:
    if prompt.url_with_code:
        typer.echo(escaped(f"Open {prompt.url_with_code} and check that it shows the code {prompt.code}"))
    else:
        typer.echo(escaped(f"Open {prompt.url} and enter the code {prompt.code}"))
