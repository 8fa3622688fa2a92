"""Health that functions of the program find out: asked when somebody wants to know, and not more often than that is good for."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.builtin import HealthStatus
from tests.engine.helpers import linked

db = duplex.Service("db")


@db.rpc
async def query() -> int:
    return 1


SERVING, NOT_SERVING = HealthStatus.SERVING.value, HealthStatus.NOT_SERVING.value


class Asked:
    """A probe that says what it is told to, and counts."""

    def __init__(self, answer: Any = True) -> None:
        self.answer = answer
        self.times = 0

    async def __call__(self) -> Any:
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_it_is_asked_when_somebody_wants_to_know() -> None:
    async with linked(db) as pair:
        asked = Asked()
        pair.server.probe_health("db", asked, ttl=1000)
        await pair.settle()
        assert asked.times == 0
        health = pair.service("duplex.health")
        assert await health.check("db") == SERVING
        assert asked.times == 1
        asked.answer = False
        assert await health.check("db") == SERVING, "the answer holds"
        assert (await health["list"]())["db"] == SERVING
        assert asked.times == 1
        assert await health.check() == SERVING
        assert await health.check("duplex.health") == SERVING


@pytest.mark.parametrize("answer", [False, None, RuntimeError("no database")])
async def test_what_is_no_yes(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(db) as pair:
        asked = Asked(answer)
        pair.server.probe_health("db", asked, ttl=0)
        health = pair.service("duplex.health")
        for _ in range(3):
            assert await health.check("db") == NOT_SERVING
        assert asked.times == 3, "nothing holds for no time"
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1, "it is told when it changes"
        assert warnings[0].startswith("service 'db' is not serving")
        if isinstance(answer, Exception):
            assert "no database" in warnings[0]
        asked.answer = True
        assert await health.check("db") == SERVING


async def test_one_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(db) as pair:
        pair.server.probe_health("db", trio.sleep_forever, timeout=0.05)
        assert await pair.service("duplex.health").check("db") == NOT_SERVING
        assert "has not answered within 0.05 s" in caplog.text


async def test_all_who_ask_at_once_share_an_answer() -> None:
    async with linked(db) as pair:
        times = 0
        release = trio.Event()

        async def slow() -> bool:
            nonlocal times
            times += 1
            await release.wait()
            return True

        pair.server.probe_health("db", slow, ttl=1000)
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await pair.service("duplex.health").check("db"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
            with trio.move_on_after(0.05):
                # One who gives up takes the answer from nobody.
                await pair.service("duplex.health").check("db")
            release.set()
        assert answers == [SERVING] * 5
        assert times == 1


async def test_the_whole_peer() -> None:
    async with linked(db) as pair:
        asked = Asked(False)
        pair.server.probe_health("", asked, ttl=0)
        health = pair.service("duplex.health")
        assert await health.check() == NOT_SERVING
        assert await health.check("db") == NOT_SERVING
        assert set((await health["list"]()).values()) == {NOT_SERVING}
        asked.answer = True
        assert await health.check("db") == SERVING


async def test_what_the_program_says_comes_first() -> None:
    async with linked(db) as pair:
        pair.server.probe_health("db", Asked(True))
        pair.server.set_health("db", serving=False)
        assert await pair.service("duplex.health").check("db") == NOT_SERVING


async def test_another_probe_takes_its_place() -> None:
    async with linked(db) as pair:
        pair.server.probe_health("db", Asked(True), ttl=1000)
        assert await pair.service("duplex.health").check("db") == SERVING
        pair.server.probe_health("db", Asked(False), ttl=1000)
        assert await pair.service("duplex.health").check("db") == NOT_SERVING


async def test_while_it_is_watched_it_is_asked_again_and_again() -> None:
    async with linked(db) as pair:
        asked = Asked(True)
        pair.server.probe_health("db", asked, ttl=0.02)
        async with pair.service("duplex.health").watch.open("db") as changes:
            assert await changes.receive() == SERVING
            asked.answer = False
            assert await changes.receive() == NOT_SERVING
            asked.answer = True
            assert await changes.receive() == SERVING
            assert asked.times >= 3


async def test_a_watcher_learns_what_somebody_else_has_asked() -> None:
    async with linked(db) as pair:
        async with pair.service("duplex.health").watch.open("db") as changes:
            assert await changes.receive() == SERVING
            await pair.settle()
            pair.server.probe_health("db", Asked(False), ttl=1000)
            assert await changes.receive() == NOT_SERVING


async def test_bad_arguments() -> None:
    async with linked(db) as pair:
        probe = Asked()
        with pytest.raises(duplex.ConfigurationError, match="'other'"):
            pair.server.probe_health("other", probe)
        bad: Any = "db"
        with pytest.raises(duplex.ConfigurationError, match="a probe is an async function"):
            pair.server.probe_health("db", bad)
        with pytest.raises(duplex.ConfigurationError, match="ttl"):
            pair.server.probe_health("db", probe, ttl=-1)
        with pytest.raises(duplex.ConfigurationError, match="timeout"):
            pair.server.probe_health("db", probe, timeout=float("nan"))


async def test_a_probe_that_cannot_be_awaited_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(db) as pair:
        pair.server.probe_health("db", lambda: True)  # type: ignore[arg-type, return-value]
        assert await pair.service("duplex.health").check("db") == NOT_SERVING
    assert "it has returned True, and a probe is an `async def`" in caplog.text
