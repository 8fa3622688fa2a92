"""Calls that are made again if they fail: when, how often, and when not."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

import duplex
from duplex._policies import RetryPolicy
from duplex.client._budget import Budget, Budgets
from duplex.client._retry import Attempts
from duplex.codec import CODECS
from duplex.engine.calling import Request
from tests.engine.helpers import linked, outcome, until
from tests.machine import fail_after

S = duplex.StatusCode


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as they are on average."""
    monkeypatch.setattr(random, "random", lambda: 0.5)


# -- the decision --------------------------------------------------------------------------------------


def request(*, idempotent: bool = False, key: str | None = None, deadline: float | None = None) -> Request:
    metadata = {"of": "the caller"} | ({"duplex-idempotency-key": key} if key else {})
    return Request(
        "s.m", "s.m", CODECS["msgpack"], metadata=metadata, idempotent=idempotent, deadline=deadline
    )


def error(
    kind: type[duplex.RPCError] = duplex.Unavailable,
    *,
    executed: bool = True,
    retry_after: float | None = None,
    peer: str | None = "server",
) -> duplex.RPCError:
    made = kind("no")
    made.may_have_executed = executed
    made.retry_after = retry_after
    made.peer = peer
    return made


def attempts(policy: RetryPolicy, asked: Request) -> Attempts:
    return Attempts(policy, asked, Budget(policy))


POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("asked", "failed", "pause"),
    [
        (request(), error(), None),
        (request(), error(executed=False), 0.1),
        (request(idempotent=True), error(), 0.1),
        (request(key="k"), error(), 0.1),
        (request(idempotent=True), error(duplex.Internal), None),
        (request(), error(duplex.InvalidArgument, executed=False), None),
        (request(), error(duplex.ResourceExhausted, executed=False), None),
        (request(), error(duplex.ResourceExhausted, executed=False, retry_after=0.7), 0.7),
        (request(), error(duplex.ResourceExhausted, retry_after=0.7), None),
        (request(idempotent=True), error(duplex.DeadlineExceeded), None),
        (request(idempotent=True), error(retry_after=0.0), 0.0),
        (request(idempotent=True), error(retry_after=600.0), 600.0),
        (request(idempotent=True), error(retry_after=600.1), None),
        (request(idempotent=True), error(retry_after=1e11), None),
        (request(idempotent=True), error(executed=False, peer=None), None),
    ],
)
def test_what_is_tried_again(asked: Request, failed: duplex.RPCError, pause: float | None) -> None:
    assert attempts(POLICY, asked).pause_after(failed, 0.0, math.inf, 0.5) == pause


def test_channels_that_have_gone_cannot_be_passed_again() -> None:
    failed = error(executed=False)
    failed._took_channels = True
    assert attempts(POLICY, request(idempotent=True)).pause_after(failed, 0.0, math.inf, 0.5) is None


def test_pauses_grow_until_the_other_side_says_when_to_come_back() -> None:
    made = attempts(RetryPolicy(max_attempts=10, max_tokens=100), request(idempotent=True))
    pauses = [made.pause_after(error(), 0.0, math.inf, 0.5) for _ in range(3)]
    pauses.append(made.pause_after(error(retry_after=3.0), 0.0, math.inf, 0.5))
    pauses += [made.pause_after(error(), 0.0, math.inf, 0.5) for _ in range(5)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 3.0, 0.1, 0.2, 0.4, 0.8, 1.0])
    last = error()
    assert made.pause_after(last, 0.0, math.inf, 0.5) is None
    assert last.__notes__ == ["It was tried 10 times."]


def test_chance_varies_pauses_by_a_fifth() -> None:
    for chance, pause in ((0.0, 0.08), (1.0, 0.12)):
        made = attempts(POLICY, request(idempotent=True))
        assert made.pause_after(error(), 0.0, math.inf, chance) == pytest.approx(pause)


def test_nothing_is_tried_again_that_would_come_too_late() -> None:
    made = attempts(POLICY, request(idempotent=True, deadline=11.0))
    assert made.deadline == 11.0
    assert made.pause_after(error(), 10.5, made.deadline, 0.5) == pytest.approx(0.1)
    assert made.pause_after(error(), 10.8, made.deadline, 0.5) is None


def test_what_an_attempt_asks_for() -> None:
    asked = request(idempotent=True, deadline=100.0)
    made = attempts(POLICY, asked)
    assert made.request(1.0) is asked
    made.pause_after(error(), 1.0, math.inf, 0.5)
    made.pause_after(error(), 1.0, math.inf, 0.5)
    again = made.request(2.0)
    assert again.metadata == {"of": "the caller", "duplex-previous-attempts": "2"}
    assert again.deadline == 100.0
    assert made.request(2.0, attempt_timeout=5.0).deadline == 7.0
    assert made.request(2.0, attempt_timeout=5.0).timeout == 5.0
    assert made.request(98.0, attempt_timeout=5.0).deadline == 100.0


def test_it_may_have_executed_if_any_attempt_may() -> None:
    made = attempts(POLICY, request(idempotent=True))
    assert made.pause_after(error(executed=True), 0.0, math.inf, 0.5) is not None
    last = error(duplex.NotFound, executed=False)
    assert made.pause_after(last, 0.0, math.inf, 0.5) is None
    assert last.may_have_executed


def test_budget() -> None:
    """Nothing is tried again while half of the tokens are gone; ten calls that succeed give one back."""
    budget = Budget(RetryPolicy(max_tokens=10))

    def allowed_after(*, failed: int = 0, succeeded: int = 0) -> bool:
        for _ in range(failed):
            budget.failed()
        for _ in range(succeeded):
            budget.succeeded()
        return budget.allows_more

    assert allowed_after(failed=4)
    assert not allowed_after(failed=1)
    assert not allowed_after(failed=100, succeeded=50)
    assert allowed_after(succeeded=1)
    assert not budget.is_full
    assert allowed_after(succeeded=1000)
    assert budget.is_full


def test_budgets_of_services_that_are_well_are_forgotten() -> None:
    budgets = Budgets()
    taken = budgets.of("taken", POLICY)
    taken.failed()
    for number in range(1000):
        budgets.of(f"service {number}", POLICY)
    assert budgets.of("taken", POLICY) is taken
    assert budgets.of("taken", RetryPolicy(max_tokens=3)) is not taken
    assert len(budgets._budgets) <= 64


# -- calls ---------------------------------------------------------------------------------------------


class Flaky:
    """A service whose handlers fail as they are told."""

    def __init__(self) -> None:
        self.fail_with: list[Exception | None] = []
        self.attempts: list[int] = []
        self.keys: list[Any] = []
        self.service = service = duplex.Service("flaky")

        def begin() -> None:
            call = duplex.current_call()
            self.attempts.append(call.attempt)
            self.keys.append(call.metadata.get("duplex-idempotency-key"))
            if self.fail_with and (failure := self.fail_with.pop(0)) is not None:
                raise failure

        @service.rpc
        async def get(value: int = 1) -> int:
            begin()
            return value

        @service.rpc(idempotent=True)
        async def declared() -> int:
            begin()
            return 2

        @service.rpc
        async def slow() -> int:
            begin()
            if len(self.attempts) < 3:
                await trio.sleep(100)  # the point: the server takes its time
            return 3

        @service.rpc
        async def count(upto: int) -> AsyncIterator[int]:
            begin()
            for number in range(upto):
                if number == 2:
                    begin()
                yield number

        @service.rpc
        async def total(numbers: duplex.ReceiveChannel[int]) -> int:
            begin()
            return sum([number async for number in numbers])


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


def no(count: int = 1, kind: type[duplex.RPCError] = duplex.Unavailable) -> list[Exception | None]:
    return [kind("no") for _ in range(count)]


def retried(remote: Any, *, idempotent: bool = True, **policy: Any) -> Any:
    return remote.with_options(retry=RetryPolicy(**policy), idempotent=idempotent)


async def test_a_call_is_made_again(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = no(3)
    async with linked(flaky.service) as pair:
        began = trio.current_time()
        assert await retried(pair.service("flaky")).get(5) == 5
        assert trio.current_time() - began == pytest.approx(0.1 + 0.2 + 0.4)
        assert flaky.attempts == [1, 2, 3, 4]
        assert pair.client.statistics().retries == 3
        assert pair.client.statistics().retries_throttled == 0


async def test_a_call_over_one_link_too(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = no(1)
    async with linked(flaky.service) as pair:
        assert await retried(pair.link.service("flaky")).get() == 1
        assert flaky.attempts == [1, 2]


async def test_the_last_error_is_raised(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = [*no(3), duplex.Unavailable("the last one")]
    async with linked(flaky.service) as pair:
        with pytest.raises(duplex.Unavailable, match="the last one") as caught:
            await retried(pair.service("flaky")).get()
        assert caught.value.__notes__ == ["It was tried 4 times."]
        assert caught.value.method == "flaky.get"
        assert await retried(pair.service("flaky")).get() == 1


async def test_what_may_have_been_done_is_not_done_again(flaky: Flaky) -> None:
    flaky.fail_with = no(1)
    async with linked(flaky.service) as pair:
        with pytest.raises(duplex.Unavailable):
            await retried(pair.service("flaky"), idempotent=False).get()
        assert flaky.attempts == [1]


async def test_what_a_service_declares_is_known_to_proxies_of_its_class(
    flaky: Flaky, autojump_clock: object
) -> None:
    class Declares:
        @duplex.rpc(idempotent=True)
        async def declared(self) -> int:
            raise NotImplementedError

        @duplex.rpc
        async def get(self, value: int = 1) -> int:
            raise NotImplementedError

    async with linked(flaky.service) as pair:
        remote: Any = pair.client.service(Declares, name="flaky")
        flaky.fail_with = no(1)
        assert await remote.with_options(retry=RetryPolicy()).declared() == 2
        flaky.fail_with = no(1)
        with pytest.raises(duplex.Unavailable):
            await remote.with_options(retry=RetryPolicy()).get()
        flaky.fail_with = no(1)
        with pytest.raises(duplex.Unavailable):
            await remote.declared.with_options(retry=RetryPolicy(), idempotent=False)()


async def test_a_server_that_is_full_is_asked_again_when_it_says(autojump_clock: object) -> None:
    """The call certainly was not executed, so any method will do."""
    go = trio.Event()
    busy = duplex.Service("busy")

    @busy.rpc
    async def work() -> int:
        await go.wait()
        return 1

    limits = duplex.Limits(max_handlers_per_link=1)
    async with linked(busy, server={"limits": limits}) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.service("busy").work)
        await trio.testing.wait_all_tasks_blocked()
        results: list[Any] = []

        async def again() -> None:
            results.append(await retried(pair.service("busy"), idempotent=False, max_attempts=100).work())

        assert type(await outcome(pair.service("busy").work())) is duplex.ResourceExhausted
        nursery.start_soon(again)
        await trio.sleep(0.35)
        assert results == []
        go.set()
        await trio.sleep(1)
        assert results == [1]
        assert 3 <= pair.client.statistics().retries <= 4


async def test_a_key_of_its_own_makes_any_call_safe(autojump_clock: object) -> None:
    """The link is lost with the answer; the second attempt gets what the first one did."""
    done: list[str] = []
    shop = duplex.Service("shop")

    @shop.rpc
    async def order(what: str) -> int:
        done.append(what)
        if what == "tea" and len(done) == 1:
            await pair.back.aclose()
        return len(done)

    async with linked(shop, within=100, check=False) as pair:
        remote = retried(pair.service("shop"), idempotent=False, keyed=True)
        assert await remote.order("tea") == 1
        assert await remote.order("milk") == 2, "each call has another key"
        assert await remote.order("tea") == 3
        assert done == ["tea", "milk", "tea"]
        assert pair.client.statistics().retries == 1


async def test_calls_that_pass_what_lives_have_no_key() -> None:
    """A policy that is set for all of a service must not break the methods that take callbacks or channels."""
    service = duplex.Service("service")
    keys: list[object] = []

    def note() -> None:
        keys.append(duplex.current_call().metadata.get("duplex-idempotency-key"))

    @service.rpc
    async def each(numbers: list[int], visit: duplex.Callback[[int], int]) -> int:
        note()
        return sum([await visit(number) for number in numbers])

    @service.rpc
    async def total(first: duplex.ReceiveChannel[int], second: duplex.ReceiveChannel[int]) -> int:
        note()
        return sum([number async for number in first]) + sum([number async for number in second])

    def double(number: int) -> int:
        return 2 * number

    def numbers() -> trio.MemoryReceiveChannel[int]:
        send, receive = trio.open_memory_channel[int](3)
        with send:
            for number in range(3):
                send.send_nowait(number)
        return receive

    async with linked(service) as pair:
        remote = retried(pair.service("service"), idempotent=False, keyed=True)
        assert await remote.each([1, 2], double) == 6
        assert await remote.each([1, 2], visit=double) == 6
        assert await remote.total(numbers(), numbers()) == 6
        assert keys == [None, None, None]


async def test_a_key_that_was_given_is_kept(flaky: Flaky) -> None:
    async with linked(flaky.service) as pair:
        remote = retried(pair.service("flaky"), keyed=True).with_options(idempotency_key="mine")
        await remote.get()
        assert flaky.keys == ["mine"]


async def test_the_deadline_is_for_all_attempts(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = no(100)
    async with linked(flaky.service) as pair:
        remote = retried(pair.service("flaky"), max_attempts=50, max_tokens=1000)
        began = trio.current_time()
        with pytest.raises(duplex.Unavailable):
            await remote.with_options(timeout=2).get()
        assert trio.current_time() - began < 2, "nobody waits for what would come too late"
        began = trio.current_time()
        with trio.move_on_after(2), pytest.raises(duplex.Unavailable):
            await remote.get()
        assert 1 < trio.current_time() - began < 2


async def test_an_attempt_that_takes_too_long(flaky: Flaky, autojump_clock: object) -> None:
    async with linked(flaky.service, within=1000) as pair:
        remote = retried(pair.service("flaky"), attempt_timeout=2)
        began = trio.current_time()
        assert await remote.slow() == 3
        assert trio.current_time() - began == pytest.approx(2 + 0.1 + 2 + 0.2)
        assert flaky.attempts == [1, 2, 3]
        flaky.attempts.clear()
        with pytest.raises(duplex.DeadlineExceeded, match="within 3 s"):
            await remote.with_options(timeout=3).slow()
        flaky.attempts.clear()
        with pytest.raises(duplex.DeadlineExceeded, match="within 2 s"):
            await remote.with_options(idempotent=False).slow()
        assert flaky.attempts == [1]


async def test_while_many_calls_fail_nothing_is_tried_again(flaky: Flaky, autojump_clock: object) -> None:
    async with linked(flaky.service, within=1000) as pair:
        remote = retried(pair.service("flaky"), max_attempts=2, max_tokens=10)
        flaky.fail_with = no(1000)
        for _ in range(10):
            assert type(await outcome(remote.get())) is duplex.Unavailable
        assert len(flaky.attempts) == 10 + 2, "each that fails takes a token, and half of ten have to be left"
        counted = pair.client.statistics()
        assert (counted.retries, counted.retries_throttled) == (2, 8)
        flaky.fail_with = []
        for _ in range(100):
            await remote.get()
        flaky.fail_with = no(1)
        assert await remote.get() == 1


async def test_cancelling_ends_the_pause(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = [unavailable := duplex.Unavailable("no")]
    unavailable.retry_after = 50
    async with linked(flaky.service, within=1000) as pair:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(retried(pair.service("flaky")).get)
            await trio.sleep(3)
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == pytest.approx(3)
        assert flaky.attempts == [1]


async def test_nobody_to_call_is_no_reason_to_try_again(autojump_clock: object) -> None:
    """A call waits for a link as it is; it does not do so four times."""
    async with duplex.open_peer(connect_timeout=5) as client:
        client.connect_soon("memory://nowhere")
        began = trio.current_time()
        with pytest.raises(duplex.Unavailable, match="within 5 s"):
            await retried(client.service("flaky")).get()
        assert trio.current_time() - began == pytest.approx(5)
        assert client.statistics().retries == 0


async def test_another_attempt_takes_another_server(autojump_clock: object) -> None:
    ill, well = Flaky(), Flaky()
    ill.fail_with = no(100)
    with fail_after(100):
        async with (
            duplex.open_peer(services=[ill.service]) as first,
            duplex.open_peer(services=[well.service]) as second,
            duplex.open_peer() as client,
        ):
            for server in (first, second):
                await client.connect(await server.bind("memory://*"))
            remote = retried(client.service("flaky"), max_attempts=2, max_tokens=1000)
            for _ in range(20):
                assert await remote.get() == 1


async def test_a_notification_is_sent_once(flaky: Flaky) -> None:
    flaky.fail_with = no(3)
    async with linked(flaky.service) as pair:
        await retried(pair.service("flaky")).get.notify()
        await until(lambda: flaky.attempts)
        await pair.settle()
        assert flaky.attempts == [1]


# -- streams -------------------------------------------------------------------------------------------


async def _iterated(call: Any) -> list[int]:
    return [number async for number in call]


async def _received(call: Any) -> list[int]:
    found = []
    with contextlib.suppress(trio.EndOfChannel):
        while True:
            found.append(await call.receive())
    return found


@pytest.mark.parametrize("take", [_iterated, _received])
async def test_a_stream_is_opened_again_before_its_first_item(
    flaky: Flaky, take: Callable[[Any], Any], autojump_clock: object
) -> None:
    flaky.fail_with = [*no(2), None, *no(1)]
    async with linked(flaky.service) as pair:
        began = trio.current_time()
        async with retried(pair.service("flaky")).count.open(2) as call:
            assert await take(call) == [0, 1]
            assert call.peer == "server"
        assert trio.current_time() - began == pytest.approx(0.1 + 0.2)
        assert flaky.attempts == [1, 2, 3]
        assert pair.client.statistics().retries == 2


@pytest.mark.parametrize("take", [_iterated, _received])
async def test_a_stream_is_not_opened_again_after_its_first_item(
    flaky: Flaky, take: Callable[[Any], Any]
) -> None:
    flaky.fail_with = [None, *no(1)]
    async with linked(flaky.service) as pair:
        async with retried(pair.service("flaky")).count.open(5) as call:
            assert await call.receive() == 0
            with pytest.raises(duplex.Unavailable):
                await take(call)
        assert flaky.attempts == [1, 1]


async def test_an_empty_stream_counts_as_one_that_succeeded(flaky: Flaky, autojump_clock: object) -> None:
    async with linked(flaky.service, within=1000) as pair:
        remote = retried(pair.service("flaky"), max_tokens=1, token_ratio=1.0)
        for _ in range(3):
            flaky.fail_with = no(1)
            async with remote.count.open(0) as call:
                with pytest.raises(duplex.Unavailable):
                    await _iterated(call)
            async with remote.count.open(0) as call:
                assert await _iterated(call) == []
        assert pair.client.statistics().retries_throttled == 3


async def test_a_stream_that_fails_in_the_end_stays_failed(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = no(100)
    async with linked(flaky.service) as pair:
        async with retried(pair.service("flaky")).count.open(2) as call:
            for _ in range(3):
                with pytest.raises(duplex.Unavailable):
                    await call.receive()
        assert flaky.attempts == [1, 2, 3, 4]


@pytest.mark.parametrize("end_first", [False, True])
async def test_a_result_is_asked_for_again(flaky: Flaky, end_first: bool, autojump_clock: object) -> None:
    flaky.fail_with = no(2)
    async with linked(flaky.service) as pair:
        async with retried(pair.service("flaky")).total.open() as call:
            if end_first:
                await call.send_eof()
            assert await call.result() == 0
            assert await call.result() == 0
        assert flaky.attempts == [1, 2, 3]


async def test_what_was_sent_cannot_be_sent_again(flaky: Flaky) -> None:
    flaky.fail_with = no(1)
    async with linked(flaky.service) as pair:
        async with retried(pair.service("flaky")).total.open() as call:
            with contextlib.suppress(duplex.Unavailable, trio.BrokenResourceError):
                await call.send(1)
            with pytest.raises(duplex.Unavailable):
                await call.result()
        assert flaky.attempts == [1]


async def test_the_deadline_of_a_stream_is_for_all_attempts(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = no(100)
    async with linked(flaky.service) as pair:
        remote = retried(pair.service("flaky"), max_attempts=50, max_tokens=1000)
        began = trio.current_time()
        async with remote.with_options(timeout=2).count.open(1) as call:
            with pytest.raises(duplex.Unavailable):
                await call.receive()
            assert 1 < trio.current_time() - began < 2
            await trio.sleep(0.1)


async def test_a_stream_that_cannot_even_be_opened(autojump_clock: object) -> None:
    async with duplex.open_peer() as client:
        with pytest.raises(duplex.Unavailable, match="not connected or bound"):
            async with retried(client.service("flaky")).count.open(1):
                pass


async def test_leaving_the_block_ends_the_attempt_that_goes_on(flaky: Flaky, autojump_clock: object) -> None:
    flaky.fail_with = no(1)
    async with linked(flaky.service) as pair:
        async with retried(pair.service("flaky")).count.open(10**9) as call:
            assert await call.receive() == 0
            assert pair.link.statistics().outgoing == 1
        await until(lambda: pair.link.statistics().outgoing == 0)


# -- options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, r"RetryPolicy\.max_attempts must be a whole number from 1"),
        ({"initial": 0}, r"RetryPolicy\.initial must be a number of seconds"),
        ({"initial": 5}, r"RetryPolicy\.maximum \(1\.0\) must not be shorter"),
        ({"multiplier": 0.5}, r"RetryPolicy\.multiplier"),
        ({"jitter": 1}, r"RetryPolicy\.jitter"),
        ({"codes": "UNAVAILABLE"}, r"RetryPolicy\.codes must be some of duplex\.StatusCode"),
        ({"codes": [14]}, r"RetryPolicy\.codes"),
        ({"codes": [S.OK]}, r"RetryPolicy\.codes"),
        ({"codes": 5}, r"RetryPolicy\.codes"),
        ({"attempt_timeout": -1}, r"RetryPolicy\.attempt_timeout"),
        ({"keyed": 1}, r"RetryPolicy\.keyed must be True or False"),
        ({"max_tokens": 0}, r"RetryPolicy\.max_tokens"),
        ({"token_ratio": 0}, r"RetryPolicy\.token_ratio"),
    ],
)
def test_wrong_policies(options: dict[str, Any], message: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=message):
        RetryPolicy(**options)


def test_codes_may_be_given_in_any_way() -> None:
    assert RetryPolicy(codes=[S.ABORTED, S.UNAVAILABLE]).codes == {S.ABORTED, S.UNAVAILABLE}  # type: ignore[arg-type]
    assert hash(RetryPolicy()) == hash(RetryPolicy())


async def test_wrong_options(flaky: Flaky) -> None:
    async with linked(flaky.service) as pair:
        remote: Any = pair.service("flaky")
        with pytest.raises(
            duplex.ConfigurationError, match=r"retry must be a duplex\.RetryPolicy or None, not 3"
        ):
            remote.with_options(retry=3)
        with pytest.raises(duplex.ConfigurationError, match="idempotent must be True, False or None"):
            remote.with_options(idempotent=1)
        assert await retried(pair.service("flaky")).with_options(retry=None, idempotent=None).get() == 1
