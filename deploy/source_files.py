"""Checks the files of a source folder before they are uploaded, and copies them.

The standard input names the files, as ``gcloud meta list-files-for-upload`` lists them: what the folder's .gcloudignore
excludes is not among them. Whatever looks like a secret or a database stops the deployment, because everyone who may
read the bucket or the image of a function could read it there. Uses only the standard library, so that it runs with any
python3.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

IGNORE_FILE = ".gcloudignore"
NEVER_UPLOADED = (
    IGNORE_FILE,
    ".DS_Store",
    ".git",
    ".gitignore",
    ".hypothesis",
    ".idea",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    ".vscode",
    "__pycache__",
    "node_modules",
    "venv",
)
"""Files and folders that no function needs, whether or not .gcloudignore names them."""

SUSPICIOUS_NAMES = {
    "a file of settings and secrets": (".env", ".env.*", "*.env", ".netrc", ".npmrc", ".pypirc", "pip.conf"),
    "a key": (
        "*key*.json",
        "*credential*.json",
        "*secret*.json",
        "*.p12",
        "*.pfx",
        "*.jks",
        "id_rsa*",
        "id_ed25519*",
        "*.callback-key*",
    ),
    "a database": ("*.db", "*.db-*", "*.sqlite", "*.sqlite-*", "*.sqlite3", "*.sqlite3-*"),
}
SECRET_CONTENT = {
    "a private key": re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----", re.MULTILINE),
    "a service account key": re.compile(rb'"private_key"\s*:\s*"'),
    "credentials of a user": re.compile(rb'"(refresh_token|client_secret)"\s*:\s*"'),
    "a database": re.compile(rb"\ASQLite format 3\0|\A\x37\x7f\x06[\x82\x83]"),  # the file, or its write-ahead log
}
JSON_ONLY = ("a service account key", "credentials of a user")
"""Code may name these members of a document; a document that has them is one."""

LISTED = 20


def is_uploaded(path: PurePosixPath) -> bool:
    return not any(part in NEVER_UPLOADED for part in path.parts)


def suspicious_name(path: PurePosixPath) -> str | None:
    for what, patterns in SUSPICIOUS_NAMES.items():
        if any(fnmatchcase(path.name.lower(), pattern) for pattern in patterns):
            return what
    return None


def suspicious_content(path: PurePosixPath, content: bytes) -> str | None:
    for what, pattern in SECRET_CONTENT.items():
        if pattern.search(content) and (what not in JSON_ONLY or path.suffix.lower() != ".py"):
            return what
    return None


def included(source: Path) -> set[str]:
    """The paths that .gcloudignore includes by name, as ``!/monkey.json``: their names are not held against them."""
    file = source / IGNORE_FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {line.strip()[1:].lstrip("/") for line in lines if line.startswith("!")}


def refusals(source: Path, paths: list[PurePosixPath]) -> Iterator[str]:
    """Says of each file why it cannot be uploaded."""
    known = included(source)
    for path in paths:
        content = (source / path).read_bytes()
        if what := suspicious_content(path, content):
            yield f"{path} contains {what}: list it in {source / IGNORE_FILE}, or move it elsewhere"
        elif (what := suspicious_name(path)) and str(path) not in known:
            yield (
                f"{path} has the name of {what}: list it in {source / IGNORE_FILE}, or move it elsewhere. "
                f"If it is to be uploaded, add the line !/{path} there"
            )
        elif str(path) == "requirements.txt":
            yield from unpinned(content.decode())


def unpinned(requirements: str) -> Iterator[str]:
    """Says of each requirement without a hash that it would let in whatever the package index sends."""
    for line in requirements.replace("\\\n", " ").splitlines():
        requirement = line.partition(" #")[0].strip()
        if requirement and not requirement.startswith(("#", "--")) and "--hash=" not in requirement:
            yield (
                f"requirements.txt: {requirement!r} has no version with hashes. deploy/README.md, Requirements of "
                "your code, shows how to lock them"
            )


def overview(source: Path, paths: list[PurePosixPath]) -> Iterator[str]:
    """The files that are uploaded, at most ``LISTED`` by name, and what to know about them."""
    yield from (str(path) for path in paths[:LISTED])
    if len(paths) > LISTED:
        yield f"... and {len(paths) - LISTED} more"
    requirements = source / "requirements.txt"
    if PurePosixPath("requirements.txt") in paths and re.search(
        r"^httptools\b", requirements.read_text(), re.MULTILINE
    ):
        yield "warning: requirements.txt installs httptools, with which a client can avoid its rate limit: remove it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument(
        "stage", type=Path, nargs="?", help="where the files are copied to; if omitted, only checks and lists them"
    )
    options = parser.parse_args()
    listed = [PurePosixPath(line) for line in sys.stdin.read().splitlines() if line]
    paths = sorted(path for path in listed if is_uploaded(path))
    if found := list(refusals(options.source, paths)):
        sys.exit("nothing was uploaded, because of these files:\n" + "\n".join(f"  {text}" for text in found))
    if PurePosixPath("main.py") not in paths:
        sys.exit(f"{options.source / IGNORE_FILE} excludes main.py")
    if not options.stage:
        sys.stdout.writelines(f"  {line}\n" for line in overview(options.source, paths))
        return
    for path in paths:
        target = options.stage / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.source / path, target)


if __name__ == "__main__":
    main()
