"""How uvicorn serves the applications of this package."""

from __future__ import annotations

from typing import Any

import uvicorn
from starlette.types import ASGIApp


def server_config(app: ASGIApp, *, lifespan: bool = False, **options: Any) -> uvicorn.Config:
    """Returns the configuration of a server, which logs nothing itself.

    Args:
        lifespan: whether the application is told of the start and the end.
        options: more options of ``uvicorn.Config``.
    """
    # uvicorn prefers httptools if it is installed. It does not limit the size of headers, and it adds the trailers of a
    # chunked body to the headers: a proxy in front may not have checked them.
    return uvicorn.Config(
        app, http="h11", log_config=None, access_log=False, lifespan="on" if lifespan else "off", **options
    )
