"""What of a source folder may be uploaded: source_files.py as deploy.sh calls it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.desk import DEPLOY

KEY = '{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\\nMII"}'
PINNED = "requests==2.34.2 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"


def upload(source: Path, stage: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Checks a folder, and copies it to ``stage``; gcloud is taken to exclude nothing."""
    if not (source / "main.py").exists():
        (source / "main.py").write_text("service = ...\n")
    files = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    command = [sys.executable, str(DEPLOY / "source_files.py"), str(source), *([str(stage)] if stage else [])]
    return subprocess.run(command, input="\n".join(files), capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (".env", "", "the name of a file of settings and secrets"),
        ("config/.env.production", "", "the name of a file of settings and secrets"),
        ("settings.env", "", "the name of a file of settings and secrets"),
        ("my-key.json", "{}", "the name of a key"),
        ("APIKEYS.JSON", "{}", "the name of a key"),
        ("service-account-credentials.json", "{}", "the name of a key"),
        ("orders.db.callback-key", "", "the name of a key"),
        ("orders.db", "", "the name of a database"),
        ("orders.db-wal", "", "the name of a database"),
        ("orders.sqlite3", "", "the name of a database"),
        ("harmless.json", KEY, "a service account key"),
        ("harmless.txt", KEY, "a service account key"),
        ("adc.json", '{"refresh_token" : "1//x"}', "credentials of a user"),
        ("tls.pem", "text\n-----BEGIN RSA PRIVATE KEY-----\nMII", "a private key"),
        ("module.py", 'KEY = """\n-----BEGIN EC PRIVATE KEY-----\nMII"""', "a private key"),
    ],
)
def test_secrets_and_databases_are_refused(name: str, content: str, what: str, tmp_path: Path) -> None:
    source, stage = tmp_path / "source", tmp_path / "stage"
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_text(content)
    ended = upload(source, stage)
    assert ended.returncode == 1
    assert ended.stderr.startswith("nothing was uploaded, because of these files:\n")
    assert name in ended.stderr and what in ended.stderr and ".gcloudignore" in ended.stderr
    assert not stage.exists()


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_database_is_known_whatever_its_name(suffix: str, tmp_path: Path) -> None:
    source, file = tmp_path / "source", tmp_path / "x"
    source.mkdir()
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode = wal")
    database.execute("CREATE TABLE t (x)")
    (source / "cache.bin").write_bytes(Path(f"{file}{suffix}").read_bytes())
    database.close()
    ended = upload(source)
    assert ended.returncode == 1
    assert "cache.bin contains a database" in ended.stderr


def test_what_no_function_needs_is_left_out_and_the_rest_is_copied(tmp_path: Path) -> None:
    source, stage = tmp_path / "source", tmp_path / "stage"
    wanted = {"main.py", "shop/orders.py", "shop/data.json", "requirements.txt", "keys.py", "secrets.md"}
    for name in wanted | {".git/config", "__pycache__/main.pyc", ".venv/lib/x.py", ".gcloudignore", "shop/.DS_Store"}:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(PINNED if name == "requirements.txt" else "")
    (source / "keys.py").write_text('wanted = {"private_key": "from the vault", "client_secret": "too"}')
    assert upload(source, stage).returncode == 0
    assert {str(path.relative_to(stage)) for path in stage.rglob("*") if path.is_file()} == wanted
    assert (stage / "requirements.txt").read_text() == PINNED


def test_a_name_can_be_allowed_but_no_content(tmp_path: Path) -> None:
    (tmp_path / "monkey.json").write_text("{}")
    (tmp_path / ".gcloudignore").write_text("!/monkey.json\n")
    assert upload(tmp_path).returncode == 0
    (tmp_path / "monkey.json").write_text(KEY)
    assert "monkey.json contains a service account key" in upload(tmp_path).stderr


@pytest.mark.parametrize(
    "line", ["requests", "requests==2.34.2", "git+https://example.com/x", "./x.whl", "-r other.txt", "-e ."]
)
def test_requirements_without_hashes_are_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"# mine\n--only-binary :all:\n{PINNED}{line}  # why\n")
    ended = upload(tmp_path)
    assert ended.returncode == 1
    assert f"requirements.txt: {line!r} has no version with hashes" in ended.stderr
    assert ended.stderr.count("has no version") == 1


def test_a_folder_whose_main_py_is_ignored_is_refused(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(DEPLOY / "source_files.py"), str(tmp_path)], input="", capture_output=True, text=True
    )
    assert f"{tmp_path}/.gcloudignore excludes main.py" in ended.stderr


def test_a_check_lists_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    assert upload(tmp_path).stdout == "  a.py\n  main.py\n"
    for number in range(20):
        (tmp_path / f"{number:02}.py").touch()
    lines = upload(tmp_path).stdout.splitlines()
    assert (lines[0], lines[19:]) == ("  00.py", ["  19.py", "  ... and 2 more"])


@pytest.mark.parametrize("name", ["httptools", "not-httptools"])
def test_a_check_warns_of_httptools(name: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(PINNED + f"{name}==0.8.0 --hash=sha256:cc\n")
    assert ("warning: requirements.txt installs httptools" in upload(tmp_path).stdout) is (name == "httptools")
