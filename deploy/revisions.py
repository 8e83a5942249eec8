"""Reads what Cloud Run says of services and their revisions, for traffic.sh.

    revisions.py serving SERVICE             the revision that serves all requests, and the newest one
    revisions.py previous API WORKER         what to go back to: the release, its revision of each service, and the
                                             queues of these
    revisions.py queues API WORKER           the queues of the revisions that serve, and of those to go back to
                                             (each of the two is a file with the service and one with its revisions)

The files are the JSON of ``gcloud run services describe`` and ``gcloud run revisions list``. All revisions of one
deployment have the same GORCHESTRATE_RELEASE, the time when it began. Uses only the standard library, so that it runs
with any python3.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

RELEASE = "GORCHESTRATE_RELEASE"

Json = dict[str, Any]


def serving(service: Json) -> list[str]:
    """The revisions that get requests."""
    status = service.get("status", {})
    return [target.get("revisionName", "") for target in status.get("traffic", []) if target.get("percent")]


def variables_of(revision: Json) -> dict[str, str]:
    """The environment variables of a revision; those from secrets are empty."""
    containers = revision["spec"]["containers"]
    variables = [variable for container in containers for variable in container.get("env", [])]
    return {variable["name"]: str(variable.get("value", "")) for variable in variables}


def release_of(revision: Json) -> str:
    """The release of a revision; empty if it has none."""
    return variables_of(revision).get(RELEASE, "")


def queues_of(revision: Json) -> set[str]:
    """The queues in which a revision creates tasks."""
    variables = variables_of(revision)
    first, count = variables.get("GORCHESTRATE_QUEUE", ""), int(variables.get("GORCHESTRATE_QUEUES") or 1)
    names = {first, variables.get("GORCHESTRATE_ACTIVITY_QUEUE", "")}
    return (names | {f"{first}-{number}" for number in range(2, count + 1)}) - {""}


def is_ready(revision: Json) -> bool:
    conditions = revision.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def ready_revisions(revisions: list[Json]) -> dict[str, str]:
    """The newest ready revision of each release. One deployment may have made several."""
    found = sorted(filter(is_ready, revisions), key=lambda one: str(one["metadata"]["creationTimestamp"]))
    return {release_of(revision): revision["metadata"]["name"] for revision in found if release_of(revision)}


def current_release(service: Json, revisions: list[Json]) -> str:
    """The newest release that gets requests."""
    names = serving(service)
    return max((release_of(one) for one in revisions if one["metadata"]["name"] in names), default="")


def previous(services: list[tuple[Json, list[Json]]]) -> tuple[str, list[str]]:
    """The release before the one that serves, and its revision of each service.

    Raises:
        ValueError: there is none that all services have.
    """
    ready = [ready_revisions(revisions) for _, revisions in services]
    current = max(current_release(service, revisions) for service, revisions in services)
    common = set.intersection(*(set(releases) for releases in ready))
    older = sorted(release for release in common if release < current)
    if not older:
        raise ValueError(
            f"there is no earlier release that is ready on all services: {current or 'a deployment without a release'} "
            f"serves now, and ready are {', '.join(sorted(common)) or 'none'}"
        )
    return older[-1], [releases[older[-1]] for releases in ready]


def queues_of_release(services: list[tuple[Json, list[Json]]], names: list[str]) -> list[str]:
    """The queues of revisions, which are given by their names."""
    found = [queues_of(one) for _, revisions in services for one in revisions if one["metadata"]["name"] in names]
    return sorted(set().union(*found))


def needed_queues(services: list[tuple[Json, list[Json]]]) -> list[str]:
    """The queues of the revisions that serve, and of those that a rollback brings back."""
    names = [name for service, _ in services for name in serving(service)]
    with contextlib.suppress(ValueError):  # there may be nothing to go back to
        names += previous(services)[1]
    return queues_of_release(services, names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("serving", "previous", "queues"))
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in options.files]
    if options.what == "serving":
        latest = contents[0].get("status", {}).get("latestCreatedRevisionName", "")
        sys.stdout.write(f"{','.join(serving(contents[0])) or 'none'} {latest or 'none'}\n")
        return
    services = list(zip(contents[::2], contents[1::2], strict=True))
    if options.what == "queues":
        sys.stdout.write("".join(f"{queue}\n" for queue in needed_queues(services)))
        return
    try:
        release, revisions = previous(services)
    except ValueError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{' '.join([release, *revisions, *queues_of_release(services, revisions)])}\n")


if __name__ == "__main__":
    main()
