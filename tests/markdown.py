"""Reads Markdown files: their code, which it can run, and their tables."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its fence, the line that its text begins at, and its text."""

    kind: str
    line: int
    text: str


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a file."""
    return list(_blocks(path))


def _blocks(path: Path) -> Iterator[Block]:
    kind, start, text = None, 0, ""
    for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
        if line.lstrip().startswith("```"):
            if kind is None:
                kind, start, text = line.strip()[3:], number + 1, ""
            else:
                yield Block(kind, start, text)
                kind = None
        elif kind is not None:
            text += line
    assert kind is None, f"{path}: the block of line {start} does not end"


def table_of(path: Path, first: str) -> list[list[str]]:
    """The rows of the table whose header begins so."""
    lines = path.read_text().splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith(first))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def compiled(name: str, line: int, text: str, flags: int = 0) -> CodeType:
    """Compiles a block. Errors tell its lines in the page, and plain definitions find their source.

    Args:
        name: the name of the page.
        line: the line of the page that the block begins at.
        flags: those of ``compile``.
    """
    text = "\n" * (line - 1) + text
    file = f"{name} block of line {line}"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    code: CodeType = compile(text, file, "exec", flags, dont_inherit=True)
    return code
