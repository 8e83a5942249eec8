"""Values of locals are kept exactly: types by annotation, by the call that they come from, or by what is plain."""

from __future__ import annotations

import pytest

from tests.plain.snippets import assert_same, outcome, read

SAME = read("values.txt")


@pytest.mark.parametrize("what", SAME)
def test_as_in_python(what: str) -> None:
    assert_same(*SAME[what])


REFUSED = {
    "two names of a list": (
        "a = [1]\nb = a\nawait self.work()\na.append(2)\nself.say(a, b)",
        "'a' shares an object with 'b'",
    ),
    "an item of a field": (
        "row = next(r for r in self.rows)\nawait self.work()\nrow.sent = True",
        "'row' shares an object with 'self.rows'",
    ),
    "a loop over objects of a field": (
        "for row in sorted(self.rows, key=lambda r: -r.id):\n    await self.work('w', row.id)\n    row.sent = True",
        "'for row' share an object with 'self.rows'",
    ),
    "a field under another name": (
        "tags = self.rows[0].tags\nawait self.work()\ntags += ['x']",
        "'tags' shares an object with 'self.rows'",
    ),
    "a local under another name": (
        "a = [1]\nb = a\nawait self.work()\nb += [2]\nself.say(a)",
        "'b' shares an object with 'a'",
    ),
    "objects in a list": (
        "rows = self.rows\nawait self.work()\nfor row in rows:\n    row.sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "objects in a list with their numbers": (
        "rows = self.rows\nawait self.work()\nfor n, row in enumerate(rows):\n    row.sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "objects in a comprehension": (
        "rows = self.rows\nawait self.work()\n[row.tags.append('x') for row in rows]",
        "'rows' shares an object with 'self.rows'",
    ),
    "objects in a mapping": (
        "rows = {row.id: row for row in self.rows}\nawait self.work()\nfor row in rows.values():\n    row.sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "an object that is found in a list": (
        "rows = self.rows\nawait self.work()\nrow = next(r for r in rows if r.id == 2)\nrow.sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "an object that is found, and changed after the next await": (
        "rows = self.rows\nawait self.work()\nrow = max(rows, key=lambda r: r.id)\nawait self.work().named('2')\n"
        "row.sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "an object that is found in a mapping": (
        "rows = {row.id: row for row in self.rows}\nawait self.work()\n"
        "key, row = max(rows.items(), key=lambda entry: entry[0])\nrow.sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "what is inside of a copy": (
        "rows = [row.model_copy() for row in self.rows]\nawait self.work()\nfor row in rows:\n    row.tags += ['x']",
        "'rows' shares an object with 'self.rows'",
    ),
    "a loop over pairs of objects of a field": (
        "rows = self.rows\nfor n, (row, _) in enumerate(zip(rows, self.items)):\n    await self.work('w', n)\n"
        "    row.sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "a loop over the values of a mapping, with a variable that is assigned": (
        "rows = {row.id: row for row in self.rows}\nfor key, row in rows.items():\n    await self.work('w', key)\n"
        "    row.sent = True\n    key += 1",
        "'row' shares an object with 'self.rows'",
    ),
    "an attribute of an item": (
        "rows = [row.model_copy() for row in self.rows]\nfor row in rows:\n    await self.work('w', row.id)\n"
        "    row.tags.append('x')",
        "'rows' shares an object with 'self.rows'",
    ),
    "a list in a loop over lists": (
        "lists = [row.tags for row in self.rows]\nfor tags in lists:\n    await self.work()\n    tags += ['x']",
        "'lists' shares an object with 'self.rows'",
    ),
    "an item from the end": (
        "rows = [[self.rows[0]]]\nawait self.work()\nrows[-1][0].sent = True",
        "'rows' shares an object with 'self.rows'",
    ),
    "one of a pair": (
        "tags = ['t']\npairs = [(1, tags), (2, tags)]\nawait self.work()\nfor _, found in pairs:\n"
        "    found.append('x')\nself.say(pairs)",
        "the local 'pairs' contains an object twice",
    ),
    "an object that is twice in a list": (
        "rows = [[0]] * 2\nawait self.work()\nrows[0].append(1)\nself.say(rows)",
        "the local 'rows' contains an object twice",
    ),
    "a list in itself": (
        "x: list[Any] = []\nx.append(x)\nawait self.work()\nx.append(1)\nself.say(x)",
        "the local 'x' contains an object twice",
    ),
    "self": ("me = self\nawait self.work()\nself.say(me.a)", "the local 'me' cannot be stored"),
    "a generator": (
        "g = (i for i in self.items)\nawait self.work()\nself.say(list(g))",
        "the local 'g' cannot be stored",
    ),
    "a function": ("f = [lambda: 1]\nawait self.work()\nself.say(f)", "the local 'f' cannot be stored"),
    "a method": ("f = self.twice\nawait self.work()\nself.say(f(1))", "the local 'f' cannot be stored"),
    "not a number": ("x = float('nan')\nawait self.work()\nself.say(x)", "the local 'x' cannot be stored"),
    "half of a character": (
        """x = b"\\xff".decode(errors="surrogateescape")\nawait self.work()\nself.say(x)""",
        "the local 'x' cannot be stored while the instance sleeps: x contains '\\udcff', which is half of a character",
    ),
    "a key with half of a character": (
        """x = {"a": {b"\\xff".decode(errors="surrogateescape"): 1}}\nawait self.work()\nself.say(x)""",
        "x.a contains '\\udcff', which is half of a character",
    ),
    "a subclass": ("r: Row = Sub(id=1)\nawait self.work()\nself.say(r)", "the local 'r' cannot be stored"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_the_name(what: str) -> None:
    body, text = REFUSED[what]
    assert text in outcome("library_words", body)["error"]
