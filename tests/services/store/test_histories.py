"""Several clients in bad weather at once, by lot: whatever answers are lost and copies late, what they saw is linearizable."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from duplex_services.store.testing import Operation, explain_history
from duplex_services.store.testing._history import record
from tests.services.store.test_check_store import ForgetsConditions, ReadsOldThings
from tests.services.store.weather import Server, Weather, open_weather
from tests.sizes import size

_CLIENTS = 3
_OPERATIONS = 15


async def _spoil(server: Server, backends: list[Weather], chance: random.Random) -> None:
    """Lose answers, hold commits back and let them go, as long as the clients are at it."""
    while True:
        await trio.sleep(chance.random() * 0.03)
        backend = chance.choice(backends)
        match chance.randrange(6):
            case 0 | 1 | 2:
                backend.fates.append(chance.choice(["lost", "late", "late", "never"]))
            case 3:
                backend.is_away = True
                await trio.sleep(chance.random() * 0.1)
                backend.is_away = False
            case 4:
                backend.delay = chance.choice([0.001, 0.01, 0.05])
            case _:
                chance.shuffle(server.late)
                for _ in range(chance.randrange(3)):
                    if server.late:
                        server.late.pop()()


async def _history(seed: int, kind: type[Weather] = Weather) -> list[Operation]:
    chance = random.Random(seed)
    server = Server()
    history: list[Operation] = []
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_weather(server, patience=1.0, kind=kind))
            for _ in range(_CLIENTS)
        ]
        left = _CLIENTS
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_spoil, server, [backend for _, backend in opened], chance)

            async def work(number: int) -> None:
                nonlocal left
                store, backend = opened[number]
                # Answers take a moment, so that they overlap.
                backend.delay = 0.01
                history.extend(await record(store, "a", f"c{number}", _OPERATIONS, seed * 10 + number))
                left -= 1
                if not left:
                    nursery.cancel_scope.cancel()

            for number in range(_CLIENTS):
                nursery.start_soon(work, number)
        for _, backend in opened:
            backend.is_away = False
    return history


def run(seed: int, kind: type[Weather] = Weather) -> list[Operation]:
    return trio.run(_history, seed, kind, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.slow
def test_histories_are_linearizable() -> None:
    outcomes: dict[str, int] = {}
    for seed in range(size(40, 2000)):
        history = run(seed)
        assert explain_history(history) is None, f"seed {seed}: {explain_history(history)}"
        for operation in history:
            outcomes[operation.outcome] = outcomes.get(operation.outcome, 0) + 1
    # The weather was bad, and the clients got somewhere all the same.
    assert outcomes["ok"] > 10 * outcomes["unknown"] > 0
    assert outcomes["conflict"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ForgetsConditions, ReadsOldThings])
def test_a_store_that_is_not_is_found_out(kind: type[Weather]) -> None:
    assert any(explain_history(run(seed, kind)) is not None for seed in range(20))


@pytest.mark.slow
def test_without_writers_keys_it_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex_services.store._queue.with_writer", lambda commit, *_: commit)
    assert any(explain_history(run(seed)) is not None for seed in range(200))
