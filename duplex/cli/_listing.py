"""What ``duplex list`` and ``duplex describe`` show: services and methods, as text and as JSON."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import click
import msgspec

import duplex
from duplex.cli._output import to_json
from duplex.cli._report import printable
from duplex.cli._session import REFLECTION, linked, reflect
from duplex.cli._shapes import bounds, named_types, shape
from duplex.cli._words import Method

#: Services whose names begin with this are on every peer.
_BUILT_IN: Final = "duplex."

T = TypeVar("T")


class Summary(msgspec.Struct, frozen=True):
    """A service and the names of its methods."""

    name: str
    version: str = ""
    description: str | None = None
    methods: list[str] | None = None


class Description(msgspec.Struct, frozen=True):
    """A service and its methods."""

    name: str
    version: str = ""
    description: str | None = None
    methods: list[Method] = []


async def show_list(endpoint: str, *, connect_timeout: float, as_json: bool, everything: bool) -> None:
    """Write the services of a peer and the names of their methods to stdout.

    Of a peer that does not describe its services there are only names and versions.
    """
    async with linked(endpoint, connect_timeout) as link:
        if REFLECTION in link.services:
            answer = await reflect(link, "services", timeout=connect_timeout)
        else:
            answer = [{"name": name, "version": version} for name, version in sorted(link.services.items())]
    pairs = [
        (summary, plain)
        for summary, plain in zip(_read(answer, list[Summary]), answer, strict=True)
        if everything or not summary.name.startswith(_BUILT_IN)
    ]
    if as_json:
        _write_json([plain for _, plain in pairs])
        return
    for summary, _ in pairs:
        _write_heading(summary)
        for method in summary.methods or ():
            click.echo(printable(f"  {summary.name}.{method}"))


async def show_description(endpoint: str, name: str | None, *, connect_timeout: float, as_json: bool) -> None:
    """Write the description of a service, a method or a type, or of all services that are not built in, to stdout."""
    async with linked(endpoint, connect_timeout) as link:

        async def describe(service: str, method: str | None = None) -> Any:
            return await reflect(link, "describe", service, method, timeout=connect_timeout)

        async def describe_all(left_out: str | tuple[()] = ()) -> list[Any]:
            return [
                await describe(service)
                for service in sorted(link.services)
                if not service.startswith(left_out)
            ]

        method = None
        if name is None:
            answer: Any = await describe_all(left_out=_BUILT_IN)
            services = _read(answer, list[Description])
        elif name not in link.services and (
            name in (types := _types(await describe_all())) or "." not in name
        ):
            if name not in types:
                raise duplex.NotFound(
                    f"no service {name!r} and no type of that name is there; there are the services "
                    f"{', '.join(sorted(link.services))} and the types {', '.join(sorted(types)) or '(none)'}"
                )
            _show_type(name, types[name], as_json=as_json)
            return
        elif name in link.services:
            answer = await describe(name)
            services = [_read(answer, Description)]
        else:
            service, _, method = name.rpartition(".")
            answer = await describe(service, method)
            services = [_read(answer, Description)]
            answer = answer["methods"][0]
    if as_json:
        _write_json(answer)
    elif method is not None:
        _write_methods(services[0].methods, prefix=f"{services[0].name}.")
    else:
        for index, described in enumerate(services):
            if index:
                click.echo()
            _write_heading(described)
            click.echo()
            _write_methods(described.methods, indent="    ")


def _types(answer: list[Any]) -> dict[str, dict[str, Any]]:
    """Return the types that the descriptions of services refer to by name, each with all types of its method."""
    return {
        name: method.defs
        for service in _read(answer, list[Description])
        for method in service.methods
        for name, schema in method.defs.items()
        if isinstance(schema, dict)
    }


def _show_type(name: str, defs: dict[str, Any], *, as_json: bool) -> None:
    names = [name, *(other for other in named_types([defs[name]], defs) if other != name)]
    if as_json:
        _write_json({"$ref": f"#/$defs/{name}", "$defs": {each: defs[each] for each in names}})
        return
    for each in names:
        if doc := defs[each].get("description"):
            click.echo(textwrap.indent(printable(str(doc)), "# "))
        _write_shape(each, defs)


def _write_shape(name: str, defs: dict[str, Any], indent: str = "") -> None:
    for line in shape(name, defs):
        click.echo(f"{indent}{printable(line)}")


def _read(answer: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise duplex.Internal(
            f"the peer's description of its services cannot be understood: {error}"
        ) from None


def _write_json(value: Any) -> None:
    click.echo(to_json(value, pretty=True).decode())


def _write_heading(service: Summary | Description) -> None:
    title = click.style(printable(f"{service.name} {service.version}"), bold=True)
    description = printable(service.description or "").split("\n\n")[0]
    click.echo(f"{title}  {' '.join(description.split())}".rstrip())


def _write_methods(methods: Sequence[Method], *, prefix: str = "", indent: str = "") -> None:
    for index, method in enumerate(methods):
        if index:
            click.echo()
        click.echo(indent + _highlighted(printable(prefix + (method.signature or method.name))))
        notes = [f"Deprecated: {method.deprecated}"] if method.deprecated else []
        notes += ["Idempotent: the call may be repeated."] if method.idempotent else []
        notes += ["Resumable: the stream can go on behind a cursor."] if method.resumable else []
        notes += [f"Requires: {', '.join(method.requires)}."] if method.requires else []
        for paragraph in (method.doc, "\n".join(notes), "\n".join(_bounds(method))):
            if paragraph:
                click.echo(textwrap.indent(printable(paragraph), f"{indent}    "))
    schemas = [schema for method in methods for schema in _schemas(method)]
    defs = {name: its for method in methods for name, its in method.defs.items()}
    for index, name in enumerate(named_types(schemas, defs)):
        if not index:
            click.echo()
        _write_shape(name, defs, indent)


def _schemas(method: Method) -> list[dict[str, Any]]:
    """Return the schemas of what goes in and comes out of a method."""
    items = [method.input.schema] if method.input is not None else []
    return [*(parameter.schema for parameter in method.parameters), *items, method.result.schema]


def _bounds(method: Method) -> list[str]:
    """Return what the signature does not show: the bounds of arguments."""
    found = [(parameter.name, bounds(parameter.schema)) for parameter in method.parameters]
    if method.input is not None:
        found.append(("each item", bounds(method.input.schema)))
    return [f"{name}: {limits}" for name, limits in found if limits]


def _highlighted(signature: str) -> str:
    """Return a signature in the colours of Python if stdout is a terminal."""
    if not sys.stdout.isatty():
        return signature
    from rich.console import Console
    from rich.syntax import Syntax

    console = Console(width=max(80, 2 * len(signature)))
    python = Syntax("", "python", theme="ansi_dark", background_color="default")
    with console.capture() as captured:
        console.print(python.highlight(signature), end="")
    return captured.get().rstrip("\n")
