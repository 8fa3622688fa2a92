"""From the JSON of a scenario to what goes over the wire: the markers that ``spec/scenarios/README.md`` lists."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack

#: The most bytes that one marker makes. A peer whose limits are beyond it cannot have them exceeded.
MAX_FILL: Final = 64 * 1024 * 1024
MAX_COUNT: Final = 100_000

_OPERATORS: Final = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv)

#: What the tool may send on the link, and on one of its channels.
_CREDIT: Final = re.compile(r"credit(?:_([1-9][0-9]*))?")

#: What a map with one of these as its only key is: not a map, but what the key says.
MARKERS: Final = frozenset(
    {
        "hex",
        "utf8",
        "fill",
        "concat",
        "msgpack",
        "ext",
        "blob",
        "text",
        "unique",
        "entries",
        "times",
        "channel",
    }
    | {"literal", "float"}
)


class ScenarioError(Exception):
    """A scenario is malformed: the fault of its author."""


class CannotDriveError(Exception):
    """A scenario cannot be driven against this implementation; says why."""


class Values:
    """Turns the JSON of one scenario's run into values.

    Args:
        own_first: the first number of this tool's channels, 1 or 2.
        unique: random text; ``{"unique": word}`` is the word with it.
        balance: what the tool may send on the first of its channels, the second, and so on, or, for 0, on the link; ``None``
            if that is not known.
    """

    def __init__(
        self, *, own_first: int, unique: str, balance: Callable[[int], int | None] = lambda _place: None
    ) -> None:
        self._own_first = own_first
        self._unique = unique
        self._balance = balance
        #: Limits and what patterns captured, by name.
        self.names: dict[str, Any] = {"ours": own_first, "theirs": 3 - own_first}

    def build(self, value: Any) -> Any:
        """Return a value with its markers replaced."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.build(item) for item in value]
        if isinstance(value, dict):
            if len(value) == 1:
                [(marker, argument)] = value.items()
                if marker in MARKERS:
                    return self._marked(marker, argument)
            return {key: self.build(item) for key, item in value.items()}
        return value

    def channel(self, text: str) -> int:
        """Return the number of ``@1``, the first of this side's channels, ``@2`` the second, and so on."""
        return self._own_first + 2 * (int(text[1:]) - 1)

    def number(self, value: Any, at_most: int = 2**64) -> int:
        """Return a count or size: a number, or an expression such as ``=max_commands + 1``.

        Raises:
            CannotDriveError: it is more than ``at_most``.
        """
        number = self.build(value)
        if not isinstance(number, int):
            raise ScenarioError(f"{value!r} is no number")
        if number > at_most:
            raise CannotDriveError(f"{str(value).removeprefix('=')} is {number} here, too much to send")
        return number

    def _text(self, text: str) -> Any:
        if text.startswith("=") and len(text) > 1:
            return self._evaluate(ast.parse(text[1:].strip(), mode="eval").body, text)
        if text.startswith("@") and text[1:].isdecimal():
            return self.channel(text)
        if text.startswith("$") and text[1:].isidentifier():
            return self._name(text[1:], text)
        return text

    def _name(self, name: str, text: str) -> Any:
        if (credit := _CREDIT.fullmatch(name)) is not None:
            balance = self._balance(int(credit[1] or 0))
            if balance is not None:
                return balance
        if name not in self.names:
            raise ScenarioError(f"{text!r} names {name}, which nothing captured")
        return self.names[name]

    def _evaluate(self, node: ast.expr, text: str) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            return int(self._name(node.id, text))
        if isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATORS):
            left, right = self._evaluate(node.left, text), self._evaluate(node.right, text)
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(node.op, ast.Sub):
                return left - right
            if isinstance(node.op, ast.Mult):
                return left * right
            return left // right
        raise ScenarioError(f"{text!r} is no expression: only names, whole numbers, +, -, * and //")

    def _times(self, count: Any, item: Any) -> list[Any]:
        items = []
        for number in range(self.number(count, MAX_COUNT)):
            self.names["n"] = number
            items.append(self.build(item))
        return items

    def _marked(self, marker: str, argument: Any) -> Any:
        if marker == "hex":
            return bytes.fromhex(argument)
        if marker == "utf8":
            return argument.encode()
        if marker == "literal":
            return argument
        if marker == "float":
            return float(argument)
        if marker == "fill":
            return bytes(self.number(argument, MAX_FILL))
        if marker == "blob":
            return _blob(self.number(argument, MAX_FILL))
        if marker == "times":
            return self._times(*argument)
        if marker == "concat":
            return b"".join(self.build(part) for part in argument)
        if marker == "text":
            return "x" * self.number(argument, MAX_FILL)
        if marker == "entries":
            return {f"key-{number}": "" for number in range(self.number(argument, MAX_COUNT))}
        if marker == "unique":
            return f"{argument}-{self._unique}"
        if marker == "channel":
            return self.channel(f"@{self.number(argument)}")
        if marker == "ext":
            code, body = argument
            return msgpack.ExtType(code, pack(self.build(body)))
        return pack(self.build(argument))


def _blob(size: int) -> bytes:
    """Return bytes as one msgpack value of exactly this size, header included."""
    for first, width in ((0xC4, 1), (0xC5, 2), (0xC6, 4)):
        length = size - 1 - width
        if 0 <= length < 256**width:
            return bytes([first]) + length.to_bytes(width, "big") + bytes(length)
    raise ScenarioError(f"no msgpack value of bytes has {size} bytes")


def pack(value: Any) -> bytes:
    """Encode a value as msgpack."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, bad_text: str = "strict") -> Any:
    """Decode exactly one msgpack value; extension types become ``ExtType``.

    Args:
        data: the value.
        bad_text: what becomes of text that is not UTF-8: ``strict`` refuses it, ``replace`` replaces it.

    Raises:
        ValueError: it is not one.
    """
    try:
        return msgpack.unpackb(data, strict_map_key=False, timestamp=0, unicode_errors=bad_text)
    except (msgpack.UnpackException, ValueError, RecursionError) as error:
        raise ValueError(f"not msgpack: {error or type(error).__name__}") from None


def plain(value: Any, attachments: list[bytes]) -> Any:
    """Return a decoded payload as scenarios compare it: buffers are bytes, live values ``["ext", type, body]``."""
    if isinstance(value, msgpack.ExtType):
        body = unpack(value.data)
        if value.code == 1 and isinstance(body, int) and body < len(attachments):
            return attachments[body]
        return ["ext", value.code, plain(body, attachments)]
    if isinstance(value, list):
        return [plain(item, attachments) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item, attachments) for key, item in value.items()}
    return value
