"""Templates, as Go has them, over what a source knows of a container: as much of the language as one line of tags needs.

There are fields (``.Config.Hostname``), functions, pipelines, parentheses, texts, numbers, ``if``, ``else``, ``range``, ``with`` and
``end``; no variables and no templates inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias, final

from duplex_services.registration._rules._functions import TemplateError, call, element, is_true, show

_ACTION: Final = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?[0-9]+)|(?P<field>\.[A-Za-z_]\w*)|(?P<mark>[.|()$])"""
    r"""|(?P<word>[A-Za-z_]\w*))"""
)
_KEYWORDS: Final = frozenset({"if", "range", "with", "else", "end"})
_CONSTANTS: Final[Mapping[str, object]] = {"true": True, "false": False, "nil": None}

#: A piece of an action: its kind, and its text.
_Token: TypeAlias = tuple[str, str]

#: A text; a pipeline; or a keyword with its pipeline, what is inside, and what is after ``else``.
_Node: TypeAlias = "str | list[_Token] | tuple[str, list[_Token], list[_Node], list[_Node]]"


@final
class Template:
    """A template that was read.

    Args:
        text: the template.

    Raises:
        TemplateError: it makes no sense, and why.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = _pieces(text)
        self._nodes, ending = _read(pieces)
        if ending:
            raise TemplateError(f"the template {text!r} has {ending!r} without a beginning")

    def render(self, data: object, fetched: Mapping[str, bytes] | None = None) -> str:
        """Return the text that the template makes of data.

        Args:
            data: what ``.`` is.
            fetched: the contents of addresses.

        Raises:
            TemplateError: it makes no sense with this data.
            WantedError: the content of an address is needed that is not among those.
        """
        return "".join(_render(self._nodes, data, data, fetched or {}))


def _pieces(text: str) -> Iterator[str | list[_Token]]:
    at = 0
    trims = False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        if trims:
            before = before.lstrip()
        yield before.rstrip() if match[1] else before
        if not match[2].strip().startswith("/*"):
            yield _tokens(match[2])
        at, trims = match.end(), bool(match[3])
    rest = text[at:]
    if "{{" in rest:
        raise TemplateError(f"the template {text!r} has a {{{{ without its end")
    yield rest.lstrip() if trims else rest


def _tokens(action: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while action[at:].strip():
        match = _TOKEN.match(action, at)
        if match is None:
            raise TemplateError(f"{action[at:].strip()!r} in {{{{{action}}}}} is not understood")
        kind = match.lastgroup
        assert kind is not None
        # ``.A.B`` goes on, ``f .A`` has two parts.
        glued = match.start(kind) == at and at > 0
        found.append((f"{kind}+" if kind == "field" and glued else kind, match[kind]))
        at = match.end()
    if not found:
        raise TemplateError("{{}} says nothing")
    return found


def _read(pieces: Iterator[str | list[_Token]]) -> tuple[list[_Node], str]:
    """Return the nodes up to ``else`` or ``end``, and which of them it was, with what follows ``else``."""
    nodes: list[_Node] = []
    for piece in pieces:
        if isinstance(piece, str):
            nodes.append(piece)
            continue
        kind, word = piece[0]
        if kind != "word" or word not in _KEYWORDS:
            nodes.append(piece)
        elif word in ("else", "end"):
            if len(piece) > 1:
                raise TemplateError(f"nothing may follow {word!r}")
            return nodes, word
        else:
            inside, ending = _read(pieces)
            otherwise: list[_Node] = []
            if ending == "else":
                otherwise, ending = _read(pieces)
            if ending != "end":
                raise TemplateError(f"{word!r} has no end")
            nodes.append((word, piece[1:], inside, otherwise))
    return nodes, ""


def _render(nodes: list[_Node], data: object, root: object, fetched: Mapping[str, bytes]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, list):
            yield show(_Evaluation(node, data, root, fetched).value())
        else:
            word, pipeline, inside, otherwise = node
            value = _Evaluation(pipeline, data, root, fetched).value()
            if not is_true(value):
                yield from _render(otherwise, data, root, fetched)
            elif word == "range":
                if not isinstance(value, list | tuple | dict):
                    raise TemplateError(f"range cannot go over {show(value)!r}")
                items = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
                for item in items:
                    yield from _render(inside, item, root, fetched)
            else:
                yield from _render(inside, value if word == "with" else data, root, fetched)


@final
class _Evaluation:
    """One pipeline, evaluated from left to right."""

    def __init__(
        self, tokens: list[_Token], data: object, root: object, fetched: Mapping[str, bytes]
    ) -> None:
        self._tokens = tokens
        self._at = 0
        self._data = data
        self._root = root
        self._fetched = fetched

    def value(self) -> object:
        found = self._pipeline()
        if self._at < len(self._tokens):
            raise TemplateError(f"{self._tokens[self._at][1]!r} is not expected there")
        return found

    def _peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _pipeline(self) -> object:
        value = self._command(())
        while self._peek() == ("mark", "|"):
            self._at += 1
            value = self._command((value,))
        return value

    def _command(self, piped: tuple[object, ...]) -> object:
        kind, word = self._peek()
        if kind == "word" and word not in _CONSTANTS:
            self._at += 1
            return call(word, [*self._operands(), *piped], self._fetched)
        operands = self._operands()
        if len(operands) != 1 or piped:
            raise TemplateError("a part of a pipeline is one value, or a function and what it is applied to")
        return operands[0]

    def _operands(self) -> list[object]:
        found: list[object] = []
        while self._peek()[0] != "end" and self._peek()[1] not in ("|", ")"):
            found.append(self._fields(self._operand()))
        return found

    def _operand(self) -> object:
        kind, word = self._peek()
        self._at += 1
        if kind == "text":
            if word.startswith("`"):
                return word[1:-1]
            try:
                return json.loads(word)
            except ValueError:
                raise TemplateError(f"{word} is no text") from None
        if kind == "number":
            return int(word)
        if kind in ("field", "field+"):
            return element(self._data, word[1:])
        if word == ".":
            return self._data
        if word == "$":
            return self._root
        if word == "(":
            value = self._pipeline()
            if self._peek()[1] != ")":
                raise TemplateError("a parenthesis is not closed")
            self._at += 1
            return value
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        # A function without arguments, as an argument.
        return call(word, [], self._fetched)

    def _fields(self, value: object) -> object:
        while self._peek()[0] == "field+":
            value = element(value, self._tokens[self._at][1][1:])
            self._at += 1
        return value
