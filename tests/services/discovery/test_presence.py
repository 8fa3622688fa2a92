"""A server that says that it is there, also after it stood still for longer than its lease."""

from __future__ import annotations

import time

import pytest
import trio

from duplex_services.discovery import Registration, open_directory
from duplex_services.discovery._presence import _either
from tests.machine import fail_after


@pytest.mark.parametrize("is_first", [True, False])
async def test_one_of_two(is_first: bool) -> None:
    first, second = trio.Event(), trio.Event()
    (first if is_first else second).set()
    await _either(first, second)


@pytest.mark.slow
async def test_a_lost_lease_is_taken_anew() -> None:
    async with open_directory("memory:", server="here", lease_ttl=1.0) as directory:
        index = directory.reading.view.index
        # So that nothing runs meanwhile: this process stands still for longer than any lease of that length lives.
        time.sleep(3.0)
        with fail_after(20):
            await directory.instances.register("web", Registration("a", host="10.0.0.1", port=80))
            directory.announce(["http://10.0.0.1:7710"])
            while directory.reading.view.servers.get("here") != directory.info:
                # The store tells it in real time.
                await trio.sleep(0.01)
        assert directory.reading.view.index > index
