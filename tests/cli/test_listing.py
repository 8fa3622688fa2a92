"""``duplex list``, ``describe`` and ``ping``, and what is common to all commands."""

from __future__ import annotations

import json
import os
import pty
import re
from typing import Any

import pytest
import trio

import duplex
from duplex.cli import _listing, _session
from tests.cli.conftest import Invoke
from tests.cli.harness import Result, environment, run, start

# -- list ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_list(calc: str) -> None:
    result = run("list", calc)
    assert (result.code, result.err) == (0, "")
    heading, *methods = result.out.splitlines()
    assert heading == "calc 1.0.0  Arithmetic, one method of every kind."
    assert "  calc.add" in methods
    assert methods == sorted(methods)
    assert "duplex." not in result.out


def test_list_everything(calc: str, invoke: Invoke) -> None:
    out = invoke("list", calc, "--all").out
    assert "  calc.add\n" in out
    assert "  duplex.health.check\n" in out
    assert "  duplex.reflection.describe\n" in out


def test_list_in_json(calc: str, invoke: Invoke) -> None:
    (service,) = json.loads(invoke("list", calc, "-o", "json").out)
    assert (service["name"], service["version"]) == ("calc", "1.0.0")
    assert "add" in service["methods"]
    services = json.loads(invoke("list", calc, "-o", "json", "--all").out)
    assert {"calc", "duplex.health", "duplex.reflection"} <= {service["name"] for service in services}


# -- describe --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_describe_everything(calc: str) -> None:
    result = run("describe", calc)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("calc 1.0.0  Arithmetic, one method of every kind.\n\n    ")
    assert "\n    add(a: int, b: int) -> int\n        Add two numbers.\n\n" in result.out


def test_describe_a_service(odd: str, invoke: Invoke) -> None:
    out = invoke("describe", odd, "odd").out
    assert out == invoke("describe", odd).out
    assert out.startswith(
        "odd 2.1.0  Awkward methods.\n\n    echo(value)\n        Return a value as it came.\n"
    )
    assert "        Deprecated: use nothing\n        Idempotent: the call may be repeated.\n" in out


def test_describe_a_resumable_method(odd: str, invoke: Invoke) -> None:
    assert invoke("describe", odd, "odd.lines").out == (
        "odd.lines(*, cursor: int = 0) -> AsyncIterator[Tracked[int, str]]\n"
        "    Stream three lines, those behind a cursor.\n"
        "    Resumable: the stream can go on behind a cursor.\n"
        "\n"
        "Tracked[int, str] = tuple[int, str]\n"
    )
    assert invoke("call", odd, "odd.lines", "cursor=1").out == '[2,"xx"]\n[3,"xxx"]\n'


def test_describe_a_method(calc: str, invoke: Invoke) -> None:
    assert invoke("describe", calc, "calc.divide").out == (
        "calc.divide(a: float, b: float = 1.0) -> float\n"
        "    Divide a by b. A plain function, quick enough to run on the event loop.\n\n"
        "    Raises InvalidArgument if b is 0.\n"
    )


SHAPES = """\
shapes.draw(p: Point, c: Color = Color.RED, n: int = 3) -> Point
    Draw a point.
    n: >= 0, < 10

Point:
    x: int
    y: int = 0
    tags: list[str] = []
Color = 'green' | 'red'
"""
AREA = """\
Area:
    corners: tuple[Point, Point]  (may be absent)
    names: dict[str, float (> 0)] | None  (may be absent)
# A place.
Point:
    x: int
    y: int = 0
    tags: list[str] = []
"""


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("shapes.draw", SHAPES),
        ("Point", "# A place.\nPoint:\n    x: int\n    y: int = 0\n    tags: list[str] = []\n"),
        (
            "Area",
            AREA,
        ),
    ],
)
def test_describe_shapes(shapes: str, invoke: Invoke, name: str, out: str) -> None:
    assert invoke("describe", shapes, name) == Result(0, out, "")


def test_describe_a_type_of_a_built_in_service(shapes: str, invoke: Invoke) -> None:
    assert invoke("describe", shapes, "HealthStatus").out.endswith(
        "\nHealthStatus = 'NOT_SERVING' | 'SERVING'\n"
    )
    missing = invoke("describe", shapes, "Pint")
    assert (missing.code, missing.out) == (69, "")
    assert "the types " in missing.err
    assert "Color" in missing.err


def test_describe_a_type_in_json(shapes: str, invoke: Invoke) -> None:
    described = json.loads(invoke("describe", shapes, "Area", "-o", "json").out)
    assert described["$ref"] == "#/$defs/Area"
    assert set(described["$defs"]) == {"Area", "Point"}


def test_describe_a_built_in_service(calc: str, invoke: Invoke) -> None:
    assert "check(service: str = '') -> HealthStatus" in invoke("describe", calc, "duplex.health").out
    assert invoke("describe", calc, "duplex.health.check").out.startswith("duplex.health.check(")


def test_describe_in_json(calc: str, invoke: Invoke) -> None:
    method = json.loads(invoke("describe", calc, "calc.add", "-o", "json").out)
    assert method["name"] == "add"
    assert method["parameters"][0]["schema"] == {"type": "integer"}
    service = json.loads(invoke("describe", calc, "calc", "-o", "json").out)
    assert method in service["methods"]
    assert json.loads(invoke("describe", calc, "-o", "json").out) == [service]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "no service 'nope' and no type"),
        ("calc.nope", "no method 'nope'"),
        ("nope.add", "no service 'nope'"),
    ],
)
def test_describe_what_is_not_there(calc: str, invoke: Invoke, name: str, message: str) -> None:
    result = invoke("describe", calc, name)
    assert (result.code, result.out) == (69, "")
    assert message in result.err


# -- ping ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ping(calc: str) -> None:
    result = run("ping", calc, "--count", 3, "--interval", 0)
    assert result.code == 0
    assert re.fullmatch(r"(\d+\.\d{3} ms\n){3}", result.out)
    assert re.fullmatch(
        r"3 round trips to calc: min \d+\.\d+, median \d+\.\d+, max \d+\.\d+ ms\n", result.err
    )


def test_ping_once(calc: str, invoke: Invoke) -> None:
    result = invoke("ping", calc, "--count", 1)
    assert result.out.count("\n") == 1
    assert result.err.startswith("1 round trip to calc")


def test_ping_nobody(invoke: Invoke) -> None:
    assert invoke("ping", "tcp://127.0.0.1:1", "--connect-timeout", 0.1).code == 78


def test_ping_without_an_answer(calc: str, invoke: Invoke) -> None:
    result = invoke("ping", calc, "--timeout", 0)
    assert (result.code, result.out) == (68, "")
    assert "DEADLINE_EXCEEDED: calc did not answer within 0 s" in result.err


# -- peers that are not as the command expects -----------------------------------------------------------


async def test_a_peer_without_reflection(capfd: pytest.CaptureFixture[str]) -> None:
    service = duplex.Service("plain", version="1.2.3")

    @service.rpc(inline=True)
    def double(number: int) -> int:
        return 2 * number

    async with duplex.open_peer(services=[service], name="quiet", reflection=False) as peer:
        endpoint = await peer.bind("tcp://127.0.0.1:*")
        await _listing.show_list(endpoint, connect_timeout=5, as_json=False, everything=False)
        assert capfd.readouterr().out == "plain 1.2.3\n"
        await _session.make_call(_session.Call(endpoint=endpoint, target="plain.double", words=["4"]))
        assert capfd.readouterr().out == "8\n"
        with pytest.raises(duplex.Unimplemented, match="quiet does not describe its services"):
            await _listing.show_description(endpoint, None, connect_timeout=5, as_json=False)


async def test_a_peer_with_a_reflection_of_its_own() -> None:
    # Only a peer that does not have it already may offer a service of that name.
    service = duplex.Service("duplex.reflection", builtin=True)

    @service.rpc(inline=True)
    def services() -> Any:
        return [{"version": 3}]

    @service.rpc(inline=True)
    def describe(service: str, method: str | None = None) -> Any:
        return {"methods": [{"parameters": 5}]}

    async with duplex.open_peer(services=[service], reflection=False) as peer:
        endpoint = await peer.bind("tcp://127.0.0.1:*")
        with pytest.raises(duplex.Internal, match="cannot be understood"):
            await _listing.show_list(endpoint, connect_timeout=5, as_json=False, everything=False)
        with pytest.raises(duplex.Internal, match="cannot be understood"):
            await _listing.show_description(endpoint, "a", connect_timeout=5, as_json=False)
        with pytest.raises(duplex.Internal, match=r"cannot be understood.*; try --no-reflection"):
            await _session.make_call(_session.Call(endpoint=endpoint, target="a.b"))


async def test_several_services(capfd: pytest.CaptureFixture[str]) -> None:
    services = [duplex.Service("a", description="First.\n\nMore."), duplex.Service("b.c")]
    for service in services:
        service.add(trio.lowlevel.checkpoint, name="go")
    async with duplex.open_peer(services=services) as peer:
        endpoint = await peer.bind("tcp://127.0.0.1:*")
        await _listing.show_description(endpoint, None, connect_timeout=5, as_json=False)
        out = capfd.readouterr().out
        assert re.match(r"a 0\.0\.0  First\.\n\n    go\(\).*\n\nb\.c 0\.0\.0\n\n    go\(\)", out, re.DOTALL)
        await _listing.show_description(endpoint, "b.c", connect_timeout=5, as_json=False)
        assert capfd.readouterr().out.startswith("b.c 0.0.0\n")
        await _listing.show_description(endpoint, "b.c.go", connect_timeout=5, as_json=False)
        assert capfd.readouterr().out.startswith("b.c.go()")


async def test_the_median_of_two_pings_is_between_them(
    calc: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.001, 0.003])

    async def ping(link: duplex.Link) -> float:
        return next(times)

    monkeypatch.setattr(duplex.Link, "ping", ping)
    await _session.ping(calc, count=2, interval=0, timeout=5, connect_timeout=5)
    assert "min 1.000, median 2.000, max 3.000 ms" in capfd.readouterr().err


# -- on a terminal ---------------------------------------------------------------------------------------


def on_a_terminal(*words: object, **options: Any) -> str:
    """What the command writes to a terminal."""
    master, slave = pty.openpty()
    with start(*words, stdin=slave, stdout=slave, stderr=slave, **options) as process:
        os.close(slave)
        written = b""
        try:
            while data := os.read(master, 65536):
                written += data
        except OSError:
            pass  # how Linux tells that nobody has the other end any more
        finally:
            os.close(master)
        assert process.wait() == 0
    return written.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_no_color(calc: str) -> None:
    assert on_a_terminal("list", calc).startswith("\x1b[1mcalc")
    plain = on_a_terminal("list", calc, env={**environment(), "NO_COLOR": "1"})
    assert plain.startswith("calc 1.0.0  Arithmetic")


@pytest.mark.slow
def test_a_single_result_is_indented_on_a_terminal(odd: str) -> None:
    assert on_a_terminal("call", odd, "odd.echo", '{"a": [1]}') == '{\n  "a": [\n    1\n  ]\n}\n'


@pytest.mark.slow
def test_streamed_results_are_lines_on_a_terminal(calc: str) -> None:
    assert on_a_terminal("call", calc, "calc.count", 2) == "0\n1\n"


@pytest.mark.slow
def test_signatures_are_coloured_on_a_terminal(calc: str) -> None:
    written = on_a_terminal("describe", calc, "calc.add")
    assert "\x1b[" in written
    assert re.sub(r"\x1b\[[\d;]*m", "", written) == "calc.add(a: int, b: int) -> int\n    Add two numbers.\n"


# -- help ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_version() -> None:
    assert run("--version") == Result(0, f"duplex {duplex.__version__}\n", "")


@pytest.mark.parametrize("command", ["", "call", "describe", "list", "ping", "serve"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(invoke: Invoke, command: str, option: str) -> None:
    result = invoke(*filter(None, [command]), option)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: duplex {command}".rstrip())


def test_unknown_commands(invoke: Invoke) -> None:
    result = invoke("frobnicate")
    assert (result.code, result.out) == (2, "")
    assert "No such command 'frobnicate'" in result.err


def test_interrupting_before_there_is_anything_to_cancel(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("duplex.cli._words.parse_json", interrupt)
    assert invoke("call", "tcp://127.0.0.1:1", "a.b", "-d", "[]") == Result(130, "", "\n")
