"""Applies firestore.indexes.json (the format of the Firebase CLI) to a database.

Adds and changes indexes. An index that the file does not name stays. Uses only the standard library, so that it runs
with any python3.

With --sharded-indexes, the indexes by time exist with a shard as their first field, beside those of the file (write,
read) or instead of them (only), which deletes those of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

ENDPOINT_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_FIRESTORE"  # gcloud's own name for it
TOKEN_VARIABLE = "GOOGLE_ACCESS_TOKEN"
ALREADY_EXISTS = 409
POLL_SECONDS = 10
CREATING = "CREATING"
OVERRIDDEN = "indexConfig.usesAncestorConfig:false"

GROUP, SHARD = "instances", "shard"
TIMES = ("wake_at", "updated_at", "created_at")
"""The fields whose values grow with each write. Only their indexes need shards."""


class Api:
    """The admin API of one database."""

    def __init__(self, project: str, database: str, token: str) -> None:
        endpoint = os.environ.get(ENDPOINT_VARIABLE, "https://firestore.googleapis.com/")
        self.root = f"{endpoint.rstrip('/')}/v1/projects/{project}/databases/{urllib.parse.quote(database, safe='()')}"
        self.headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "X-Goog-User-Project": project,
        }

    def call(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """One request; raises urllib.error.HTTPError."""
        url = f"{self.root}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, self.headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:  # nosec B310 # the deployer's own setting
            return json.load(response)

    def list(self, path: str, kind: str, **query: str) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self.call("GET", path, pageSize="300", pageToken=token, **query)
            found += page.get(kind, [])
            token = page.get("nextPageToken", "")
            if not token:
                return found


def composite_index(spec: dict[str, Any]) -> dict[str, Any]:
    """The body that creates an index of the file."""
    return {"queryScope": spec.get("queryScope", "COLLECTION"), "fields": spec["fields"]}


def field_config(spec: dict[str, Any]) -> dict[str, Any]:
    """The body that configures a field of the file."""
    body: dict[str, Any] = {}
    if "indexes" in spec:
        indexes = [
            {
                "queryScope": index.get("queryScope", "COLLECTION"),
                "fields": [
                    {"fieldPath": spec["fieldPath"]} | {k: index[k] for k in ("order", "arrayConfig") if k in index}
                ],
            }
            for index in spec["indexes"]
        ]
        body["indexConfig"] = {"indexes": indexes}
    if spec.get("ttl"):
        body["ttlConfig"] = {}
    return body


def by_time(spec: dict[str, Any]) -> bool:
    """Whether a composite index of the file grows at one end."""
    return spec["collectionGroup"] == GROUP and spec["fields"][-1]["fieldPath"] in TIMES


def sharded(wanted: dict[str, Any], *, only: bool) -> dict[str, Any]:
    """The content of the file with shards.

    Args:
        only: leaves out the indexes by time that have none.
    """
    shard = {"fieldPath": SHARD, "order": "ASCENDING"}
    indexes, overrides = [], []
    for spec in wanted.get("indexes", []):
        if by_time(spec):
            indexes.append(spec | {"fields": [shard, *spec["fields"]]})
        if not (by_time(spec) and only):
            indexes.append(spec)
    for spec in wanted.get("fieldOverrides", []):
        if spec["collectionGroup"] == GROUP and spec["fieldPath"] in TIMES:
            for index in spec["indexes"]:
                scope = {"collectionGroup": GROUP, "queryScope": index["queryScope"]}
                time = {"fieldPath": spec["fieldPath"], "order": index["order"]}
                indexes.append(scope | {"fields": [shard, time]})
            if only:
                spec = spec | {"indexes": []}
        overrides.append(spec)
    overrides.append({"collectionGroup": GROUP, "fieldPath": SHARD, "indexes": []})
    return {"indexes": indexes, "fieldOverrides": overrides}


def signature(index: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The value that identifies an index. Firestore adds the document's name to each index as its last field."""
    fields = [
        (field["fieldPath"], field.get("order") or field.get("arrayConfig"))
        for field in index["fields"]
        if field["fieldPath"] != "__name__"
    ]
    return index.get("queryScope", "COLLECTION"), tuple(fields)


def is_configured(existing: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a field of the database has the configuration of the file."""
    if "ttlConfig" in wanted and "ttlConfig" not in existing:
        return False
    if "indexConfig" not in wanted:
        return True
    config = existing.get("indexConfig", {})
    if config.get("usesAncestorConfig"):
        return False
    return {*map(signature, config.get("indexes", []))} == {*map(signature, wanted["indexConfig"]["indexes"])}


def apply_composite_indexes(api: Api, specs: list[dict[str, Any]], dry_run: bool) -> None:
    existing: dict[str, set[tuple[str, tuple[Any, ...]]]] = {}
    for spec in specs:
        group, body = spec["collectionGroup"], composite_index(spec)
        if not dry_run and group not in existing:
            existing[group] = {*map(signature, api.list(f"collectionGroups/{group}/indexes", "indexes"))}
        known = signature(body) in existing.get(group, ())
        report(f"index of {group}: {describe(body)}", known)
        if not known and not dry_run:
            try:
                api.call("POST", f"collectionGroups/{group}/indexes", body)
            except urllib.error.HTTPError as error:
                if error.code != ALREADY_EXISTS:
                    raise


def apply_fields(api: Api, specs: list[dict[str, Any]], dry_run: bool) -> None:
    existing: dict[str, dict[str, Any]] = {}
    for filter in () if dry_run else (OVERRIDDEN, "ttlConfig:*"):
        for field in api.list("collectionGroups/-/fields", "fields", filter=filter):
            existing[path_of(field)] = field
    for spec in specs:
        name = f"{spec['collectionGroup']}/fields/{spec['fieldPath']}"
        body = field_config(spec)
        known = name in existing and is_configured(existing[name], body)
        kinds = [f"{describe(index)} {index['queryScope']}" for index in body.get("indexConfig", {}).get("indexes", [])]
        text = ", ".join(kinds) or "no index"
        report(f"field {name}: {text}{', TTL' if 'ttlConfig' in body else ''}", known)
        if not known and not dry_run:
            path = f"collectionGroups/{urllib.parse.quote(name)}"
            api.call("PATCH", path, body, updateMask=",".join(sorted(body)))


def delete_composite_indexes(api: Api, specs: list[dict[str, Any]], dry_run: bool) -> None:
    """Deletes the indexes of the file that grow at one end."""
    unwanted = {signature(spec): spec for spec in specs if by_time(spec)}
    existing = [] if dry_run else api.list(f"collectionGroups/{GROUP}/indexes", "indexes")
    for spec in unwanted.values():
        report(f"no index of {GROUP}: {describe(spec)}", False)
    for index in existing:
        if signature(index) in unwanted:
            api.call("DELETE", f"collectionGroups/{index['name'].partition('/collectionGroups/')[2]}")


def check_ready(api: Api, wanted: dict[str, Any], *, shards_are_read: bool) -> None:
    """Ends the program if functions that are deployed now would read an index that is not there yet."""
    needed = [
        spec
        for spec in wanted["indexes"]
        if not by_time(spec) or (spec["fields"][0]["fieldPath"] == SHARD) == shards_are_read
    ]
    existing = api.list(f"collectionGroups/{GROUP}/indexes", "indexes")
    for field in api.list("collectionGroups/-/fields", "fields", filter="indexConfig.usesAncestorConfig:false"):
        existing += field.get("indexConfig", {}).get("indexes", [])
    unready = {signature(index) for index in existing if index.get("state", "READY") != "READY"}
    for spec in needed:
        if signature(spec) in unready:
            sys.exit(f"the index of {GROUP}: {describe(spec)} is still being built: run this again in some minutes")
    if not shards_are_read and any(fields[0][0] in TIMES for _, fields in unready):
        sys.exit("an index without shards is still being built: run this again in some minutes")


def check_order(api: Api) -> None:
    """Ends the program if shards would be read before any were written: their indexes do not exist."""
    existing = {*map(signature, api.list(f"collectionGroups/{GROUP}/indexes", "indexes"))}
    if not any(fields[0][0] == SHARD for _, fields in existing if fields):
        sys.exit("indexes with shards do not exist yet: set SHARDED_INDEXES=write and deploy first; see docs on scale")


def path_of(resource: dict[str, Any]) -> str:
    """The name of an index or a field within its database."""
    return str(resource["name"]).partition("/collectionGroups/")[2]


def building(api: Api, specs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The indexes and fields of the file that queries cannot use yet."""
    groups = {spec["collectionGroup"] for spec in specs.get("indexes", [])}
    found = [index for group in sorted(groups) for index in api.list(f"collectionGroups/{group}/indexes", "indexes")]
    names = [path_of(index) for index in found if index.get("state") == CREATING]
    for field in api.list("collectionGroups/-/fields", "fields", filter=OVERRIDDEN):
        indexes = field.get("indexConfig", {}).get("indexes", [])
        names += [path_of(field)] if any(index.get("state") == CREATING for index in indexes) else []
    return names


def wait(api: Api, specs: dict[str, list[dict[str, Any]]], seconds: float) -> None:
    """Waits until all indexes are built, or for this time. Firestore goes on building."""
    if not seconds:
        return
    end = time.monotonic() + seconds
    told = 0
    while names := building(api, specs):
        if time.monotonic() >= end:
            sys.stdout.write(f"  still being built after {seconds:g} s: {', '.join(names)}. Queries fail until then\n")
            return
        if len(names) != told:
            sys.stdout.write(f"  waiting until {len(names)} are built: {', '.join(names)}\n")
            sys.stdout.flush()
            told = len(names)
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))


def describe(index: dict[str, Any]) -> str:
    return " ".join(f"{f['fieldPath']} {f.get('order') or f.get('arrayConfig')}" for f in index["fields"])


def report(what: str, known: bool) -> None:
    sys.stdout.write(f"  {what}{' (exists)' if known else ''}\n")


def apply(
    api: Api, wanted: dict[str, Any], shards: str | None, *, is_new: bool, dry_run: bool, seconds: float = 0
) -> None:
    unsharded = wanted.get("indexes", [])
    are_read = shards in ("read", "only")
    is_checked = shards is not None and not is_new and not dry_run
    if shards is not None:
        wanted = sharded(wanted, only=shards == "only")
    if is_checked and are_read:
        check_order(api)
    apply_composite_indexes(api, wanted.get("indexes", []), dry_run)
    if is_checked and are_read:
        wait(api, wanted, seconds)
        check_ready(api, wanted, shards_are_read=True)  # before the others are deleted
    if shards == "only":
        delete_composite_indexes(api, unsharded, dry_run)
    apply_fields(api, wanted.get("fieldOverrides", []), dry_run)
    if not dry_run:
        wait(api, wanted, seconds)
    if is_checked and not are_read:
        check_ready(api, wanted, shards_are_read=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--project", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--dry-run", action="store_true", help="only print what the file contains")
    parser.add_argument("--sharded-indexes", choices=("write", "read", "only"), help="the indexes by time have shards")
    parser.add_argument("--new", action="store_true", help="the database is new: nothing reads it yet")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait until the indexes are built")
    parser.add_argument("file")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as file:
        wanted = json.load(file)
    api = Api(options.project, options.database, os.environ.get(TOKEN_VARIABLE, ""))
    try:
        apply(api, wanted, options.sharded_indexes, is_new=options.new, dry_run=options.dry_run, seconds=options.wait)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.url}: {error.code} {error.read().decode(errors='replace')}")
    except urllib.error.URLError as error:
        sys.exit(f"{api.root}: {error.reason}")


if __name__ == "__main__":
    main()
