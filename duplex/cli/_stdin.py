"""The items that a method takes from standard input: JSON values or lines, sent as they are read."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

import trio

from duplex.cli._errors import CommandError
from duplex.cli._values import from_json, from_word, parse_json
from duplex.cli._words import ValueType

#: Bytes read at once.
_CHUNK: Final = 64 * 1024

#: White space, and the mark that some programs write at the beginning of a text in UTF-8.
_SPACE: Final = re.compile(rb"(?:\s|\xef\xbb\xbf)*")
_PART_OF_MARK: Final = (codecs.BOM_UTF8[:1], codecs.BOM_UTF8[:2])
_SCALAR_END: Final = re.compile(rb'[\s"{\[]')
_STRUCTURE: Final = re.compile(rb'["{}\[\]]')
_IN_STRING: Final = re.compile(rb'["\\]')


#: What the items on standard input are.
Form: TypeAlias = Literal["json", "lines", "bytes"]


class Splitter(Protocol):
    """Cuts a stream of bytes into texts of one item each."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take more bytes and yield the items that are complete with them."""

    def finish(self) -> Iterator[bytes]:
        """Yield what is left at the end of the stream."""


class JsonSplitter:
    """Cuts concatenated JSON, with any white space between values or none, so also NDJSON.

    It looks at no byte twice, and finds the ends of values only: whether they are JSON is for the parser.
    A number or a word such as ``true`` ends where something else begins.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: How far the value at the beginning of the buffer has been looked at, and what was found.
        self._position = 0
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while (end := self._end()) is not None:
            yield self._cut(end)

    def finish(self) -> Iterator[bytes]:
        if self._buffer:
            yield self._cut(len(self._buffer))

    def _cut(self, end: int) -> bytes:
        value = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._position = 0
        return value

    def _end(self) -> int | None:
        """Return where the first value in the buffer ends; ``None`` if that is not known yet."""
        buffer = self._buffer
        if not self._position:
            space = _SPACE.match(buffer)
            del buffer[: space.end() if space else 0]
            if not buffer or buffer in _PART_OF_MARK:
                return None
        while True:
            if self._in_string:
                found = _IN_STRING.search(buffer, self._position)
                if found is None:
                    break
                if found[0] == b"\\":
                    if found.end() == len(buffer):
                        self._position = found.start()
                        return None
                    self._position = found.end() + 1
                    continue
                self._in_string = False
                self._position = found.end()
            elif self._depth or (not self._position and buffer[0] in b'{["'):
                found = _STRUCTURE.search(buffer, self._position)
                if found is None:
                    break
                self._position = found.end()
                if found[0] == b'"':
                    self._in_string = True
                    continue
                self._depth += 1 if found[0] in b"{[" else -1
            else:
                found = _SCALAR_END.search(buffer, self._position)
                if found is None:
                    break
                return found.start()
            if not self._depth:
                return self._position
        self._position = len(buffer)
        return None


class LineSplitter:
    """Cuts lines, without their ends."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            yield (b"".join(self._parts) + line).removesuffix(b"\r")
            self._parts.clear()
        if rest:
            self._parts.append(rest)

    def finish(self) -> Iterator[bytes]:
        if self._parts:
            yield b"".join(self._parts)


class Chunks:
    """Leaves bytes as they were read."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> Iterator[bytes]:
        yield from ()


_SPLITTERS: Final[Mapping[Form, Callable[[], Splitter]]] = {
    "json": JsonSplitter,
    "lines": LineSplitter,
    "bytes": Chunks,
}


class Items:
    """Standard input as items for a call.

    Args:
        expected: the type of the items; ``None`` if it is not known.
        defs: what its schema refers to.
        form: what an item is there: ``"json"``; ``"lines"``, each read as an argument on the command line is; or
            ``"bytes"``, as many as are read at once.
    """

    def __init__(self, expected: ValueType | None, defs: dict[str, Any], *, form: Form = "json") -> None:
        self._expected = expected or ValueType()
        self._defs = defs
        self._form = form
        self._count = 0

    async def send_to(self, send: Callable[[Any], Awaitable[None]]) -> None:
        """Read to the end, and send every item as soon as it is there.

        Raises:
            CommandError: an item is not JSON, or not of the expected type; or there is nothing to read from.
        """
        splitter: Splitter = _SPLITTERS[self._form]()
        if sys.stdin is None:
            return  # it was closed before Python started
        descriptor = sys.stdin.fileno()
        while True:
            # A thread that still waits when the call is over goes down with the process.
            try:
                data = await trio.to_thread.run_sync(os.read, descriptor, _CHUNK, abandon_on_cancel=True)
            except OSError as error:
                raise CommandError(f"standard input cannot be read: {error.strerror}") from None
            for text in splitter.feed(data) if data else splitter.finish():
                await send(self._value(text))
            if not data:
                return

    def _value(self, text: bytes) -> Any:
        self._count += 1
        if self._form == "bytes":
            return text
        schema, type_text = self._expected.schema, self._expected.type
        try:
            if self._form == "lines":
                return from_word(text.decode(), schema, self._defs, type_text)
            return from_json(parse_json(text), schema, self._defs, type_text)
        except ValueError as error:
            noun = "line" if self._form == "lines" else "item"
            raise CommandError(f"standard input, {noun} {self._count}: {error}") from None
