"""Which objects code changes in place, as far as its source shows it.

A local is stored by its value, so the object that code loads after an await is a copy. If the code changes the copy, it
must not be one of an object that also belongs to a field or to another local: these would stay as they are. Where that
is not known at import, it is checked when the local is stored; see ``workflow_core.machine.frames``. What a function or
a method does with an object that it is given is not known.

An object is described by its path from the object of a local; see ``Local.changes``. So a list may be extended although
its items also belong to a field, and what one attribute contains may be changed although that of another does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from workflow_core.plain.flow import all_parts, keys_of, usage_of
from workflow_core.plain.parts import Code, Derived, Part
from workflow_core.plain.syntax import load
from workflow_core.plain.usage import Usage, own_nodes
from workflow_core.statements.inline import ANY, ANYWHERE, AUGMENTED, ObjectPath

_CHANGING = frozenset(
    ("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault")
) | {"sort", "update"}
"""Methods that change a list, a set or a mapping."""

_SAME_ITEMS = ("enumerate", "filter", "iter", "list", "reversed", "set", "sorted", "tuple", "zip")
"""Functions that return other collections of the same objects."""

_ONE_ITEM = ("max", "min", "next")

_STEPS_MAX = 4
"""What is further inside of an object counts as being anywhere there."""

Place = tuple[str, ObjectPath]
"""A variable, and where in its object another object is."""


def changes_of(node: ast.AST) -> list[Place]:
    """Returns the objects that a node changes in place."""
    match node:
        case ast.AugAssign(target):  # changes a list, but not a number
            return [(name, (*path, AUGMENTED)) for name, path in _within(target)]
        case ast.Attribute(value, _, ast.Store() | ast.Del()) | ast.Subscript(value, _, ast.Store() | ast.Del()):
            return _within(value)
        case ast.Call(ast.Attribute(value, method)) if method in _CHANGING:
            return _within(value)
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


def changed_in(parts: Sequence[Part]) -> Mapping[str, frozenset[ObjectPath]]:
    """Returns the keys of the locals of which code changes an object in place after it has loaded them, with the paths
    of these objects."""
    found: dict[str, set[ObjectPath]] = {}
    taken: set[tuple[str, str, ObjectPath]] = set()
    for part in all_parts(parts):
        if isinstance(part, Code):
            taken |= _look(part, found)
    known = -1
    while known != (known := sum(map(len, found.values()))):
        for target, key, path in taken:  # taken from a copy in one piece of code, changed in another
            for inner in tuple(found.get(target, ())):
                found.setdefault(key, set()).add(_join(path, inner))
    return {key: frozenset(paths) for key, paths in found.items()}


def _look(part: Code, found: dict[str, set[ObjectPath]]) -> set[tuple[str, str, ObjectPath]]:
    """Notes what a piece of code changes. Returns from which locals it takes objects for others."""
    derived = {name for each in part.derived for name in (*each.names, each.source)}
    sources: dict[str, set[Place]] = {}
    behind = frozenset[str]().union(*(_note_derived(sources, each) for each in part.derived))
    taken: set[tuple[str, str, ObjectPath]] = set()

    def keys(places: Iterable[Place], loaded: frozenset[str]) -> Iterator[tuple[str, ObjectPath]]:
        for name, path in places:
            if name not in derived and name in loaded | behind:
                for key in keys_of(part.frame, (), (name,)):
                    yield key, path

    for statement, loaded, replaced in loaded_by(part):
        for name in replaced:
            sources.pop(name, None)
        nodes = list(own_nodes(statement))
        for node in nodes:
            _note_sources(sources, node)
        for node in nodes:
            for name, path in changes_of(node):
                for key, at in keys({(name, path), *_behind(sources, name, path)}, loaded):
                    found.setdefault(key, set()).add(at)
        for name, owners in sources.items():
            if name not in derived:
                every = {place for owner, path in owners for place in ((owner, path), *_behind(sources, owner, path))}
                taken |= {(part.frame.key(name), key, path) for key, path in keys(every, loaded)}
    return taken


def _note_derived(sources: dict[str, set[Place]], each: Derived) -> frozenset[str]:
    """Notes of which variables the item of a loop is an object. Returns these variables."""
    if each.items is None:
        return frozenset()
    _add(sources, load(each.source, each.statement), _item_of(each.items))
    if isinstance(each.statement, ast.Assign):
        _take_each(sources, each.statement.targets[0], each.items)
    return frozenset(node.id for node in own_nodes(each.items) if isinstance(node, ast.Name))


def _names(target: ast.AST) -> frozenset[str]:
    nodes = own_nodes(target)
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


def _behind(sources: Mapping[str, set[Place]], name: str, path: ObjectPath) -> set[Place]:
    found = set[Place]()
    waiting = [(name, path)]
    while waiting:
        name, path = waiting.pop()
        new = {(owner, _join(outer, path)) for owner, outer in sources.get(name, ())} - found
        found |= new
        waiting += new
    return found


def _join(outer: ObjectPath, inner: ObjectPath) -> ObjectPath:
    if outer and outer[-1] is ANYWHERE:
        return outer
    path = (*outer, *inner)
    return path if len(path) <= _STEPS_MAX else (*path[:_STEPS_MAX], ANYWHERE)


def _note_sources(sources: dict[str, set[Place]], node: ast.AST) -> None:
    match node:
        case ast.Assign(targets, value):
            for target in targets:
                _bind(sources, target, value)
        case ast.AnnAssign(target, _, ast.expr() as value) | ast.NamedExpr(target, value):
            _bind(sources, target, value)
        case ast.For(target, items) | ast.comprehension(target, items):
            _take_each(sources, target, items)


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
        for number, part in enumerate(target.elts):
            _add(sources, part, {(name, _join(path, (number,))) for name, path in places})


def _take_each(sources: dict[str, set[Place]], target: ast.expr, items: ast.expr) -> None:
    """Notes what the variables of a loop are."""
    match target, items:
        case ast.Tuple([_, part]), ast.Call(ast.Name("enumerate"), [inner, *_]):
            _take_each(sources, part, inner)
        case ast.Tuple(targets), ast.Call(ast.Name("zip"), collections) if len(targets) == len(collections):
            for part, inner in zip(targets, collections, strict=True):
                _take_each(sources, part, inner)
        case ast.Tuple([_, part]), ast.Call(ast.Attribute(inner, "items")):
            _add(sources, part, _items_of([inner]))
        case ast.Name(), _:
            _add(sources, target, _items_of([items]))
        case _:
            _add(sources, target, _item_of(items))


def _item_of(items: ast.expr) -> set[Place]:
    """Like ``_items_of``, also if an item is a tuple of objects of different collections."""
    places = _items_of([items])
    if any(
        (isinstance(node, ast.Name) and node.id in ("enumerate", "zip"))
        or (isinstance(node, ast.Attribute) and node.attr == "items")
        for node in own_nodes(items)
    ):
        return {(name, _join(path, (ANYWHERE,))) for name, path in places}
    return places


def _places(value: ast.expr) -> set[Place]:
    """Returns of which variables a value may be an object, or one inside."""
    match value:
        case ast.Name(name):
            return {(name, ())}
        case ast.Subscript(_, ast.Slice()):
            return set()  # a list of its own
        case ast.Attribute(inner) | ast.Subscript(inner):
            return _inside(_places(inner), _step(value))
        case ast.NamedExpr(_, inner):
            return _places(inner)
        case ast.IfExp(_, one, other):
            return _places(one) | _places(other)
        case ast.BoolOp(_, values):
            return {place for part in values for place in _places(part)}
        case ast.Call(ast.Name(name), arguments) if name in _ONE_ITEM:
            return {place for items in arguments for place in _item_of(items)}
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
                found |= _inside(_places(value), ANY)
    return found


def _inside(places: Iterable[Place], step: object) -> set[Place]:
    return {(name, _join(path, (step,))) for name, path in places}


def _step(node: ast.expr) -> object:
    match node:
        case ast.Attribute(_, name):
            return name
        case ast.Subscript(_, ast.Constant(key)):
            return key
    return ANY


def _within(node: ast.expr) -> list[Place]:
    """Returns the variable in which an object is, and its path there."""
    path: ObjectPath = ()
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node, path = node.value, (_step(node), *path)
    return [(node.id, _join((), path))] if isinstance(node, ast.Name) else []
