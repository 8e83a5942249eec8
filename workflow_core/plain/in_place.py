"""Which objects code changes in place, as far as its source shows it.

A local is stored by its value, so the object that code loads after an await is a copy. If the code changes the copy, it
must not be one of an object that also belongs to a field or to another local: these would stay as they are. Where that
is not known at import, it is checked when the local is stored; see ``workflow_core.machine.frames``. What a function or
a method does with an object that it is given is not known.

An object is described by its depth in the object of a local: 0 for that itself, 1 for its items or attributes, and so
on. So a list may be extended although its items also belong to a field.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from workflow_core.plain.flow import all_parts, keys_of, usage_of
from workflow_core.plain.parts import Code, Part
from workflow_core.plain.usage import Usage, own_nodes
from workflow_core.statements.inline import ANY_DEPTH

_CHANGING = frozenset(
    ("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault")
) | {"sort", "update"}
"""Methods that change a list, a set or a mapping."""

_SAME_ITEMS = ("enumerate", "filter", "iter", "list", "reversed", "set", "sorted", "tuple", "zip")
"""Functions that return other collections of the same objects."""

_ONE_ITEM = ("max", "min", "next")

_DEPTH_MAX = 6

Place = tuple[str, int]
"""A variable, and the depth of an object in its object."""


def changes_of(node: ast.AST) -> list[Place]:
    """Returns the objects that a node changes in place."""
    match node:
        case ast.AugAssign(target):  # changes the object of a list, for example
            return _within(target, 0)
        case ast.Attribute(value, _, ast.Store() | ast.Del()) | ast.Subscript(value, _, ast.Store() | ast.Del()):
            return _within(value, 0)
        case ast.Call(ast.Attribute(value, method)) if method in _CHANGING:
            return _within(value, 0)
    return []


def loaded_by(part: Code) -> Iterator[tuple[ast.stmt, frozenset[str], frozenset[str]]]:
    """Yields the statements of a part that has loaded anything. With each, the variables that still have the objects
    that were loaded, and those that have other objects in it than before."""
    loaded = frozenset(usage_of(part).reads)
    for statement in part.statements if loaded else ():
        replaced = frozenset[str]()
        if not isinstance(statement, ast.AugAssign):
            replaced = frozenset(Usage(part.frame.variables, [statement]).written)
        names = _names(statement.target) if isinstance(statement, ast.For) else frozenset[str]()
        yield statement, loaded, replaced | names
        loaded -= replaced


def changed_in(parts: Sequence[Part]) -> Mapping[str, frozenset[int]]:
    """Returns the keys of the locals of which code changes an object in place after it has loaded them, with the depths
    of these objects."""
    found: dict[str, set[int]] = {}
    taken: set[tuple[str, str, int]] = set()
    for part in all_parts(parts):
        if isinstance(part, Code):
            taken |= _look(part, found)
    known = -1
    while known != (
        known := sum(map(len, found.values()))
    ):  # taken from a copy in one piece of code, changed in another
        for target, key, depth in taken:
            for inner in tuple(found.get(target, ())):
                found.setdefault(key, set()).add(_sum(depth, inner))
    return {key: frozenset(depths) for key, depths in found.items()}


def _look(part: Code, found: dict[str, set[int]]) -> set[tuple[str, str, int]]:
    """Notes what a piece of code changes. Returns from which locals it takes objects for others."""
    derived = {name for each in part.derived for name in (*each.names, each.source)}
    sources: dict[str, set[Place]] = {}
    taken: set[tuple[str, str, int]] = set()

    def keys(places: Iterable[Place], loaded: frozenset[str]) -> Iterator[tuple[str, int]]:
        for name, depth in places:
            for key in keys_of(part.frame, part.derived, {name} & loaded):
                yield key, ANY_DEPTH if name in derived else depth

    for statement, loaded, replaced in loaded_by(part):
        for name in replaced:
            sources.pop(name, None)
        nodes = list(own_nodes(statement))
        for node in nodes:
            _note_sources(sources, node)
        for node in nodes:
            for name, depth in changes_of(node):
                is_variable = isinstance(node, ast.AugAssign) and depth == 0  # mostly of a number
                behind = set() if is_variable else _behind(sources, name, depth)
                for key, at in keys({(name, depth), *behind}, loaded):
                    found.setdefault(key, set()).add(at)
        for name, owners in sources.items():
            taken |= {(part.frame.key(name), key, depth) for key, depth in keys(owners, loaded)}
    return taken


def _names(target: ast.AST) -> frozenset[str]:
    nodes = own_nodes(target)
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


def _behind(sources: Mapping[str, set[Place]], name: str, depth: int) -> set[Place]:
    found = set[Place]()
    waiting = [(name, depth)]
    while waiting:
        name, depth = waiting.pop()
        new = {(owner, _sum(depth, more)) for owner, more in sources.get(name, ())} - found
        found |= new
        waiting += new
    return found


def _sum(depth: int, more: int) -> int:
    return ANY_DEPTH if ANY_DEPTH in (depth, more) or depth + more > _DEPTH_MAX else depth + more


def _note_sources(sources: dict[str, set[Place]], node: ast.AST) -> None:
    match node:
        case ast.Assign(targets, value):
            for target in targets:
                _bind(sources, target, value)
        case ast.AnnAssign(target, _, ast.expr() as value) | ast.NamedExpr(target, value):
            _bind(sources, target, value)
        case ast.For(target, items) | ast.comprehension(target, items):
            _add(sources, target, _items_of([items]))


def _bind(sources: dict[str, set[Place]], target: ast.expr, value: ast.expr) -> None:
    if isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
        for one, other in zip(target.elts, value.elts, strict=False):
            _bind(sources, one, other)
    else:
        _add(sources, target, _places(value))


def _add(sources: dict[str, set[Place]], target: ast.expr, places: set[Place]) -> None:
    if isinstance(target, ast.Name):
        sources.setdefault(target.id, set()).update(places)
    elif isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            _add(sources, part, {(name, ANY_DEPTH) for name, _ in places})


def _places(value: ast.expr) -> set[Place]:
    """Returns of which variables a value may be an object, or one inside."""
    match value:
        case ast.Name(name):
            return {(name, 0)}
        case ast.Subscript(_, ast.Slice()):
            return set()  # a list of its own
        case ast.Attribute(inner) | ast.Subscript(inner):
            return _deeper(_places(inner))
        case ast.NamedExpr(_, inner):
            return _places(inner)
        case ast.IfExp(_, one, other):
            return _places(one) | _places(other)
        case ast.BoolOp(_, values):
            return {place for part in values for place in _places(part)}
        case ast.Call(ast.Name(name), arguments) if name in _ONE_ITEM:
            return _items_of(arguments)
    return set()


def _items_of(collections: Iterable[ast.expr]) -> set[Place]:
    """Returns of which variables the items of collections may be objects inside."""
    found = set[Place]()
    for value in collections:
        match value:
            case ast.Call(ast.Name(name), arguments) if name in _SAME_ITEMS:
                found |= _items_of(arguments)
            case ast.Call(ast.Attribute(inner, "values" | "items")) | ast.Subscript(inner, ast.Slice()):
                found |= _items_of([inner])
            case ast.GeneratorExp(item) | ast.ListComp(item):
                found |= _places(item)
            case ast.Tuple(items) | ast.List(items):
                found |= {place for item in items for place in _places(item)}
            case _:
                found |= _deeper(_places(value))
    return found


def _deeper(places: Iterable[Place]) -> set[Place]:
    return {(name, _sum(depth, 1)) for name, depth in places}


def _within(node: ast.expr, depth: int) -> list[Place]:
    """Returns the variable in which an object is, and the depth of the object."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node, depth = node.value, depth + 1
    return [(node.id, depth)] if isinstance(node, ast.Name) else []
