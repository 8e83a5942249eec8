"""The source of a function is parsed without the rest of its file."""

from __future__ import annotations

import ast
import linecache
import types
from pathlib import Path

import pytest

from workflow_core.plain.source import Source, alone, source_of

ODD = """class Flow:
    async def run(self):
        await self.a()
# further out
        x = '''
not indented
'''
        pass

    @staticmethod
    def one(a): return [
1]

def last(a,
 b):
\tif a:
\t\treturn 1
\telse:
\t\tpass"""


def functions(file: Path) -> list[types.FunctionType]:
    lines = linecache.getlines(str(file))
    codes = [compile("".join(lines), str(file), "exec", dont_inherit=True)]
    for code in codes:  # grows while it is iterated over
        codes += (const for const in code.co_consts if isinstance(const, types.CodeType))
    return [types.FunctionType(code, {}) for code in codes if not code.co_freevars and code.co_argcount]


def test_a_function_is_parsed_to_the_same_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "odd.py"
    odd.write_text(ODD)
    found = [each for file in (odd, Path(ast.__file__)) for each in functions(file) if "<" not in each.__name__]

    def read(function: types.FunctionType) -> Source:
        source_of.cache_clear()
        return source_of(function)

    trees = [ast.dump(read(function).node, include_attributes=True) for function in found]
    monkeypatch.setattr("workflow_core.plain.source.alone", lambda code, lines: tuple(lines))
    assert trees == [ast.dump(read(function).node, include_attributes=True) for function in found]
    assert len(trees) > 100
    run = next(function for function in found if function.__name__ == "run")
    assert "".join(alone(run.__code__, ODD.splitlines(keepends=True))).split() == [
        "if",
        "1:",
        *ODD[: ODD.index("@")].split()[2:],
    ]
