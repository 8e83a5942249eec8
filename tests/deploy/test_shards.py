"""The indexes with shards: the script that applies them, and the steps in which deploy.sh moves a database to them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.deploy.desk import DATABASE, DEPLOY, Desk

INSTANCES = f"{DATABASE}/collectionGroups/instances"
TIMES = {"wake_at", "updated_at", "created_at"}

WITHOUT = ["status created_at", "status updated_at"]
WITH = [
    *("shard created_at", "shard status created_at", "shard status updated_at"),
    *("shard updated_at", "shard wake_at COLLECTION_GROUP"),
]


def applied(desk: Desk, *options: str) -> subprocess.CompletedProcess[str]:
    """Applies the indexes with the options to the database."""
    script = [sys.executable, str(DEPLOY / "firestore_indexes.py"), "--project=my-project", "--database=(default)"]
    command = [*script, *options, str(DEPLOY / "firestore.indexes.json")]
    return subprocess.run(command, env=desk.environment(), capture_output=True, text=True)


def composites(desk: Desk) -> list[str]:
    """The composite indexes that exist."""
    found = []
    for name, body in desk.google.resources.items():
        if name.startswith(f"{INSTANCES}/indexes/"):
            paths = [field["fieldPath"] for field in body["fields"] if field["fieldPath"] != "__name__"]
            found.append(" ".join([*paths, *[body["queryScope"]] * (body["queryScope"] != "COLLECTION")]))
    return sorted(found)


def single(desk: Desk) -> set[str]:
    """The fields by time that have an index of their own."""
    fields = {time: desk.google.resources[f"{INSTANCES}/fields/{time}"] for time in TIMES}
    return {time for time, field in fields.items() if field["indexConfig"]["indexes"]}


def set_state(desk: Desk, state: str, *, has_shard: bool) -> None:
    """Sets the state of the composite indexes that have a shard, or of those that have none."""
    for name, body in desk.google.resources.items():
        if name.startswith(f"{INSTANCES}/indexes/") and (body["fields"][0]["fieldPath"] == "shard") is has_shard:
            body["state"] = state


def test_a_database_is_moved_to_shards_and_back(desk: Desk) -> None:
    assert applied(desk).returncode == 0
    assert (composites(desk), single(desk)) == (WITHOUT, TIMES)
    assert applied(desk, "--sharded-indexes=write").returncode == 0
    assert (composites(desk), single(desk)) == (sorted([*WITHOUT, *WITH]), TIMES)
    assert desk.google.resources[f"{INSTANCES}/fields/shard"]["indexConfig"] == {"indexes": []}
    assert applied(desk, "--sharded-indexes=read").returncode == 0
    assert (composites(desk), single(desk)) == (sorted([*WITHOUT, *WITH]), TIMES)
    assert applied(desk, "--sharded-indexes=only").returncode == 0
    assert (composites(desk), single(desk)) == (WITH, set()), "nothing grows at one end"
    again = applied(desk, "--sharded-indexes=only")
    assert again.returncode == 0 and "shard ASCENDING wake_at ASCENDING (exists)" in again.stdout
    assert applied(desk, "--sharded-indexes=write").returncode == 0
    assert (composites(desk), single(desk)) == (sorted([*WITHOUT, *WITH]), TIMES)


def test_a_new_database_can_have_only_shards(desk: Desk) -> None:
    assert applied(desk, "--sharded-indexes=only", "--new").returncode == 0
    assert (composites(desk), single(desk)) == (WITH, set())


@pytest.mark.parametrize("step", ["read", "only"])
def test_shards_are_not_read_before_they_are_written(desk: Desk, step: str) -> None:
    assert applied(desk).returncode == 0
    refused = applied(desk, f"--sharded-indexes={step}")
    assert refused.returncode == 1
    assert "indexes with shards do not exist yet: set SHARDED_INDEXES=write and deploy first" in refused.stderr
    assert (composites(desk), single(desk)) == (WITHOUT, TIMES)


@pytest.mark.slow
def test_no_step_goes_on_while_its_indexes_are_being_built(desk: Desk) -> None:
    applied(desk)
    applied(desk, "--sharded-indexes=write")
    set_state(desk, "CREATING", has_shard=True)
    assert applied(desk, "--sharded-indexes=write").returncode == 0, "they are not read yet"
    for step in ("read", "only"):
        refused = applied(desk, f"--sharded-indexes={step}")
        assert refused.returncode == 1
        assert "is still being built: run this again in some minutes" in refused.stderr
        assert (composites(desk), single(desk)) == (sorted([*WITHOUT, *WITH]), TIMES), "nothing was deleted"
    set_state(desk, "READY", has_shard=True)
    assert applied(desk, "--sharded-indexes=only").returncode == 0
    applied(desk, "--sharded-indexes=write")
    set_state(desk, "CREATING", has_shard=False)
    assert "is still being built" in applied(desk, "--sharded-indexes=write").stderr, "on the way back"
    set_state(desk, "READY", has_shard=False)
    desk.google.resources[f"{INSTANCES}/fields/wake_at"]["indexConfig"]["indexes"][0]["state"] = "CREATING"
    assert "is still being built" in applied(desk, "--sharded-indexes=write").stderr
    assert applied(desk, "--sharded-indexes=read").returncode == 0


def test_an_index_of_a_search_field_gets_a_shard_too(desk: Desk) -> None:
    data = json.loads((DEPLOY / "firestore.indexes.json").read_text())
    fields = [
        {"fieldPath": "search.customer", "order": "ASCENDING"},
        {"fieldPath": "updated_at", "order": "DESCENDING"},
    ]
    data["indexes"].append({"collectionGroup": "instances", "queryScope": "COLLECTION", "fields": fields})
    file = desk.directory / "indexes.json"
    file.write_text(json.dumps(data))
    script = [sys.executable, str(DEPLOY / "firestore_indexes.py"), "--project=my-project", "--database=(default)"]
    for step in ("write", "only"):
        command = [*script, f"--sharded-indexes={step}", str(file)]
        assert subprocess.run(command, env=desk.environment(), capture_output=True).returncode == 0
    assert composites(desk) == sorted([*WITH, "shard search.customer updated_at"])


@pytest.mark.parametrize("step", ["", "read"])
def test_the_settings_reach_the_functions_and_the_indexes(desk: Desk, step: str) -> None:
    run = desk.run("deploy.sh", "--dry-run", desk.settings(INDEX_SHARDS="8", SHARDED_INDEXES=step))
    assert run.process.returncode == 0, run.process.stderr
    output = run.process.stdout
    assert "index of instances: shard ASCENDING wake_at ASCENDING" in output
    assert output.count("GORCHESTRATE_INDEX_SHARDS=8") == 2
    assert output.count(f"GORCHESTRATE_SHARDED_INDEXES={step or 'write'}") == 2
    added = re.findall(r"gorchestrate add-shards (.*)", output)
    assert added == (["--shards 8 'my-project/(default)'"] if step else [])
