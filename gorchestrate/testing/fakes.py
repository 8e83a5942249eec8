"""What replaces the methods and the children of a workflow in a test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from workflow_core import ActivityContext, DefinitionError, Fail, S, Step, StepContext, Workflow
from workflow_core.events import EVENT_MARK, event_mark
from workflow_core.plain.methods import method_of
from workflow_core.plain.vocabulary import ActivityMethod, Method, StepMethod
from workflow_core.replacements import original, own_attributes
from workflow_core.signatures import is_async

_KEPT = ("__doc__", "create_fields", "search_fields", "access")
"""What a fake child takes from the class that it replaces."""


_INHERITED: Final = object()

_stacks: dict[tuple[type[Workflow], str], list[Any]] = {}
"""What replaces each method now, in all environments: first its own value, then the fakes, the newest last.
Environments may be closed in any order, so one that is closed takes away its own fakes only."""


def _push(workflow: type[Workflow], name: str, fake: Callable[..., Any]) -> None:
    own = vars(workflow).get(name, _INHERITED)
    setattr(workflow, name, fake)  # may refuse it
    _stacks.setdefault((workflow, name), [own]).append(fake)


def _remove(workflow: type[Workflow], name: str, fake: Callable[..., Any]) -> None:
    stack = _stacks[workflow, name]
    stack.remove(fake)
    if len(stack) == 1:
        del _stacks[workflow, name]
    if stack[-1] is _INHERITED:
        delattr(workflow, name)
    else:
        setattr(workflow, name, stack[-1])


class Fakes:
    """The replacements of one environment."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._failures: list[AssertionError] = []

    def replace(self, workflow: type[Workflow], name: str, replacement: Callable[..., Any]) -> None:
        """See ``Environment.fake``."""
        called = workflow.__program__.methods
        available = {*called, *_decorated(workflow)}
        if name not in available:
            raise DefinitionError(
                f"{workflow.__name__}.{name}",
                "its definition calls no such method, so nothing would call the fake",
                f"Available: {', '.join(sorted(available)) or 'none'}.",
            )
        method = original(workflow, name)
        function = method.function if isinstance(method, Method) else method
        fake = _fitting(f"{workflow.__name__}.{name}", function, replacement, self._failures.append)
        if (mark := event_mark(function)) is not None:
            setattr(fake, EVENT_MARK, mark)  # ``Selected.happened`` asks for it
        _push(workflow, name, fake)
        self._undo.append(functools.partial(_remove, workflow, name, fake))

    def child(self, workflow: type[Workflow], fields: Mapping[str, Any], error: str) -> type[Workflow]:
        """Returns a workflow that takes the place of another one. See ``Environment.fake_child``."""
        unknown = sorted(set(fields) - set(workflow.model_fields))
        if unknown:
            raise TypeError(
                f"{workflow.__name__} has no field {unknown[0]!r}. Available: {', '.join(workflow.model_fields)}"
            )

        def end(child: Any) -> None:
            for name, value in fields.items():
                setattr(child, name, value)

        kept = {name: value for name, value in own_attributes(workflow).items() if name in _KEPT}
        definition = S(Fail("fail", error)) if error else S(Step("end", end))
        make: Any = type(workflow)
        fake: type[Workflow] = make(
            workflow.__name__,
            (workflow,),
            {"__module__": workflow.__module__, **kept, "definition": definition},
            name=workflow.__workflow_name__,
            version=workflow.__workflow_version__,
        )
        return fake

    def raise_failure(self) -> None:
        """Raises the first assertion that failed in a fake since the last call. The workflow took it for an error of
        its step, and would try again for ever."""
        if self._failures:
            failures, self._failures[:] = list(self._failures), []
            raise failures[0]

    def undo(self) -> None:
        """Puts the replaced methods back, the last one first."""
        while self._undo:
            self._undo.pop()()


def _decorated(workflow: type[Workflow]) -> set[str]:
    names = {name for cls in workflow.__mro__ for name in own_attributes(cls) if not name.startswith("__")}
    return {name for name in names if isinstance(method_of(workflow, name), (StepMethod, ActivityMethod))}


def _fitting(
    where: str,
    function: Callable[..., Any],
    replacement: Callable[..., Any],
    on_failure: Callable[[AssertionError], None],
) -> Callable[..., Any]:
    """Returns the replacement as a function that is called like the original: it may leave out the context, and it may
    be synchronous although the original is not. ``on_failure`` gets the assertions that fail in it.

    Raises:
        TypeError: the parameters do not match.
    """
    if is_async(replacement) and not is_async(function):
        raise TypeError(f"{where} is not async, so its fake must not be async either: replace it by a plain function")
    expected = list(inspect.signature(function).parameters.values())[1:]
    names = [parameter.name for parameter in expected]
    taken = inspect.signature(replacement)
    called_with = f"It is called with self, and with: {', '.join(names) or 'nothing else'}"
    unknown = [name for name, it in list(taken.parameters.items())[1:] if _is_required(it) and name not in names]
    if unknown:
        raise TypeError(f"the fake of {where} has a parameter {unknown[0]!r}. {called_with}")
    try:
        args, kwargs = _arguments(taken, dict.fromkeys(names), {it.name for it in expected if _is_context(it)})
        taken.bind(None, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"the fake of {where} cannot be called: {error}. {called_with}") from None

    def call(workflow: Any, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        contexts = {name for name, value in given.items() if isinstance(value, (StepContext, ActivityContext))}
        positional, named = _arguments(taken, given, contexts)
        try:
            return replacement(workflow, *positional, **named)
        except AssertionError as error:
            on_failure(error)
            raise

    async def acall(workflow: Any, *args: Any, **kwargs: Any) -> Any:
        result = call(workflow, *args, **kwargs)
        try:
            return await result if inspect.isawaitable(result) else result
        except AssertionError as error:
            on_failure(error)
            raise

    return acall if is_async(function) else call


def _arguments(
    taken: inspect.Signature, given: Mapping[str, Any], contexts: Collection[str]
) -> tuple[list[Any], dict[str, Any]]:
    """Returns how a replacement is called: by name, or by position if it takes ``*args``. A context may be left out."""
    kinds = {parameter.kind for parameter in taken.parameters.values()}
    by_name = {name for name, parameter in taken.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return [], dict(given)
    given = {name: value for name, value in given.items() if name in taken.parameters or name not in contexts}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return (
            [value for name, value in given.items() if name not in by_name],
            {name: value for name, value in given.items() if name in by_name},
        )
    return [], dict(given)


def _is_context(parameter: inspect.Parameter) -> bool:
    """Whether a replacement may leave it out: by its type, or by its usual name if it has none."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return parameter.name == "context"
    shown = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return shown.endswith(("StepContext", "ActivityContext"))


def _is_required(parameter: inspect.Parameter) -> bool:
    kinds = (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return parameter.default is parameter.empty and parameter.kind in kinds
