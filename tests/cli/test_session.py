"""What must hold between sending, receiving and showing, whichever happens first."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.cli._session import _converse
from duplex.cli._stdin import Items


class FakeItems(Items):
    """One item, without standard input."""

    def __init__(self) -> None:
        super().__init__(None, {})

    async def send_to(self, send: Any) -> None:
        await send(1)


class FakeCall:
    """A call that takes nothing, and ends once that was tried."""

    def __init__(self, refusal: Exception, outcome: Exception) -> None:
        self._refusal = refusal
        self._outcome = outcome

    async def send(self, value: object) -> None:
        raise self._refusal

    async def receive(self) -> Any:
        await trio.testing.wait_all_tasks_blocked()
        raise self._outcome


async def show(value: object, alone: bool) -> None:
    """Nothing is shown here."""


@pytest.mark.parametrize("refusal", [trio.BrokenResourceError(), duplex.NotFound("too late")])
async def test_a_call_that_ends_while_items_are_sent_ends_well(refusal: Exception) -> None:
    call: Any = FakeCall(refusal, trio.EndOfChannel())
    await _converse(call, FakeItems(), show)


async def test_the_outcome_of_the_call_counts_not_the_refusal_of_items() -> None:
    call: Any = FakeCall(duplex.Unavailable("refused"), duplex.NotFound("the outcome"))
    with pytest.raises(duplex.NotFound, match="the outcome"):
        await _converse(call, FakeItems(), show)


async def test_an_item_that_cannot_travel_ends_the_call() -> None:
    call: Any = FakeCall(duplex.EncodeError("too big a number"), trio.EndOfChannel())
    with pytest.raises(duplex.EncodeError, match="too big a number"):
        await _converse(call, FakeItems(), show)
