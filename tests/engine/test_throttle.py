"""Warnings that repeat are counted."""

from __future__ import annotations

import pytest

import duplex
from duplex.engine._throttle import PAUSE, Throttle
from tests.engine.helpers import linked


def test_a_kind_is_logged_once_in_a_while() -> None:
    throttle = Throttle()
    assert throttle.note("a", 100.0) == ""
    assert throttle.note("b", 100.0) == "", "another kind has its own"
    for step in range(5):
        assert throttle.note("a", 100.0 + step) is None
    assert throttle.note("a", 100.0 + PAUSE) == " (and 5 more like it since the last of these)"
    assert throttle.note("a", 101.0 + PAUSE) is None
    assert throttle.note("a", 100.0 + 2 * PAUSE) == " (and 1 more like it since the last of these)"
    assert throttle.note("a", 100.0 + 4 * PAUSE) == "", "there were none in between"


def test_what_was_only_counted_can_be_told_at_the_end() -> None:
    throttle = Throttle()
    for _ in range(4):
        throttle.note("a", 1.0)
    throttle.note("b", 1.0)
    assert throttle.left() == [("a", 3)]
    assert throttle.left() == []
    assert throttle.note("a", 2.0) is None


@pytest.mark.parametrize("how", ["unknown method", "bad arguments"])
async def test_notifications_do_not_fill_the_log(how: str, caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("svc")

    @service.rpc
    async def hear(number: int) -> None:
        pass

    async with linked(service) as pair:
        method = pair.service("svc").hear if how == "bad arguments" else pair.service("svc").nothing
        for _ in range(500):
            await method.notify("x" * 50)
        await pair.settle()
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert "a notification from client" in texts[0]
    assert "499 more from client were not logged one by one" in texts[1]
    assert all(record.exc_info is None for record in caplog.records)
