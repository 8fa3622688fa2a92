"""Results in JSON, errors in a line, and exit codes."""

from __future__ import annotations

import datetime as dt
import io
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import trio

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._output import ResultWriter, to_json
from duplex.cli._report import error_text, exit_code, printable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (2**63, "9223372036854775808"),
        (1.5, "1.5"),
        (float("nan"), '"NaN"'),
        (float("inf"), '"Infinity"'),
        (-float("inf"), '"-Infinity"'),
        ("ä\n\x1b", '"ä\\n\\u001b"'),
        (b"hi", '"aGk="'),
        (bytearray(b"hi"), '"aGk="'),
        (memoryview(b"hi"), '"aGk="'),
        ([1, (2, b"")], '[1,[2,""]]'),
        ({"a": {"b": 1}}, '{"a":{"b":1}}'),
        (
            {1: "a", None: "b", False: "c", b"hi": "d", 1.5: "e"},
            '{"1":"a","null":"b","false":"c","aGk=":"d","1.5":"e"}',
        ),
        ({(1, 2): "a"}, '{"[1,2]":"a"}'),
        (dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC), '"2020-01-02T03:04:05Z"'),
        (dt.date(2020, 1, 2), '"2020-01-02"'),
        (1 + 2j, "[1.0,2.0]"),
        (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (np.array([1.5, np.nan]), '[1.5,"NaN"]'),
        (np.array([1 + 2j]), "[[1.0,2.0]]"),
        (np.array([b"hi"]), '["aGk="]'),
        (np.array(["2020-01-02"], "M8[D]"), '["2020-01-02"]'),
        (np.array([1.5], "longdouble"), "[1.5]"),
        (np.array([1.5], "clongdouble"), "[[1.5,0.0]]"),
        (np.float32(0.5), "0.5"),
        (np.int8(5), "5"),
    ],
)
def test_values_in_json(value: Any, text: str) -> None:
    assert to_json(value).decode() == text


def test_keys_that_would_be_the_same() -> None:
    with pytest.raises(CommandError, match="two keys are the same text in JSON, as 1 and '1' are") as caught:
        to_json([{1: "a", "1": "b"}])
    assert caught.value.exit_code == 1


def test_indented() -> None:
    assert to_json({"a": [1]}, pretty=True).decode() == '{\n  "a": [\n    1\n  ]\n}'


def test_what_has_no_form_in_json() -> None:
    with pytest.raises(CommandError, match="the result holds a object, which has no form in JSON") as caught:
        to_json([object()])
    assert caught.value.exit_code == 1


def test_what_is_too_deep() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CommandError, match="nested too deeply"):
        to_json(value)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (duplex.CallCancelled(), 65),
        (duplex.InvalidArgument(), 67),
        (duplex.DeadlineExceeded(), 68),
        (duplex.NotFound(), 69),
        (duplex.MessageTooLarge(2, 1), 72),
        (duplex.Unimplemented(), 76),
        (duplex.Internal(), 77),
        (duplex.Unavailable(), 78),
        (duplex.PeerLost(), 78),
        (duplex.Unauthenticated(), 80),
        (duplex.RPCError(code=duplex.StatusCode.ABORTED), 74),
        (duplex.ConnectError(), 78),
        (duplex.HandshakeError("limit", ""), 78),
        (duplex.ConfigurationError(), 2),
        (duplex.EncodeError(), 2),
        (CommandError("x"), 2),
        (CommandError("x", 1), 1),
        (duplex.BindError(), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_of_a_call() -> None:
    error = duplex.NotFound("no such thing", details={"name": b"x"})
    error.method = "svc.method"
    assert error_text(error) == 'error: NOT_FOUND: svc.method: no such thing\ndetails: {"name":"eA=="}'


def test_an_error_with_a_traceback_has_it_once() -> None:
    error = duplex.Internal("oops", details={"traceback": "Traceback ..."})
    error.add_note("Remote traceback:\nTraceback ...")
    assert error_text(error) == "error: INTERNAL: oops\nRemote traceback:\nTraceback ..."


def test_an_error_with_details_that_json_has_no_form_for() -> None:
    assert "details: <object object" in error_text(duplex.Internal("oops", details=object()))


def test_an_error_without_a_call() -> None:
    assert error_text(duplex.BindError("in use")) == "error: in use"


def test_terminals_are_not_told_what_to_do() -> None:
    assert printable("a\x1b[2J\x9bb\nc\tä€") == "a\\x1b[2J\\x9bb\nc\tä€"
    assert "\x1b" not in error_text(duplex.Internal("\x1b[2J"))


class Pipe(NamedTuple):
    """Where results are written to, and where they can be read."""

    descriptor: int
    reader: io.BufferedReader


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with open(reading, "rb") as reader:
        try:
            yield Pipe(writing, reader)
        finally:
            os.close(writing)


async def test_results_are_written_at_once(pipe: Pipe) -> None:
    writer = ResultWriter(raw=False, descriptor=pipe.descriptor)
    await writer.write({"a": 1}, alone=True)
    assert pipe.reader.readline() == b'{"a":1}\n'
    await writer.write("x", alone=False)
    assert pipe.reader.readline() == b'"x"\n'


async def test_raw_results(pipe: Pipe) -> None:
    writer = ResultWriter(raw=True, descriptor=pipe.descriptor)
    for value in ("text", b"bytes", memoryview(b"!\n"), ["list"]):
        await writer.write(value, alone=True)
    assert [pipe.reader.readline() for _ in range(3)] == [b"text\n", b"bytes!\n", b'["list"]\n']


async def test_a_reader_that_is_slow_does_not_keep_the_writer_from_being_cancelled(pipe: Pipe) -> None:
    writer = ResultWriter(raw=True, descriptor=pipe.descriptor)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: writer.write(b"x" * 1_000_000, alone=True))
        # The first bytes have come, the last have no room in the pipe.
        assert await trio.to_thread.run_sync(pipe.reader.read, 1) == b"x"
        nursery.cancel_scope.cancel()
    # The thread that was left behind may end.
    assert await trio.to_thread.run_sync(pipe.reader.read, 999_999) == b"x" * 999_999


async def test_nobody_reads(pipe: Pipe) -> None:
    writer = ResultWriter(raw=False, descriptor=pipe.descriptor)
    pipe.reader.close()
    with pytest.raises(BrokenPipeError):
        await writer.write(1, alone=True)
    with pytest.raises(BrokenPipeError):
        await writer.write("x" * 100_000, alone=True)


@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_disk_that_is_full(size: int) -> None:
    with open("/dev/full", "wb") as full:
        writer = ResultWriter(raw=False, descriptor=full.fileno())
        with pytest.raises(OSError, match="No space left on device"):
            await writer.write("x" * size, alone=True)
