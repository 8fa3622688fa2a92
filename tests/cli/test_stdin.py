"""Standard input is cut into items as soon as they are complete."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from duplex.cli._errors import CommandError
from duplex.cli._stdin import Items, JsonSplitter, LineSplitter, Splitter
from duplex.cli._words import ValueType


def split(splitter: Splitter, *chunks: bytes) -> list[bytes]:
    """Everything a splitter makes of chunks."""
    return [item for chunk in chunks for item in splitter.feed(chunk)] + list(splitter.finish())


@pytest.mark.parametrize(
    ("data", "items"),
    [
        (b"", []),
        (b" \n\t ", []),
        (b"1 2\n3", [b"1", b"2", b"3"]),
        (b"{}{}[][]", [b"{}", b"{}", b"[]", b"[]"]),
        (b'"a""b"', [b'"a"', b'"b"']),
        (b'1"a"2[3]4{}', [b"1", b'"a"', b"2", b"[3]", b"4", b"{}"]),
        (b"true null\nfalse", [b"true", b"null", b"false"]),
        (b'{"a": ["}", {"b": "]"}]} 5', [b'{"a": ["}", {"b": "]"}]}', b"5"]),
        (rb'"\"" "\\" "\\\"x"', [rb'"\""', rb'"\\"', rb'"\\\"x"']),
        (b'"two words" 1', [b'"two words"', b"1"]),
        (b"[1, 2", [b"[1, 2"]),
        (b'"open', [b'"open']),
        (b"} 1", [b"}", b"1"]),
        (b"1, 2", [b"1,", b"2"]),
        (b"\xef\xbb\xbf{} 1", [b"{}", b"1"]),
        (b"\xef\xbb", [b"\xef\xbb"]),
        ('"ä" 1'.encode(), ['"ä"'.encode(), b"1"]),
    ],
)
def test_json_is_cut(data: bytes, items: list[bytes]) -> None:
    assert split(JsonSplitter(), data) == items
    assert split(JsonSplitter(), *(data[i : i + 1] for i in range(len(data)))) == items


def test_an_item_comes_as_soon_as_it_is_complete() -> None:
    splitter = JsonSplitter()
    assert list(splitter.feed(b'{"a": 1')) == []
    assert list(splitter.feed(b"}")) == [b'{"a": 1}']
    assert list(splitter.feed(b"12")) == []
    assert list(splitter.feed(b"3\n")) == [b"123"]
    assert list(splitter.feed(b'"a\\')) == []
    assert list(splitter.feed(b'""')) == [b'"a\\""']
    assert list(splitter.finish()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.slow
@hypothesis.given(
    st.lists(JSON, max_size=8), st.lists(st.integers(1, 20)), st.sampled_from([" ", "\n", "\r\n\t"])
)
def test_any_json_comes_through_in_any_chunks(values: list[Any], sizes: list[int], space: str) -> None:
    data = b"".join(msgspec.json.encode(value) + space.encode() for value in values)
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    assert [msgspec.json.decode(item) for item in split(JsonSplitter(), *chunks, data)] == values


def _without_space(parts: list[bytes]) -> bytes:
    return re.sub(rb"\s", b"", b"".join(parts))


@hypothesis.given(st.lists(st.binary()))
def test_no_input_is_lost(chunks: list[bytes]) -> None:
    items = split(JsonSplitter(), *chunks)
    assert _without_space(items) == _without_space(chunks)
    assert all(items)


@pytest.mark.parametrize(
    ("chunks", "items"),
    [
        ([], []),
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a\r\nb"], [b"a", b"b"]),
        ([b"a\n\nb"], [b"a", b"", b"b"]),
        ([b"a", b"b\nc", b"\n", b"d"], [b"ab", b"c", b"d"]),
    ],
)
def test_lines_are_cut(chunks: list[bytes], items: list[bytes]) -> None:
    assert split(LineSplitter(), *chunks) == items


async def sent(monkeypatch: pytest.MonkeyPatch, data: bytes, items: Items) -> list[Any]:
    """What is sent of ``data`` on stdin."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    received: list[Any] = []

    async def send(value: Any) -> None:
        received.append(value)

    with open(reading) as stdin, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        await items.send_to(send)
    return received


INT = ValueType("int", {"type": "integer"})
BYTES = ValueType("bytes", {"type": "string", "contentEncoding": "base64"})
STR = ValueType("str", {"type": "string"})


async def test_items_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await sent(monkeypatch, b'1 "a" [2]', Items(None, {})) == [1, "a", [2]]
    assert await sent(monkeypatch, b'"aGk="', Items(BYTES, {})) == [b"hi"]


async def test_items_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await sent(monkeypatch, b"1\n2\n", Items(INT, {}, form="lines")) == [1, 2]
    assert await sent(monkeypatch, b"1\n2\n", Items(STR, {}, form="lines")) == ["1", "2"]
    assert await sent(monkeypatch, b"1\nx\n", Items(None, {}, form="lines")) == [1, "x"]


@pytest.mark.parametrize(
    ("data", "items", "message"),
    [
        (b"1 x", Items(None, {}), "standard input, item 2: not JSON"),
        (b"[1", Items(None, {}), "standard input, item 1: not JSON"),
        (b"1\nx", Items(INT, {}, form="lines"), "standard input, line 2: 'x' is not a whole number"),
        (b"\xff", Items(STR, {}, form="lines"), "standard input, line 1: 'utf-8' codec"),
        (b'"?"', Items(BYTES, {}), "standard input, item 1: bytes are written in base64"),
    ],
)
async def test_items_that_are_wrong(
    monkeypatch: pytest.MonkeyPatch, data: bytes, items: Items, message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        await sent(monkeypatch, data, items)
    assert message in str(caught.value)


async def test_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)

    async def send(value: object) -> None:
        raise AssertionError("there is nothing to send")

    await Items(None, {}).send_to(send)


async def test_standard_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Folder:
        def fileno(self) -> int:
            return folder

    async def send(value: object) -> None:
        raise AssertionError("there is nothing to send")

    folder = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr("sys.stdin", Folder())
    try:
        with pytest.raises(CommandError, match="standard input cannot be read: Is a directory"):
            await Items(None, {}, form="lines").send_to(send)
    finally:
        os.close(folder)
