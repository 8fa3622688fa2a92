"""A line for each call, which nobody can make two of."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import duplex
from duplex.middleware import log_calls, log_unserved
from tests.engine.helpers import collect, linked, until

things = duplex.Service("things")


@things.rpc
async def echo(value: str) -> str:
    return value


@things.rpc
async def fail(text: str) -> None:
    raise duplex.NotFound(text)


@things.rpc
async def crash() -> None:
    raise ValueError("oh")


class Mute(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@things.rpc
async def mute() -> None:
    raise Mute


@things.rpc
async def wait() -> None:
    await trio.sleep_forever()


@things.rpc
async def break_off() -> AsyncIterator[int]:
    yield 1
    raise duplex.DataLoss("broken")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, without times."""
    found = [record.getMessage() for record in caplog.records if record.name == "duplex.calls"]
    return [re.sub(r"ms=[0-9.]+(e-\d+)?", "ms=0", line) for line in found]


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["call"] for record in caplog.records if record.name == "duplex.calls"]


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "duplex.calls")


async def test_served_calls(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(things, server={"middleware": [log_calls()]}) as pair:
        remote = pair.service("things")
        await remote.echo("secret")
        with pytest.raises(duplex.NotFound):
            await remote.fail("no thing")
        with pytest.raises(duplex.Internal):
            await remote.crash()
        assert lines(caplog) == [
            "direction=served method=things.echo peer=client status=OK ms=0",
            'direction=served method=things.fail peer=client status=NOT_FOUND ms=0 error="no thing"',
            'direction=served method=things.crash peer=client status=INTERNAL ms=0 error="ValueError: oh"',
        ]
        first = fields(caplog)[0]
        assert (first["method"], first["status"], first["direction"]) == ("things.echo", "OK", "served")
        assert 0 < first["ms"] < 10_000
        assert "secret" not in caplog.text


async def test_an_error_without_a_text_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(things, server={"middleware": [log_calls()]}) as pair:
        with pytest.raises(duplex.Internal):
            await pair.service("things").mute()
        (line,) = lines(caplog)
        assert line.endswith('error="Mute: <a Mute, whose text raises RuntimeError>"')


async def test_made_calls(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(things, client={"call_middleware": [log_calls()]}) as pair:
        remote = pair.service("things")
        await remote.echo("a")
        with pytest.raises(duplex.NotFound):
            await remote.fail("x")
        async with remote.break_off.open() as stream:
            with pytest.raises(duplex.DataLoss):
                await collect(stream)
        assert lines(caplog) == [
            'direction=made method=things.echo peer="" status=OK ms=0',
            "direction=made method=things.fail peer=server status=NOT_FOUND ms=0 error=x",
            "direction=made method=things.break_off peer=server status=DATA_LOSS ms=0 error=broken",
        ]


async def test_calls_that_are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(things, server={"middleware": [log_calls()]}) as pair:
        with trio.move_on_after(0.02):
            await pair.service("things").wait()
        await until(lambda: lines(caplog))
        assert fields(caplog)[0]["status"] in ("CANCELLED", "DEADLINE_EXCEEDED")
        assert "error" not in fields(caplog)[0]


async def test_calls_that_are_not_run(caplog: pytest.LogCaptureFixture) -> None:
    both = {"middleware": [log_calls()], "observer": log_unserved()}
    async with linked(things, server=both) as pair:
        with pytest.raises(duplex.Unimplemented):
            await pair.service("things").missing()
        keyed = pair.service("things").with_options(idempotency_key="k")
        await keyed.echo("a")
        await keyed.echo("a")
        first, second, third = fields(caplog)
        assert (first["method"], first["status"]) == ("things.missing", "UNIMPLEMENTED")
        assert "no method 'missing'" in first["error"]
        assert second["status"] == "OK"
        assert (third["status"], third["repeated"]) == ("OK", True)


async def test_attempts_are_told(caplog: pytest.LogCaptureFixture) -> None:
    policy = duplex.RetryPolicy(max_attempts=2, codes=frozenset({duplex.StatusCode.NOT_FOUND}), initial=0.001)
    async with linked(things, server={"middleware": [log_calls()]}) as pair:
        with pytest.raises(duplex.NotFound):
            await pair.service("things").with_options(retry=policy, idempotent=True).fail("x")
        assert [one.get("attempt") for one in fields(caplog)] == [None, 2]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("x\nmethod=faked", '"x\\nmethod=faked"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ("y" * 300, "y" * 200),
    ],
)
async def test_what_others_say_stays_one_value(
    text: str, written: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(things, server={"middleware": [log_calls()]}) as pair:
        with pytest.raises(duplex.NotFound):
            await pair.service("things").fail(text)
        (line,) = lines(caplog)
        assert line.endswith(f"status=NOT_FOUND ms=0 error={written}")
        assert "\n" not in line


async def test_nothing_is_done_for_a_log_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "duplex.calls")
    both = {"middleware": [log_calls()], "observer": log_unserved()}
    async with linked(things, server=both) as pair:
        await pair.service("things").echo("a")
        with pytest.raises(duplex.Unimplemented):
            await pair.service("things").missing()
        assert lines(caplog) == []
