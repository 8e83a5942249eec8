"""Writes a zip file of a folder: ``archive.py FOLDER FILE``. The same files give the same archive, so that Terraform
deploys only what has changed. Uses only the standard library, so that it runs with any python3."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo


def write(folder: Path, file: Path) -> None:
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = ZipInfo(path.relative_to(folder).as_posix())  # its time is 1980-01-01
            entry.external_attr = 0o644 << 16
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
