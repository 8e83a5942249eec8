"""Marks a database as the one of a deployment, so that no other deployment uses it.

The tasks of one deployment wake the instances of a database: a second one would recover and run the instances of the
first with other code. The document ``gorchestrate/deployment`` names the deployment, and all queues that it has had,
until they are deleted. Uses only the standard library, so that it runs with any python3.
"""

from __future__ import annotations

import argparse
import os
import sys
import urllib.error
from typing import Any

from firestore_indexes import ALREADY_EXISTS, TOKEN_VARIABLE, Api

COLLECTION, NAME = "gorchestrate", "deployment"
PATH = f"documents/{COLLECTION}/{NAME}"
NOT_FOUND = 404


def document(deployment: str, queues: list[str]) -> dict[str, Any]:
    """The body of the document."""
    values = [{"stringValue": queue} for queue in queues]
    return {"fields": {"deployment": {"stringValue": deployment}, "queues": {"arrayValue": {"values": values}}}}


def read(api: Api) -> dict[str, Any] | None:
    """The document; None if there is none, or no database."""
    try:
        found: dict[str, Any] = api.call("GET", PATH)
    except urllib.error.HTTPError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    return found


def owner(found: dict[str, Any]) -> str:
    return str(found["fields"]["deployment"]["stringValue"])


def queues_of(found: dict[str, Any]) -> list[str]:
    return [value["stringValue"] for value in found["fields"]["queues"]["arrayValue"].get("values", [])]


def claim(api: Api, deployment: str, queues: list[str]) -> list[str]:
    """Marks the database. Returns the queues that the deployment had before, and no longer has.

    Raises:
        ValueError: it is the database of another deployment.
    """
    found = read(api)
    if found is None:
        try:
            api.call("POST", f"documents/{COLLECTION}", document(deployment, queues), documentId=NAME)
        except urllib.error.HTTPError as error:
            if error.code != ALREADY_EXISTS:
                raise
            found = read(api)  # another deployment was faster
    if found is None:
        return []
    if owner(found) != deployment:
        raise ValueError(
            f"the database belongs to the deployment {owner(found)} (its region and worker), but this is {deployment}: "
            f"choose another DATABASE, or write the names of that deployment. If that no longer exists, delete the "
            f"document {COLLECTION}/{NAME} of the database"
        )
    old = [queue for queue in queues_of(found) if queue not in queues]
    if queues_of(found) != queues + old:
        api.call("PATCH", PATH, document(deployment, queues + old))
    return old


def forget(api: Api, deployment: str, queues: list[str]) -> list[str]:
    """Removes queues, which no longer exist, from the mark of this deployment. Returns none."""
    found = read(api)
    if found is not None and owner(found) == deployment:
        api.call("PATCH", PATH, document(deployment, [queue for queue in queues_of(found) if queue not in queues]))
    return []


def release(api: Api, deployment: str) -> list[str]:
    """Removes the mark of this deployment. Returns all its queues that may exist."""
    found = read(api)
    if found is None or owner(found) != deployment:
        return []
    api.call("DELETE", PATH)
    return queues_of(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("claim", "forget", "release"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--deployment", required=True)
    parser.add_argument("queues", nargs="*")
    options = parser.parse_args()
    api = Api(options.project, options.database, os.environ.get(TOKEN_VARIABLE, ""))
    try:
        if options.what == "release":
            queues = release(api, options.deployment)
        else:
            change = claim if options.what == "claim" else forget
            queues = change(api, options.deployment, options.queues)
    except ValueError as error:
        sys.exit(str(error))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.url}: {error.code} {error.read().decode(errors='replace')}")
    except urllib.error.URLError as error:
        sys.exit(f"{api.root}: {error.reason}")
    sys.stdout.write("".join(f"{queue}\n" for queue in queues))


if __name__ == "__main__":
    main()
