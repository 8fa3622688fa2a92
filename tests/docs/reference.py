"""Writes the pages of ``docs/reference`` that come from the code: ``python -m tests.docs.reference``.

Methods come from the services as they are served, words from their classes, commands and options from the command line.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

import duplex
from duplex_services.discovery import client as discovery_client
from duplex_services.discovery import open_directory
from duplex_services.discovery.commands import commands as discovery_commands
from duplex_services.store import client as store_client
from duplex_services.store import open_store, store_service
from duplex_services.store.commands import commands as store_commands
from tests.docs.markdown import ROOT

FOLDER: Final = ROOT / "docs" / "reference"

_MADE: Final = "Made by `python -m tests.docs.reference` from the code.\n"
_SECTION: Final = re.compile(r"(Args|Attributes|Returns|Raises|Yields):")


async def pages() -> dict[str, str]:
    """Return all such pages, by their names."""
    from duplex_services.discovery import discovery_service

    async with open_store("memory:") as store, open_directory(store, server="here") as directory:
        return {
            "discovery.md": _page(
                "Discovery",
                "[Find services by name](../how-to/find-services-by-name.md) shows how it is used, "
                "[find services with HTTP](../how-to/find-services-with-http.md) has the routes.",
                discovery_service(directory),
                discovery_client,
                discovery_commands,
            ),
            "store.md": _page(
                "The store",
                "[Keep state that several programs share](../how-to/keep-state-in-a-store.md) shows how it is used.",
                store_service(store),
                store_client,
                store_commands,
            ),
        }


def _page(title: str, where: str, service: duplex.Service, client: Any, commands: click.Group) -> str:
    parts = [
        f"# {title}: reference\n",
        f"{_MADE}{where}\n",
        f"## Methods of the service `{service.name}`\n",
        *(_method(spec) for spec in sorted(service.methods.values(), key=lambda spec: spec.method)),
        f"## Words of `{client.__name__}`\n",
        *_words(client),
        f"## `duplex {commands.name}`\n",
        *_commands(commands, f"duplex {commands.name}"),
    ]
    return "\n".join(parts)


# -- methods ---------------------------------------------------------------------------------------------


def _method(spec: Any) -> str:
    parameters = ", ".join(
        f"{one.name}: {_type(one.annotation)}"
        + ("" if one.default is inspect.Parameter.empty else f" = {one.default!r}")
        for one in spec.parameters
        if one.name != spec.stream_parameter
    )
    ways = [spec.kind.value.replace("_", " ")]
    if spec.idempotent:
        ways.append("idempotent")
    if spec.requires:
        ways.append(f"requires {', '.join(f'`{one}`' for one in sorted(spec.requires))}")
    returned = "" if spec.output_type in (None, type(None)) else f" → {_type(spec.output_type)}"
    taken = "" if spec.stream_parameter is None else f" ← {_type(spec.input_type)}"
    name = spec.method.partition(".")[2]
    return f"### `{name}`\n\n`{name}({parameters}){taken}{returned}`: {', '.join(ways)}.\n\n{_docs(spec.doc)}"


def _type(annotation: Any) -> str:
    if annotation is type(None):
        return "None"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is not None and origin.__name__ in ("UnionType", "Union"):
        return " | ".join(map(_type, arguments))
    if origin is not None and origin.__name__ == "Literal":
        return " | ".join(map(repr, arguments))
    if origin is not None:
        inner = ", ".join("..." if one is Ellipsis else _type(one) for one in arguments)
        return f"{origin.__name__}[{inner}]"
    return getattr(annotation, "__name__", str(annotation))


# -- words -----------------------------------------------------------------------------------------------


def _words(module: Any) -> Iterator[str]:
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or not isinstance(value, type) or not issubclass(value, msgspec.Struct):
            continue
        fields = [
            f"    {one.name}: {_type(one.type)}{_default(one)}" for one in msgspec.structs.fields(value)
        ]
        text = "\n".join(fields)
        yield f"### `{name}`\n\n```text\n{name}\n{text}\n```\n\n{_docs(value.__doc__)}"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return f" = {field.default!r}"
    if field.default_factory is not msgspec.NODEFAULT:
        return f" = {field.default_factory()!r}"
    return ""


# -- commands --------------------------------------------------------------------------------------------


def _commands(group: click.Group, before: str) -> Iterator[str]:
    names: dict[int, list[str]] = {}
    for name, command in group.commands.items():
        names.setdefault(id(command), []).append(name)
    for name, command in sorted(group.commands.items()):
        first, *others = sorted(names[id(command)])
        if name == first:
            yield _command(f"{before} {name}", command, [f"{before} {other}" for other in others])


def _command(name: str, command: click.Command, others: list[str]) -> str:
    context = click.Context(command, info_name=name)
    arguments = " ".join(
        one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)
    )
    lines = [f"### `{f'{name} {arguments}'.strip()}`\n", _docs(command.help)]
    if others:
        lines.append(f"Also called {', '.join(f'`{other}`' for other in others)}.\n")
    rows = [
        f"| `{_words_of(one, context)}` | {_cell(one)} |"
        for one in command.params
        if isinstance(one, click.Option)
    ]
    if rows:
        lines.append("\n".join(["| option | |", "|---|---|", *rows, ""]))
    return "\n".join(lines)


def _words_of(option: click.Option, context: click.Context) -> str:
    words = ", ".join([*option.opts, *option.secondary_opts])
    return words if option.is_flag else f"{words} {option.make_metavar(context)}".replace("|", "\\|")


def _cell(option: click.Option) -> str:
    text = (option.help or "").replace("  [default:", " [default:")
    if option.show_default and not option.is_flag:
        text += f" [default: {option.default}]"
    if option.envvar:
        text += f" `{option.envvar}`"
    return text.replace("|", "\\|").strip()


# -- docstrings ------------------------------------------------------------------------------------------


def _docs(text: str | None) -> str:
    """Return a docstring as Markdown: its sections become lists."""
    lines = inspect.cleandoc(text or "").replace("\b\n", "").splitlines()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_markdown(lines))).rstrip() + "\n"


def _markdown(lines: Iterable[str]) -> Iterator[str]:
    is_section = False
    for line in lines:
        section = _SECTION.fullmatch(line)
        if section is not None:
            is_section = True
            yield f"**{section[1]}**\n"
        elif is_section and line.startswith("    ") and not line.startswith("     "):
            name, colon, rest = line.strip().partition(": ")
            yield f"- `{name}`: {_plain(rest)}" if colon else f"- {_plain(line.strip())}"
        elif is_section and line.strip():
            yield f"  {_plain(line.strip())}"
        else:
            yield _plain(line)


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def main() -> None:
    import trio

    for name, text in trio.run(pages).items():
        Path(FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}: {len(text.splitlines())} lines\n")


if __name__ == "__main__":
    main()
