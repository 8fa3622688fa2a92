"""``duplex call``: arguments, results, errors and exit codes, within this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.harness import Result
from tests.machine import within


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["calc.add", "1", "b=2"], 3),
        (["calc.add", "a=1", "b:=2"], 3),
        (["calc.add", "-d", '{"a": 1, "b": 2}'], 3),
        (["calc.add", "-d", "[1, 2]"], 3),
        (["calc.add", "--", "-1", "-2"], -3),
        (["--timeout", "5", "calc.add", "1", "2", "--connect-timeout=5"], 3),
        (["calc.divide", "-1e3", "inf"], 0.0),
        (["calc.scale", "[1, 2.5]", "2"], [2.0, 5.0]),
        (["calc.constant", "pi"], 3.141592653589793),
        (["duplex.health.check"], "SERVING"),
        (["duplex.health.check", "calc"], "SERVING"),
        (["calc.add", "1", "2", "--no-reflection"], 3),
        (["calc.add", "1", "b=2", "--no-reflection"], 3),
    ],
)
def test_arguments(calc: str, invoke: Invoke, words: list[str], value: Any) -> None:
    result = invoke("call", calc, *words)
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == value


def test_data_may_begin_with_the_mark_of_utf_8(calc: str, invoke: Invoke) -> None:
    assert invoke("call", calc, "calc.add", "--data", "@-", given=b"\xef\xbb\xbf[1, 2]").out == "3\n"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["odd.echo", "5"], 5),
        (["odd.echo", "five"], "five"),
        (["odd.echo", ':={"a": [null]}'], {"a": [None]}),
        (["odd.text", "5"], "5"),
        (["odd.text", ':="a=b"'], "a=b"),
        (["odd.text", "word=a=b"], "a=b"),
        (["odd.text", "--", "--timeout"], "--timeout"),
        (["odd.text", "-5"], "-5"),
        (["odd.maybe"], [None, "red"]),
        (["odd.maybe", "5", "colour=green"], [5, "green"]),
        (["odd.maybe", "x"], ["x", "red"]),
        (["odd.maybe", "null"], [None, "red"]),
        (["odd.maybe", ':="null"'], ["null", "red"]),
        (["odd.join", "a", "1", "2", "sep=-", "x=1.5"], "a-1-2-x=1.5"),
        (["odd.backwards", "aGk="], "aWg="),
        (["odd.blobs", '[{"name": "a", "data": "aGk="}]'], {"a": "aGk="}),
        (["odd.blobs", "-d", '{"items": [{"name": "a", "data": "aGk="}]}'], {"a": "aGk="}),
        (["odd.later", "2020-01-01T00:00:00Z", "days=2"], "2020-01-03T00:00:00Z"),
        (["odd.special"], {"big": "Infinity", "none": "NaN", "numbered": {"1": "-Infinity"}}),
        (["odd.headers", "-H", "X-Key: a:b", "-H", "other:"], {"x-key": "a:b", "other": ""}),
        (["odd.subscribe"], None),
    ],
)
def test_types(odd: str, invoke: Invoke, words: list[str], value: Any) -> None:
    result = invoke("call", odd, *words)
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == value


def test_data_from_a_file_and_from_stdin(calc: str, invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "arguments.json"
    path.write_text("[1, 2]")
    assert invoke("call", calc, "calc.add", "-d", f"@{path}").out == "3\n"
    assert invoke("call", calc, "calc.add", "-d", "@-", given='{"a": 1,\n"b": 4}').out == "5\n"


@pytest.mark.parametrize(
    ("words", "given", "out"),
    [
        (["calc.shout"], '"a" "b"', '"A"\n"B"\n'),
        (["calc.shout", "--lines"], "a b\nc\n", '"A B"\n"C"\n'),
        (["calc.shout", "--lines", "--raw"], "a b\nc\n", "A B\nC\n"),
        (["calc.shout"], "", ""),
        (["calc.total"], "", "0\n"),
        (["calc.total", "--lines"], "1\n2", "3\n"),
        (["calc.total", "--no-reflection", "--stdin"], "1 2", "3\n"),
        (["calc.total", "--no-reflection", "--lines"], "1\n2", "3\n"),
        (["calc.total", "--no-reflection"], "1 2", "0\n"),
        (["calc.count", "2", "--no-reflection"], "", "0\n1\n"),
        (["calc.count", "0", "--no-reflection"], "", ""),
        (["calc.count", "0"], "", ""),
    ],
)
def test_streams(calc: str, invoke: Invoke, words: list[str], given: str, out: str) -> None:
    assert invoke("call", calc, *words, given=given) == Result(0, out, "")


def test_bytes_through_a_stream(odd: str, invoke: Invoke) -> None:
    assert invoke("call", odd, "odd.gather", "--lines", "--raw", given="aGk=\nIQ==\n") == Result(0, "hi!", "")
    assert invoke("call", odd, "odd.gather", given='"aGk=" "IQ=="').out == '"aGkh"\n'


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["calc.divide", "1", "0"], 67, "INVALID_ARGUMENT: calc.divide"),
        (["calc.divide", "1", "0"], 67, 'details: {"field":"b","value":0.0}'),
        (["calc.constant", "tau"], 69, "NOT_FOUND: calc.constant"),
        (["calc.constant", "tau"], 69, 'details: {"known":["e","pi"]}'),
        (["calc.crash"], 77, "INTERNAL: calc.crash"),
        (["calc.nope"], 76, "service 'calc' has no method 'nope'; it has add, "),
        (["nope.nope"], 76, "there is no service 'nope'"),
        (["calc.nope", "--no-reflection"], 76, "service 'calc' has no method 'nope'"),
        (["calc.add", "1", "2", "--no-reflection", "-d", "[]"], 2, "in words or with --data, not both"),
        (["calc.add", "-d", '["x", 1]'], 67, "INVALID_ARGUMENT: calc.add"),
        (
            ["calc.add", "x", "1"],
            2,
            "error: argument 'a': 'x' is not a whole number; it is add(a: int, b: int) -> int",
        ),
        (["calc.add", "1"], 2, "error: missing argument 'b'"),
        (["calc.add", "1", "2", "--stdin"], 2, "calc.add takes no stream"),
        (["calc.add", "1", "2", "--lines"], 2, "calc.add takes no stream"),
        (["calc.each", "[1]"], 2, "calc.each takes a callback ('visit'), which the command line cannot pass"),
        (["add"], 2, "a method is named service.method, not 'add'"),
        (["calc."], 2, "a method is named service.method, not 'calc.'"),
        (["calc.add", "--tiemout", "3"], 2, "No such option: --tiemout; put -- before words like that."),
        (["calc.add", "-x"], 2, "No such option: -x"),
        (["calc.add", "-d", "{"], 2, "error: --data: not JSON"),
        (["calc.add", "-d", "5"], 2, "error: --data: a JSON object is needed"),
        (
            ["calc.add", "-d", "@/no/such/file"],
            2,
            "--data: cannot read /no/such/file: No such file or directory",
        ),
        (["calc.total", "-d", "@-"], 2, "stdin"),
        (["calc.total", "-d", "@-", "--lines"], 2, "stdin cannot hold both the arguments and the stream"),
        (["calc.add", "-H", "x"], 2, "'x' is not KEY:VALUE"),
        (["calc.add", "1", "2", "-H", "a b:c"], 2, "metadata key 'a b' may hold only"),
        (["calc.add", "99999999999999999999", "1"], 2, "error: "),
        (["calc.add", "1", "2", "--timeout", "-1"], 2, "--timeout"),
        ([], 2, "Missing argument 'METHOD'"),
    ],
)
def test_errors(calc: str, invoke: Invoke, words: list[str], code: int, message: str) -> None:
    result = invoke("call", calc, *words, given="[]")
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("nonsense", "'nonsense' does not begin with a known scheme"),
        ("tcp://127.0.0.1", "the port is missing"),
        ("tcp://127.0.0.1:*", "error: "),
    ],
)
@pytest.mark.parametrize(
    "words", [["call", "E", "calc.add"], ["list", "E"], ["describe", "E"], ["ping", "E"]]
)
def test_malformed_endpoints(invoke: Invoke, words: list[str], endpoint: str, message: str) -> None:
    result = invoke(*(endpoint if word == "E" else word for word in words))
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_the_deadline(odd: str, invoke: Invoke) -> None:
    result = invoke("call", odd, "odd.sleepy", "--timeout", "0.05")
    assert result.code == 68
    assert result.err.startswith("error: DEADLINE_EXCEEDED: odd.sleepy")


def test_the_deadline_of_a_stream(odd: str, invoke: Invoke) -> None:
    result = invoke("call", odd, "odd.forever", "--timeout", within(0.1))
    assert result.code == 68
    assert result.out.startswith("0\n1\n")


def test_a_remote_traceback(odd: str, invoke: Invoke) -> None:
    result = invoke("call", odd, "odd.crash")
    assert result.code == 77
    assert result.err.startswith("error: INTERNAL: odd.crash at oddity: ")
    assert result.err.count("Traceback") == 1
    assert "RuntimeError: the answer was not 42" in result.err


def test_a_callback_as_the_result(odd: str, invoke: Invoke) -> None:
    result = invoke("call", odd, "odd.hand_out")
    assert (result.code, result.out) == (2, "")
    assert "odd.hand_out returns a callback, which the command line cannot use" in result.err


def test_a_callback_as_the_result_without_reflection(odd: str, invoke: Invoke) -> None:
    result = invoke("call", odd, "odd.hand_out", "--no-reflection")
    assert (result.code, result.out) == (1, "")
    assert "which has no form in JSON" in result.err


def test_verbose(odd: str, invoke: Invoke) -> None:
    result = invoke("call", odd, "odd.headers", "-v")
    assert (result.code, result.out) == (0, "{}\n")
    peer, trailers, times = result.err.splitlines()
    assert (peer, trailers) == ("peer: oddity", 'trailers: {"cost":"3"}')
    assert times.startswith("since the start: linked ")
    assert [part.split()[0] for part in times.split(": ")[1].split(", ")] == [
        "linked",
        "described",
        "first",
        "end",
    ]


def test_verbose_with_an_error(calc: str, invoke: Invoke) -> None:
    result = invoke("call", calc, "calc.constant", "tau", "-v", "--no-reflection")
    assert result.code == 69
    assert "trailers: {}" in result.err
    assert "described" not in result.err


# -- bytes and files -------------------------------------------------------------------------------------

#: What no text is.
RAW = bytes(range(256)) * 1000


def test_bytes_from_a_file(shapes: str, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(RAW)
    assert invoke("call", shapes, "shapes.size", f"@{tmp_path}/raw") == Result(0, "256000\n", "")
    assert invoke("call", shapes, "shapes.size", f"data=@{tmp_path}/raw", "note=@x").out == "256002\n"


def test_bytes_from_stdin(shapes: str, invoke: Invoke) -> None:
    assert invoke("call", shapes, "shapes.size", "@-", given=RAW) == Result(0, "256000\n", "")


def test_json_from_a_file(shapes: str, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "point.json").write_text('{"x": 7}')
    result = invoke("call", shapes, "shapes.draw", f"p:=@{tmp_path}/point.json", "c=green", "n=2")
    assert json.loads(result.out) == {"x": 14, "y": 0, "tags": ["green"]}


def test_a_stream_of_bytes(shapes: str, invoke: Invoke) -> None:
    result = invoke("call", shapes, "shapes.count", "--bytes", given=RAW)
    assert result == Result(0, f"[{len(RAW)},{sum(RAW)}]\n", "")
    assert invoke("call", shapes, "shapes.count", "--bytes", "--no-reflection", given=RAW) == result


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["shapes.size", "@/no/such/file"],
            "argument 'data': cannot read /no/such/file: No such file or directory",
        ),
        (["shapes.size", "data:=@/no/such/file"], "argument 'data': cannot read /no/such/file: No such file"),
        (["shapes.size", "!"], "bytes are written in base64, which '!' is not"),
        (["shapes.size", "@-", "--bytes"], "stdin cannot hold both the arguments and the stream"),
        (["shapes.count", "--bytes", "--lines"], "items on stdin are --lines or --bytes, not both"),
        (["shapes.draw", ':={"x":1}', "--bytes"], "shapes.draw takes no stream"),
    ],
)
def test_files_that_do_not_fit(shapes: str, invoke: Invoke, words: list[str], message: str) -> None:
    result = invoke("call", shapes, *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_stream_that_is_not_of_bytes(calc: str, invoke: Invoke) -> None:
    assert "calc.total takes no stream of bytes" in invoke("call", calc, "calc.total", "--bytes").err


@pytest.mark.parametrize("time", ["2s", "2000ms", "2", "0.1m", "1h"])
def test_times_have_units(calc: str, invoke: Invoke, time: str) -> None:
    assert invoke("call", calc, "calc.add", 1, 2, "--timeout", time, "--connect-timeout", time).out == "3\n"


@pytest.mark.parametrize("time", ["2x", "", "nan", "1e400", "-1"])
def test_what_is_no_time(calc: str, invoke: Invoke, time: str) -> None:
    result = invoke("call", calc, "calc.add", 1, 2, f"--timeout={time}")
    assert (result.code, result.out) == (2, "")
    assert "--timeout" in result.err
