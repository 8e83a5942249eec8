"""``Workflow``: the base class of workflows. It compiles the definition when a class is created."""

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, from_json, to_json

from workflow_core.access import Access, check_access, narrows_nothing
from workflow_core.adapters import JsonSchema, LateSchema, SchemaGenerator, adapter_of, certainly_has_schema
from workflow_core.comparing import Changed
from workflow_core.defaults import check_field_defaults
from workflow_core.error_texts import field_texts
from workflow_core.errors import DefinitionError, InvalidFields, InvalidInput
from workflow_core.field_checks import check_fields
from workflow_core.garbage import no_collection
from workflow_core.inputs import from_client
from workflow_core.migration import migrated
from workflow_core.plain.methods import RUN, plain_run
from workflow_core.plain.vocabulary import Method
from workflow_core.principal import Action, Principal
from workflow_core.program.compiler import compile_definition
from workflow_core.program.program import Program
from workflow_core.program.scope import ANNOTATION_NAMES, Scope, surrounding_names
from workflow_core.replacements import WorkflowClass
from workflow_core.retry import Retry
from workflow_core.search_fields import check_search_fields
from workflow_core.signatures import is_async, parameters
from workflow_core.statements.basic import Section
from workflow_core.value_form import LateForm, Packed, ValueForm, pack_untyped

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Workflow(BaseModel, metaclass=WorkflowClass):
    """A workflow: a pydantic model, whose fields are saved, with a ``definition``.

    The definition is compiled when the class is created. A mistake in it raises ``DefinitionError`` at import. A
    subclass that neither has nor inherits a definition is abstract.

    Args:
        name: the workflow's name in URLs and in the database: letters, digits, ``_`` and ``-``; by default the
            name of the class.
        version: the version of its fields, from 1. Increase it if older stored fields need ``migrate``. By default the
            version of the base class.

    Attributes:
        create_fields: names of the fields that a client may set when it creates an instance; by default none.
        search_fields: names of fields by which instances can be listed: texts, 64-bit numbers, booleans, and types that
            are serialized as text, such as dates. Searches do not find texts of 1,500 bytes and more.
        default_retry: the retry policy of steps and activities without a policy; None: the policy in the engine's
            options.
        access: the roles that principals need; see ``Access``. It does not concern code that uses the engine itself.

    Example:
        >>> from gorchestrate import On, S, Select, Workflow
        >>> class Door(Workflow, name="door"):
        ...     is_open: bool = False
        ...     def open(self) -> None:
        ...         self.is_open = True
        ...     definition = S(Select("closed", On("Open", open)))
        >>> Door.__workflow_name__
        'door'
    """

    model_config = ConfigDict(ignored_types=(Section, Method))

    definition: ClassVar[Section]
    search_fields: ClassVar[tuple[str, ...]] = ()
    default_retry: ClassVar[Retry | None] = None
    access: ClassVar[Access] = Access()
    create_fields: ClassVar[tuple[str, ...]] = ()

    __workflow_version__: ClassVar[int] = 1

    if TYPE_CHECKING:  # pydantic evaluates each annotation for each subclass
        __workflow_name__: ClassVar[str]
        __program__: ClassVar[Program]
        __fields_schema__: ClassVar[LateSchema]
        """Makes the schema of the stored fields; see ``stored_schema``."""
        __form__: ClassVar[ValueForm]
        __input_form__: ClassVar[ValueForm]
        """The form of initial fields that a parent passes on; ``new`` also accepts aliases."""
        __created_by__: ClassVar[tuple[str, ...]]
        """The fields that are marked with ``CreatedBy``."""
        __result__: ClassVar[ValueForm | None]
        """The form of what the method ``result`` returns; None if there is none, or its type is not known."""

    def __init_subclass__(cls, *, name: str | None = None, version: int | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str | None = None, version: int | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        with no_collection():
            _prepare(cls, name, version)

    @narrows_nothing
    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        """Narrows what the roles of a principal allow, from the fields of the instance. Override this method.

        It is called on the state that is read or about to be changed, and must not change the fields.

        Args:
            event: the name of the event, for ``Action.SEND``.

        Returns:
            False denies. Every other answer leaves it to the roles.
        """
        return None

    @classmethod
    def visible(cls, principal: Principal) -> Mapping[str, Any] | None:
        """Narrows the lists that a principal gets to the instances with these values in their search fields. Override
        this method. ``authorize`` is not asked for each instance of a list.

        Returns:
            Values by the name of their search field. None: all instances.
        """
        return None

    @classmethod
    def model_json_schema(cls, *args: Any, **settings: Any) -> JsonSchema:
        """See ``BaseModel.model_json_schema``. Defaults that are secrets are left out."""
        return super().model_json_schema(*args, **({"schema_generator": SchemaGenerator} | settings))

    @classmethod
    def new(cls, fields: bytes | str = b"") -> Self:
        """Returns a workflow with initial fields from a JSON object. Unknown fields are rejected. Empty: all defaults.

        Raises:
            InvalidInput: a field is unknown, missing, or of the wrong type.
            InvalidFields: a validator of the workflow raised an error that is not a ``ValueError``.
        """
        what = f"the initial fields of workflow {cls.__workflow_name__!r}"
        options = {"extra": "forbid", "by_alias": True, "by_name": True}
        try:
            new: Self = from_client(what, fields.strip() or "{}", cls.__input_form__, **options)
            return new
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidFields(f"{what} cannot be validated: {type(error).__name__}: {error}") from error

    def dump_fields(self) -> str:
        """Returns the fields as the JSON text that is saved.

        Raises:
            InvalidFields: a field has a value that its type does not allow.
        """
        try:
            return type(self).__form__.dump(self).decode()
        except PydanticSerializationError as error:
            raise InvalidFields(f"the fields of {type(self).__name__} cannot be saved: {error}") from error

    def refuse_changes(self, loaded: Self) -> None:
        """Compares the fields with those that were loaded from what ``dump_fields`` returned.

        Raises:
            InvalidFields: a value would be changed by saving and loading it. The error names it.
        """
        if (compare := type(self).__form__.compare) is not None:
            try:
                compare(self, loaded, ())
            except Changed as error:
                raise InvalidFields(f"saving would change a field of {type(self).__name__}: {error}") from None

    @classmethod
    def shown_fields(cls, fields: str | bytes) -> dict[str, Any]:
        """Returns what ``dump_fields`` returned as data for clients: secrets are masked.

        Raises:
            InvalidFields: the fields do not match their types.
        """
        form = cls.__form__
        shown: dict[str, Any] = from_json(form.shown(cls.load_fields(fields)) if form.has_secrets else fields)
        return shown

    def result_json(self) -> bytes:
        """Returns the result of a finished instance as JSON: the return value of its method ``result``, its field of
        that name, or all its fields if it has neither.

        Raises:
            InvalidFields: the result cannot be converted to JSON, or would be another value after that.
            UnusableResult: ``result`` returned a value by accident.
        """
        return self.pack_result().text

    def pack_result(self) -> Packed:
        """Like ``result_json``; also returns whether the result contains secrets."""
        from workflow_core.accidents import refuse_accident  # here, because the definition of a workflow needs none

        cls = type(self)
        try:
            if "result" in cls.model_fields or not hasattr(self, "result"):
                packed = cls.__form__.pack(self)
                return packed if not hasattr(self, "result") else packed.part("result")
            result = self.result() if callable(self.result) else self.result
            refuse_accident(result, f"the method 'result' of {cls.__name__}")
            if cls.__result__ is None:
                return Packed(to_json(pack_untyped(result, ("result",))))
            return cls.__result__.pack(result, ("result",))
        except PydanticSerializationError as error:
            raise InvalidFields(f"the result of {cls.__name__} cannot be converted to JSON: {error}") from error

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        """Converts the stored fields of an older version of the workflow to the current version. Override this method.

        It is called each time such an instance is loaded, until a commit saves the new fields, so it must have no other
        effects. By default, it returns the fields unchanged. What it returns may contain fields that the class does not
        have, but not instead of a field with nearly the same name.

        Args:
            version: the version that stored the fields; lower than the class's version.
            fields: the stored fields as JSON data; may be changed.

        Example:
            >>> from gorchestrate import S, Step, Workflow
            >>> class Invoice(Workflow, name="invoice", version=2):
            ...     cents: int = 0
            ...     @classmethod
            ...     def migrate(cls, version, fields):
            ...         fields["cents"] = round(fields.pop("amount") * 100)
            ...         return fields
            ...     definition = S(Step("send", lambda w: None))
            >>> Invoice.load_fields('{"amount": 9.5}', 1).cents
            950
        """
        return fields

    @classmethod
    def load_fields(cls, fields: str | bytes, version: int | None = None) -> Self:
        """Loads what ``dump_fields`` returned.

        Args:
            version: the version that dumped the fields (see ``Execution.fields_version``); by default the class's
                version.

        Raises:
            InvalidFields: the fields do not match their types or cannot be migrated, or a validator raised an error
                that is not a ``ValueError``.
            NewerVersion: a newer version stored the fields.
        """
        if version is not None:
            fields = migrated(cls, fields, version)
        try:
            try:
                loaded: Self = cls.__form__.load(fields)
            except ValidationError as error:
                if not all(detail["type"] == "extra_forbidden" for detail in error.errors(include_url=False)):
                    raise
                # The code no longer has a field, in a model that refuses others.
                loaded = cls.__form__.load(fields, extra="ignore")
            return loaded
        except ValidationError as error:
            what = f"the fields of {cls.__name__} do not fit their types: {field_texts(error)}"
            raise InvalidFields(what) from (None if cls.__form__.has_secrets else error)  # a log shows the values
        except Exception as error:
            raise InvalidFields(
                f"the fields of {cls.__name__} cannot be validated: {type(error).__name__}: {error}"
            ) from error


def _prepare(cls: type[Workflow], name: str | None, version: int | None) -> None:
    """Checks a new class and compiles its definition, if it is not abstract.

    Raises:
        DefinitionError: there is a mistake in it.
    """
    cls.__workflow_name__ = cls.__name__ if name is None else name
    if version is not None:
        if type(version) is not int or version < 1:
            raise DefinitionError(
                f"workflow {cls.__workflow_name__!r}", f"its version is {version!r}", "Use 1, 2, 3, ..."
            )
        cls.__workflow_version__ = version
    type.__setattr__(cls, ANNOTATION_NAMES, surrounding_names(cls))
    where = f"workflow {cls.__workflow_name__!r}"
    if cls.__pydantic_complete__:  # also for an abstract class, whose fields can be dumped
        cls.__form__ = _form(where, cls, by_alias=False)
        cls.__input_form__ = LateForm(lambda: _form(where, cls, by_alias=True))
    generic = cls.__pydantic_generic_metadata__
    run = plain_run(cls)
    if name is None and not hasattr(cls, "definition") and run is None:
        return
    if name is None and (generic["origin"] or generic["parameters"]):
        return
    if not _NAME.fullmatch(cls.__workflow_name__):
        raise DefinitionError(where, "the name is not valid in a URL", f"Use {_NAME.pattern}.")
    check_fields(where, cls, Workflow)
    if run is None and not hasattr(cls, "definition"):
        fix = "Write async def run(self), or definition = S(...), in the class."
        reason = "its method run is not async" if callable(getattr(cls, RUN, None)) else "it has no definition"
        raise DefinitionError(where, reason, fix)
    for setting in ("search_fields", "default_retry", "access", "create_fields"):
        if setting in cls.model_fields:
            raise DefinitionError(
                where, f"{setting!r} has an annotation, which makes it a field", f"Write {setting} = ... without."
            )
    is_certain = cls.__pydantic_complete__ and certainly_has_schema(cls.__pydantic_core_schema__)
    cls.__fields_schema__ = _schema(where, cls)
    if not is_certain:
        cls.__fields_schema__()
    if cls.search_fields:
        check_search_fields(where, cls, no_serializers=is_certain)
    check_access(where, cls)
    check_field_defaults(where, cls)
    scope = Scope(cls, is_plain=run is not None)
    cls.__result__ = _result_form(where, cls, scope)
    if run is not None:
        # Imported lazily: the compiler takes a fifth of the import of the core.
        from workflow_core.plain.compile import compile_run

        cls.definition = compile_run(cls, run, scope)
    cls.__program__ = compile_definition(cls.__workflow_name__, cls.definition, scope, cls.__workflow_version__)
    cls.__program__.refresh(cls, cls.__program__.methods)


def _form(where: str, cls: type[Workflow], *, by_alias: bool) -> ValueForm:
    schema = cls.__pydantic_core_schema__
    form = ValueForm(schema, cls.__pydantic_validator__, cls.__pydantic_serializer__, by_alias=by_alias)
    if form.has_secrets and cls.__pydantic_decorators__.model_serializers:
        raise DefinitionError(
            where,
            "it has a model_serializer and secrets, so its views could not mask them",
            "Write serializers for single fields, or put the secrets into a model of their own.",
        )
    return form


def _result_form(where: str, cls: type[Workflow], scope: Scope) -> ValueForm | None:
    """Returns the form of what the method ``result`` returns; None if the class has none, or without an annotation."""
    method = None if "result" in cls.model_fields else getattr(cls, "result", None)
    if not callable(method):
        return None
    where = f"the method 'result' of {where}"
    parameters(where, method, 0, 1, "the workflow alone")
    if is_async(method):
        raise DefinitionError(where, "it is async", "Compute the result in a Step, and store it in a field.")
    annotation = scope.hints(where, method).get("return", Any)
    form = ValueForm.of(adapter_of(where, annotation, scope.names(method)))
    return None if form.is_any else form


def _schema(where: str, cls: type[Workflow]) -> LateSchema:
    @cache
    def schema() -> JsonSchema:
        from workflow_core.stored_schema import stored_schema  # here, because most definitions need none

        try:
            return stored_schema(cls)
        except (PydanticUserError, PydanticInvalidForJsonSchema, NameError) as error:
            raise DefinitionError(
                where,
                f"its fields have no JSON schema: {str(error).splitlines()[0].removesuffix('.')}",
                "Use types that pydantic can convert to JSON, defined above the workflow.",
            ) from error

    return schema
