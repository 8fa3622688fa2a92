"""Results in JSON, errors in a line, and exit codes."""

from __future__ import annotations

import datetime
import os
from typing import Any

import msgspec
import numpy as np
import pytest
import trio

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._output import ResultWriter, error_text, exit_code, printable, to_json


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
        ({1: "a", None: "b", True: "c", b"hi": "d", 1.5: "e"}, '{"1":"c","null":"b","aGk=":"d","1.5":"e"}'),
        ({(1, 2): "a"}, '{"[1,2]":"a"}'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), '"2020-01-02T03:04:05Z"'),
        (datetime.date(2020, 1, 2), '"2020-01-02"'),
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


def test_indented() -> None:
    assert to_json({"a": [1]}, pretty=True).decode() == '{\n  "a": [\n    1\n  ]\n}'


def test_what_has_no_form_in_json() -> None:
    with pytest.raises(CommandError, match="the result holds a Event, which has no form in JSON") as caught:
        to_json([trio.Event()])
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
    error.method, error.peer = "svc.method", "server"
    assert error_text(error) == (
        'error: NOT_FOUND: svc.method at server: no such thing\ndetails: {"name":"eA=="}'
        if str(error).startswith("svc.method at server")
        else f'error: NOT_FOUND: {error}\ndetails: {{"name":"eA=="}}'
    )


def test_an_error_with_a_traceback_has_it_once() -> None:
    error = duplex.Internal("oops", details={"traceback": "Traceback ..."})
    error.add_note("Remote traceback:\nTraceback ...")
    assert error_text(error) == "error: INTERNAL: oops\nRemote traceback:\nTraceback ..."


def test_an_error_with_details_that_json_has_no_form_for() -> None:
    assert "details: <trio.Event object" in error_text(duplex.Internal("oops", details=trio.Event()))


def test_an_error_without_a_call() -> None:
    assert error_text(duplex.BindError("in use")) == "error: in use"


def test_terminals_are_not_told_what_to_do() -> None:
    assert printable("a\x1b[2J\x9bb\nc\tä€") == "a\\x1b[2J\\x9bb\nc\tä€"
    assert "\x1b" not in error_text(duplex.Internal("\x1b[2J"))


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pipe whose writing end is stdout, and the reading end."""
    reading, writing = os.pipe()
    with open(writing, "w") as stdout, open(reading, "rb") as reader:
        monkeypatch.setattr("sys.stdout", stdout)
        yield reader


async def test_results_are_written_at_once(pipe: Any) -> None:
    writer = ResultWriter(raw=False)
    await writer.write({"a": 1}, alone=True)
    assert pipe.readline() == b'{"a":1}\n'
    await writer.write("x", alone=False)
    assert pipe.readline() == b'"x"\n'


async def test_raw_results(pipe: Any) -> None:
    writer = ResultWriter(raw=True)
    for value in ("text", b"bytes", memoryview(b"!\n"), ["list"]):
        await writer.write(value, alone=True)
    assert [pipe.readline() for _ in range(3)] == [b"text\n", b"bytes!\n", b'["list"]\n']


async def test_a_reader_that_is_slow_does_not_keep_the_writer_from_being_cancelled(pipe: Any) -> None:
    writer = ResultWriter(raw=True)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: writer.write(b"x" * 1_000_000, alone=True))
            # The first bytes have come, the last have no room in the pipe.
            assert await trio.to_thread.run_sync(pipe.read, 1) == b"x"
            scope.cancel()
    assert scope.cancelled_caught
    await trio.to_thread.run_sync(pipe.read, 999_999)


async def test_nobody_reads(pipe: Any) -> None:
    pipe.close()
    with pytest.raises(BrokenPipeError):
        await ResultWriter(raw=False).write(1, alone=True)
    with pytest.raises(BrokenPipeError):
        await ResultWriter(raw=False).write("x" * 100_000, alone=True)


def test_msgspec_is_what_encodes(pipe: Any) -> None:
    assert msgspec.json.decode(to_json({"a": [1, "x"]})) == {"a": [1, "x"]}
