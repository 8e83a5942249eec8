"""Runs the Python code of a Markdown file."""

from __future__ import annotations

import linecache
from types import CodeType


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
