"""A service in plain data: what reflection sends, and what command lines, documents and gateways are made of."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET

from duplex.service._annotations import role_of
from duplex.service._arguments import REQUIRED, Parameter
from duplex.service._method import MethodSpec
from duplex.service._secret import has_secret, hide_defaults
from duplex.service._service import Service
from duplex.service._typetext import signature_text, type_text, value_text

ParameterKind: TypeAlias = Literal[
    "positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword"
]

_KINDS: Final[dict[Any, ParameterKind]] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.VAR_POSITIONAL: "var_positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "var_keyword",
}

#: What no JSON Schema can say of a value that stays connected, by its role.
_LIVE: Final = {
    "callback": ("callback", "a function of the sender, which the receiver may call while the call lasts"),
    "send": ("send_channel", "a channel, whose sending end the receiver gets"),
    "receive": ("receive_channel", "a channel, whose receiving end the receiver gets"),
    "channel": ("channel", "the call's own channel, both directions"),
}


class TypeDescription(msgspec.Struct, frozen=True):
    """A type.

    Attributes:
        type: as Python writes it, for humans.
        schema: JSON Schema, draft 2020-12; references are to ``$defs`` of the method. What JSON cannot hold
            has a ``description`` and a key ``x-duplex`` that says what it is.
    """

    type: str
    schema: dict[str, Any]


class ParameterDescription(msgspec.Struct, frozen=True):
    """A parameter of a method.

    Attributes:
        name: its name.
        kind: how it is passed, in Python's words.
        required: whether a call must have it among its arguments.
        stream: whether it is the call's own stream, which is not among the arguments.
        type: see :class:`TypeDescription`.
        schema: see :class:`TypeDescription`; of each further argument, if it is variadic.
        default: the default in plain data, or as Python text if it has no such form; absent without default, and if
            it is a :data:`duplex.Secret` or holds one.
    """

    name: str
    kind: ParameterKind
    required: bool
    stream: bool
    type: str
    schema: dict[str, Any]
    default: Any = UNSET


class MethodDescription(msgspec.Struct, frozen=True):
    """A method.

    Attributes:
        name: within the service.
        kind: ``"unary"``, ``"server_streaming"``, ``"client_streaming"`` or ``"bidirectional"``.
        signature: as Python writes it, for humans.
        doc: its documentation, or ``""``.
        idempotent: calling twice is as good as calling once.
        deprecated: what to use instead, or ``None``.
        resumable: the stream has cursors, and can go on behind one.
        requires: the permissions that callers need, sorted.
        parameters: in their order.
        input: each item that the caller streams in; ``None`` if it streams nothing.
        result: the result, or each item that is streamed out.
        defs: what the schemas refer to; in data, the key is ``$defs``.
    """

    name: str
    kind: Literal["unary", "server_streaming", "client_streaming", "bidirectional"]
    signature: str
    doc: str
    idempotent: bool
    deprecated: str | None
    resumable: bool
    requires: list[str]
    parameters: list[ParameterDescription]
    input: TypeDescription | None
    result: TypeDescription
    defs: dict[str, Any] = msgspec.field(name="$defs", default_factory=dict)


class ServiceDescription(msgspec.Struct, frozen=True):
    """A service.

    Attributes:
        name: its name.
        version: its version.
        description: what it is for, or ``""``.
        methods: in the order of their definition.
    """

    name: str
    version: str
    description: str
    methods: list[MethodDescription]


def describe_service(
    service: Service,
    method: str | None = None,
    describe: Callable[[MethodSpec], MethodDescription] | None = None,
) -> ServiceDescription:
    """Describe a service.

    Args:
        service: what to describe.
        method: the only method to describe; without it, all.
        describe: describes a method; :func:`describe_method` by default.

    Raises:
        KeyError: there is no such method.
        ConfigurationError: an annotation in the service cannot be resolved.
    """
    specs = service.methods.values() if method is None else [service.methods[method]]
    methods = list(map(describe or describe_method, specs))
    return ServiceDescription(service.name, service.version, service.description or "", methods)


def describe_method(spec: MethodSpec) -> MethodDescription:
    """Describe a method. Never fails: a type that has no schema gets ``{"description": ...}``."""
    input_types = [spec.input_type] if spec.kind.streams_input else []
    types = [*(p.annotation for p in spec.parameters), spec.output_type, *input_types]
    schemas, definitions = _schemas(types)
    secret = {
        p.name for p, schema in zip(spec.parameters, schemas, strict=False) if has_secret(schema, definitions)
    }
    parameters = [
        _describe_parameter(p, schema, stream=p.name == spec.stream_parameter, secret=p.name in secret)
        for p, schema in zip(spec.parameters, schemas, strict=False)
    ]
    result_schema, *input_schemas = schemas[len(parameters) :]
    return MethodDescription(
        name=spec.name,
        kind=spec.kind.value,
        signature=signature_text(spec.name, spec.parameters, _result_text(spec), hidden=secret),
        doc=spec.doc,
        idempotent=spec.idempotent,
        deprecated=spec.deprecated,
        resumable=spec.resumable,
        requires=sorted(spec.requires),
        parameters=parameters,
        input=TypeDescription(type_text(spec.input_type), input_schemas[0]) if input_schemas else None,
        result=TypeDescription(type_text(spec.output_type), result_schema),
        defs=hide_defaults(definitions, definitions),
    )


def _result_text(spec: MethodSpec) -> str | None:
    if spec.wants_channel:
        return "None"
    if spec.kind.streams_output:
        return f"AsyncIterator[{type_text(spec.output_type)}]"
    return None if spec.output_type is Any else type_text(spec.output_type)


def _describe_parameter(
    parameter: Parameter, schema: dict[str, Any], *, stream: bool, secret: bool
) -> ParameterDescription:
    return ParameterDescription(
        name=parameter.name,
        kind=_KINDS[parameter.kind],
        required=parameter.required and not stream,
        stream=stream,
        type=type_text(parameter.annotation),
        schema=schema,
        default=UNSET if secret else _plain(parameter.default),
    )


def _plain(default: Any) -> Any:
    if default is REQUIRED:
        return UNSET
    try:
        return msgspec.to_builtins(default, str_keys=True)
    except Exception:  # whatever a foreign object may do
        return value_text(default)


def _schemas(types: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a schema for each type, and the definitions that they share."""
    schemas = [_special_schema(annotation) for annotation in types]
    ordinary = [index for index, schema in enumerate(schemas) if schema is None]
    components, definitions = _components([types[index] for index in ordinary])
    for index, schema in zip(ordinary, components, strict=True):
        schemas[index] = schema
    return typing.cast("list[dict[str, Any]]", schemas), definitions


def _special_schema(annotation: Any) -> dict[str, Any] | None:
    """Return the schema of a type that msgspec has none for; ``None`` for all others."""
    if role_of(annotation) is not None:
        return _hook(typing.get_origin(annotation) or annotation)
    try:
        _components([annotation])
    except Exception as error:  # msgspec raises several kinds
        return {"description": f"{type_text(annotation)}, which JSON Schema cannot express: {error}"}
    return None


def _components(types: Sequence[Any]) -> tuple[Sequence[dict[str, Any]], dict[str, Any]]:
    schemas, definitions = msgspec.json.schema_components(
        types, schema_hook=_hook, ref_template="#/$defs/{name}"
    )
    return schemas, definitions


def _hook(cls: Any) -> dict[str, Any]:
    """Return the schema of a class that msgspec does not know."""
    role = role_of(cls)
    if role is not None:
        word, description = _LIVE[role]
        return {"description": description, "x-duplex": word}
    if cls is object:
        return {"description": "anything"}
    numpy = sys.modules.get("numpy")  # without it, no type can be of it
    if numpy is not None:
        for base, schema in (
            (numpy.ndarray, {"type": "object", "description": "a numpy array", "x-duplex": "ndarray"}),
            (numpy.bool_, {"type": "boolean"}),
            (numpy.integer, {"type": "integer"}),
            (numpy.floating, {"type": "number"}),
        ):
            if issubclass(cls, base):
                return schema
    return {"description": type_text(cls)}
