"""Words become positional and named arguments."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from duplex.cli._errors import CommandError
from duplex.cli._words import Arguments, Method, Parameter, ValueType, bind_data, bind_words, check_method

SCHEMAS: dict[Any, dict[str, Any]] = {
    inspect.Parameter.empty: {},
    "int": {"type": "integer"},
    "str": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "callback": {"x-duplex": "callback"},
    "stream": {"x-duplex": "receive_channel"},
}


def method_of(function: Any, **fields: Any) -> Method:
    """Describe a function whose annotations are keys of :data:`SCHEMAS`."""
    parameters = [
        Parameter(
            p.name,
            p.kind.name.lower(),
            p.default is p.empty
            and p.kind.name not in ("VAR_POSITIONAL", "VAR_KEYWORD")
            and p.annotation != "stream",
            p.annotation == "stream",
            str(p.annotation),
            SCHEMAS[p.annotation],
        )
        for p in inspect.signature(function).parameters.values()
    ]
    return Method(
        "svc.method", signature=f"method{inspect.signature(function)}", parameters=parameters, **fields
    )


def add(a: int, b: int = 0) -> None: ...
def say(word: str, times: int = 1) -> None: ...
def everything(a: int, /, b: str, *rest: int, c: str = "", **others: int) -> None: ...
def only(a: int, /) -> None: ...
def named(*, key: str) -> None: ...
def loose(a, b=None) -> None: ...  # type: ignore[no-untyped-def]
def streaming(numbers: stream, factor: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def calling(visit: callback, times: int = 1) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def perhaps(visit: callback = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def upload(data: bytes) -> None: ...


@pytest.mark.parametrize(
    ("function", "words", "positional", "keyword"),
    [
        (add, ["1"], [1], {}),
        (add, ["1", "-2"], [1, -2], {}),
        (add, ["1", "b=2"], [1], {"b": 2}),
        (add, ["b=2", "1"], [1], {"b": 2}),
        (add, ["b:=2", "a:=1"], [], {"a": 1, "b": 2}),
        (add, [":=1"], [1], {}),
        (say, ["5"], ["5"], {}),
        (say, ["a="], ["a="], {}),  # so ends base64
        (say, ["=x"], ["=x"], {}),
        (say, ["1=x"], ["1=x"], {}),
        (say, ["http://x/?a=b"], ["http://x/?a=b"], {}),
        (say, ["word=a=b"], [], {"word": "a=b"}),
        (say, ['word:="a"'], [], {"word": "a"}),
        (say, [':="word=a"'], ["word=a"], {}),
        (say, ["word="], [], {"word": ""}),
        (say, ["two\nlines"], ["two\nlines"], {}),
        (say, ["word=two\nlines"], [], {"word": "two\nlines"}),
        (everything, ["1", "x"], [1, "x"], {}),
        (everything, ["1", "x", "2", "3", "c=y", "d=4"], [1, "x", 2, 3], {"c": "y", "d": 4}),
        (everything, ["1", "x", "a=5"], [1, "x"], {"a": 5}),
        (named, ["key=x"], [], {"key": "x"}),
        (loose, ["1", "b=[2]"], [1], {"b": [2]}),
        (loose, ["one"], ["one"], {}),
        (streaming, ["3"], [3], {}),
        (streaming, ["factor=3"], [], {"factor": 3}),
        (perhaps, [], [], {}),
        (upload, ["aGk="], [b"hi"], {}),
        (upload, ['data:="aGk="'], [], {"data": b"hi"}),
    ],
)
def test_words_fit(function: Any, words: list[str], positional: list[Any], keyword: dict[str, Any]) -> None:
    assert bind_words(words, method_of(function)) == Arguments(positional, keyword)


@pytest.mark.parametrize(
    ("function", "words", "message"),
    [
        (add, [], "missing argument 'a'; it is method(a: 'int', b: 'int' = 0)"),
        (add, ["x"], "argument 'a': 'x' is not a whole number"),
        (add, ["1", "b=x"], "argument 'b': 'x' is not a whole number"),
        (add, ["1", "b:=x"], "argument 'b': not JSON"),
        (add, ["1", "c=2"], "there is no parameter 'c'; to pass 'c=2' as a text, write"),
        (add, ["1", "2", "3"], "of positional arguments, 2 are taken and 3 given"),
        (add, ["1", "2", "c=3"], "there is no parameter 'c'; to pass 'c=3' as a text, write ':=\"c=3\"'"),
        (say, ["wrod=x"], "there is no parameter 'wrod'"),
        (say, ["a:=b"], "there is no parameter 'a'"),
        (add, ["1", "a=1"], "the argument 'a' is given twice, by position and by name"),
        (add, ["a=1", "a=2"], "the argument 'a' is given twice"),
        (only, ["a=1"], "the argument 'a' must be given by position, not by name"),
        (named, ["x"], "of positional arguments, none are taken and 1 given"),
        (named, [], "missing argument 'key'"),
        (everything, [], "missing arguments 'a', 'b'"),
        (everything, ["1", "x", "y"], "argument 'rest': 'y' is not a whole number"),
        (everything, ["1", "x", "d=y"], "argument 'd': 'y' is not a whole number"),
        (everything, ["b=x", "a=1"], "missing argument 'a'"),
        (
            streaming,
            ["numbers=1", "2"],
            "'numbers' is the call's own stream: its items come from standard input",
        ),
        (perhaps, ["x"], "argument 'visit': a callback cannot be passed from the command line"),
    ],
)
def test_words_do_not_fit(function: Any, words: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        bind_words(words, method_of(function))
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_words_without_a_description() -> None:
    words = ["1", "one", "a=2", "b=two", "c:=[3]", ':="5"', "=x"]
    assert bind_words(words, None) == Arguments([1, "one", "5", "=x"], {"a": 2, "b": "two", "c": [3]})


def test_words_without_a_description_may_be_wrong() -> None:
    with pytest.raises(CommandError, match=r"^argument 'a': not JSON"):
        bind_words(["a:=x"], None)
    with pytest.raises(CommandError, match=r"^argument '2': not JSON"):
        bind_words(["1", ":=x"], None)


def test_data_by_name() -> None:
    assert bind_data({"data": "aGk="}, method_of(upload)) == Arguments([], {"data": b"hi"})
    assert bind_data({"data": "aGk="}, None) == Arguments([], {"data": "aGk="})


def test_data_by_position() -> None:
    assert bind_data(["aGk=", 2], method_of(upload)) == Arguments([b"hi", 2], {})
    assert bind_data([1, "x"], None) == Arguments([1, "x"], {})


def test_data_of_names_that_do_not_exist_is_left_to_the_other_side() -> None:
    assert bind_data({"other": 1}, method_of(upload)) == Arguments([], {"other": 1})


def test_data_that_does_not_fit() -> None:
    with pytest.raises(CommandError, match="argument 'data': bytes are written in base64"):
        bind_data({"data": "?"}, method_of(upload))
    with pytest.raises(CommandError, match="argument '1': bytes are written in base64"):
        bind_data(["?"], method_of(upload))


def test_methods_that_a_command_line_cannot_call() -> None:
    with pytest.raises(
        CommandError, match=r"svc.method takes a callback \('visit'\), which the command line cannot"
    ):
        check_method(method_of(calling))
    with pytest.raises(
        CommandError, match=r"svc.method returns a channel, which the command line cannot use"
    ):
        check_method(method_of(add, result=ValueType("Channel", {"x-duplex": "channel"})))


@pytest.mark.parametrize("function", [add, streaming, perhaps])
def test_methods_that_a_command_line_can_call(function: Any) -> None:
    check_method(method_of(function))


@pytest.mark.parametrize(
    ("kind", "streams"),
    [
        ("unary", (False, False)),
        ("server_streaming", (False, True)),
        ("client_streaming", (True, False)),
        ("bidirectional", (True, True)),
    ],
)
def test_kinds(kind: str, streams: tuple[bool, bool]) -> None:
    method = Method("svc.method", kind)
    assert (method.streams_input, method.streams_output) == streams
