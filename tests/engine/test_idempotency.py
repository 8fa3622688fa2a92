"""A method runs once for an idempotency key, however often and over whichever link it is called."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex._status import StatusCode
from duplex.engine.serving.idempotency import KEY_SIZE
from duplex.engine.serving.idempotency._result import CallResult
from tests.engine.helpers import GUARD, collect, linked, made, outcome, until
from tests.engine.raw import RawDealer
from tests.engine.till import Till, given_up
from tests.machine import fail_after


@pytest.fixture
def till() -> Till:
    return Till()


# -- once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [False, True])
async def test_repeated_call_gets_the_first_outcome(till: Till, endpoint: str, opened: bool) -> None:
    async with linked(till.service, endpoint=endpoint) as pair:
        remote = till.keyed(pair)
        assert await made(remote.charge, 3, opened=opened) == 301
        assert await made(remote.charge, 3, opened=not opened) == 301
        async with remote.charge.open(3) as call:
            assert await call.result() == 301
            assert call.trailers == {"run": "1"}
        assert await till.keyed(pair, "other").charge(3) == 302
        assert await pair.service("till").charge(3) == 303
        assert till.runs == 3
        assert till.seen[0] == {"duplex-idempotency-key": "k"}


async def test_same_key_of_another_method_is_another_key(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        assert await remote.charge(0) == 1
        assert await remote.inline() == 2
        assert await remote.charge(0) == 1
        assert await remote.inline() == 2


async def test_metadata_of_the_application_is_kept(till: Till) -> None:
    async with linked(till.service) as pair:
        await till.keyed(pair, metadata={"user": "ann"}).charge(1)
        assert till.seen == [{"user": "ann", "duplex-idempotency-key": "k"}]


async def test_errors_are_outcomes_too(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        first, second = await outcome(remote.refuse()), await outcome(remote.refuse())
        assert isinstance(second, duplex.NotFound)
        assert second.message == "no such account"
        assert second.details == first.details == {"account": 1}
        assert second.metadata == {"run": "1"}
        crashes = [await outcome(remote.crash()) for _ in range(2)]
        assert type(crashes[1]) is duplex.Internal
        assert crashes[0].details == crashes[1].details
        assert till.runs == 2


async def test_outcome_is_forgotten_after_its_time(till: Till, autojump_clock: object) -> None:
    options = {"idempotency": duplex.Idempotency(ttl=60.0)}
    async with linked(till.service, server=options, within=1000) as pair:
        remote = till.keyed(pair)
        assert await remote.charge(1) == 101
        await trio.sleep(59.9)
        assert await remote.charge(1) == 101
        await trio.sleep(0.2)
        assert await remote.charge(1) == 102
        assert pair.server._inside.results.remembered[0] == 1


async def test_result_is_remembered_as_it_was(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        assert not (await remote.shared()).any()
        till.array[:] = 1
        assert not (await remote.shared()).any()
        assert (await pair.service("till").shared()).all()


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_other_arguments_are_refused(till: Till, codec: str) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair, codec=codec)
        assert await remote.charge(1) == 101
        for attempt in (
            remote.charge(2),
            remote.charge(amount=1),
            till.keyed(pair, codec="raw").charge(b"x"),
        ):
            with pytest.raises(duplex.FailedPrecondition, match="'k' before, and with other arguments"):
                await attempt
        assert till.runs == 1


async def test_other_attachments_are_other_arguments() -> None:
    service = duplex.Service("till")

    @service.rpc
    async def size(data: bytes) -> int:
        return len(data)

    async with linked(service) as pair:
        remote = pair.service("till").with_options(idempotency_key="k")
        assert await remote.size(bytes(100_000)) == 100_000
        assert await remote.size(bytes(100_000)) == 100_000
        with pytest.raises(duplex.FailedPrecondition):
            await remote.size(b"\1" * 100_000)


async def test_refused_arguments_use_no_key_up(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        with pytest.raises(duplex.InvalidArgument, match="argument 'amount'"):
            await remote.charge("three")
        assert await remote.charge(3) == 301


# -- at once -------------------------------------------------------------------------------------------


async def test_attempts_at_once_wait_for_one_run(till: Till, endpoint: str) -> None:
    results: list[Any] = []

    async def call(opened: bool) -> None:
        results.append(await made(till.keyed(pair).slow, 5, opened=opened))

    async with linked(till.service, endpoint=endpoint) as pair:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(call, number % 2 == 0)
            await until(lambda: pair.back.statistics().incoming == 20)
            till.go.set()
        assert results == [501] * 20
        assert till.runs == 1


async def test_attempts_of_several_callers(till: Till) -> None:
    results: list[Any] = []

    async def call(remote: duplex.ServiceProxy) -> None:
        results.append(await remote.slow(5))

    async with linked(till.service) as pair, duplex.open_peer() as other:
        await other.connect(pair.endpoint)
        async with trio.open_nursery() as nursery:
            for remote in (till.keyed(pair), other.service("till").with_options(idempotency_key="k")):
                nursery.start_soon(call, remote)
            await until(lambda: [link.statistics().incoming for link in pair.server.links] == [1, 1])
            till.go.set()
        assert results == [501, 501]


async def test_inline_functions_wait_for_nothing_and_run_once(till: Till) -> None:
    async with linked(till.service) as pair:
        results: list[int] = []

        async def call() -> None:
            results.append(await till.keyed(pair).inline())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
        assert results == [1] * 5


async def test_notification_and_call_share_a_run(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        await remote.slow.notify(5)
        await remote.slow.notify(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.slow, 5)
            await pair.settle()
            till.go.set()
        await remote.slow.notify(5)
        assert await remote.slow(5) == 501
        assert till.runs == 1


async def test_notification_is_wanted_though_nobody_waits(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        await remote.slow.notify(5)
        await given_up(lambda: pair.back.statistics().incoming == 1, remote.slow, 5)
        await pair.settle()
        assert till.running == 1
        till.go.set()
        assert await remote.slow(5) == 501


async def test_failed_notification_is_logged(till: Till, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(till.service) as pair:
        await till.keyed(pair).refuse.notify()
        await pair.settle()
        assert "notification to till.refuse failed: no such account" in caplog.text


# -- what cannot have a key ----------------------------------------------------------------------------


async def test_methods_that_stream_cannot_have_a_key(till: Till) -> None:
    async with linked(till.service) as pair:
        remote = till.keyed(pair)
        for method, arguments in ((remote.count, (3,)), (remote.total, ())):
            async with method.open(*arguments) as call:
                with pytest.raises(duplex.InvalidArgument, match="keys are for methods with one result"):
                    await collect(call)


async def test_callbacks_and_channels_cannot_be_passed_with_a_key(till: Till) -> None:
    async with linked(till.service) as pair:
        with pytest.raises(duplex.InvalidArgument, match="no callbacks and channels among them"):
            await till.keyed(pair).call_back(lambda: 1)


async def test_callbacks_and_channels_cannot_be_returned(till: Till) -> None:
    service = duplex.Service("till")
    kept: list[Any] = []

    @service.rpc
    async def function() -> Any:
        return {"function": lambda: 1}

    @service.rpc
    async def channel() -> Any:
        sending, receiving = trio.open_memory_channel[int](1)
        kept.append(sending)
        return [receiving]

    async with linked(service) as pair:
        remote = pair.service("till").with_options(idempotency_key="k")
        for method in (remote.function, remote.channel):
            with pytest.raises(duplex.InvalidArgument, match="call it without an idempotency key"):
                await method()
        await until(lambda: kept[0].statistics().open_receive_channels == 0)


async def test_channels_opened_for_a_keyed_call_are_harmless(till: Till) -> None:
    """A peer that names the call as parent of a channel, though no value can have come with it."""
    async with linked(till.service) as pair:
        async with till.keyed(pair).slow.open(1) as call:
            root = call._call
            nested = pair.link._inside.values.open_nested(root, sends_to_peer=True)
            await pair.settle()
            till.go.set()
            assert await call.result() == 101
            nested.revoke()


@pytest.mark.parametrize("key", ["", "k" * 256, b"bytes"])
async def test_malformed_keys(till: Till, key: Any) -> None:
    async with linked(till.service) as pair:
        method = pair.service("till").charge
        method._request = method._request.__class__(
            "till.charge", "till.charge", method._request.codec, metadata={"duplex-idempotency-key": key}
        )
        with pytest.raises(duplex.InvalidArgument, match="a text of 1 to 255 bytes"):
            await method(1)
        await method.notify(1)
        await pair.settle()
        assert till.runs == 0


async def test_result_that_cannot_travel() -> None:
    service = duplex.Service("till")

    @service.rpc
    async def thing() -> Any:
        return object()

    async with linked(service) as pair:
        with pytest.raises(duplex.Internal):
            await pair.service("till").with_options(idempotency_key="k").thing()


async def test_caller_that_breaks_the_rules_of_its_channel(till: Till) -> None:
    """Its channel is over at once, and so is the handler, as nobody else waits."""
    metadata = {"duplex-idempotency-key": "k"}
    seen: list[duplex.UnservedCall] = []
    async with duplex.open_peer(services=[till.service], observer=seen.append) as server:
        address = await server.bind("tcp://127.0.0.1:*")
        with RawDealer(address) as raw, fail_after(GUARD):
            await raw.shake_hands(
                [7, 1, "till.slow", 1, b"\x91\x91\x01", 0, None, metadata],
                [7, 3, "till.slow", 1, b"\x91\x91\x01", 0, None, metadata],
            )
            await until(lambda: till.running and server.links[0].statistics().incoming == 2)
            raw.say([8, 1, b"after its end"])
            await raw.commands(10)
            assert till.running == 1
            raw.say([8, 3, b"after its end"])
            await raw.commands(10, 2)
            await until(lambda: till.cancelled)
            await until(lambda: server._inside.results.running == 0)
            assert not server.links[0]._inside.channels.users
            assert seen == [], "nobody got the answer of a run"


@pytest.mark.parametrize("fails", [False, True])
async def test_channels_of_a_keyed_call_end_as_it_ends(till: Till, fails: bool) -> None:
    service = duplex.Service("s")

    @service.rpc
    async def wait() -> None:
        till.running += 1
        await till.go.wait()
        if fails:
            raise duplex.NotFound("nothing")

    async with duplex.open_peer(services=[service]) as server:
        address = await server.bind("tcp://127.0.0.1:*")
        with RawDealer(address) as raw, fail_after(GUARD):
            await raw.shake_hands(
                [7, 1, "s.wait", 1, b"\x91\x90", 0, None, {"duplex-idempotency-key": "k"}],
                [7, 3, None, 0, None, 0, None, None, None, 1],
            )
            await until(lambda: till.running and server.links[0].statistics().incoming == 2)
            till.go.set()
            await raw.commands(10, 2)
            statuses = {command[1]: command[2] for command in raw.received if command[0] == 10}
            if fails:
                assert statuses == {1: StatusCode.NOT_FOUND, 3: StatusCode.CANCELLED}
            else:
                assert statuses == {1: StatusCode.OK, 3: StatusCode.OK}


async def test_malformed_trailers_are_told_as_of_any_call(till: Till) -> None:
    async with linked(till.service) as pair:
        plain = await outcome(pair.service("till").bad_trailers())
        keyed = await outcome(till.keyed(pair).bad_trailers())
        assert type(plain) is type(keyed) is duplex.Internal


# -- bounds --------------------------------------------------------------------------------------------


def _room(outcomes: int, keys: int) -> dict[str, Any]:
    """The options of a server with room for so many outcomes of ``charge`` and so many keys without one."""
    outcome = CallResult(StatusCode.OK, b"0", trailers={"run": "1"})
    return {"idempotency": duplex.Idempotency(max_bytes=outcomes * outcome.size + keys * KEY_SIZE)}


async def test_a_key_is_known_longer_than_its_outcome(till: Till, caplog: pytest.LogCaptureFixture) -> None:
    """The handler does not run again, however many other calls there are."""
    async with linked(till.service, server=_room(3, 10)) as pair:
        for number in range(8):
            assert await till.keyed(pair, str(number)).charge(0) == number + 1
        statistics = pair.server.statistics()
        assert statistics.outcomes_remembered + statistics.outcomes_forgotten == 8
        assert statistics.outcomes_forgotten == statistics.outcomes_lost > 0
        assert statistics.idempotency_bytes <= pair.server._inside.results._config.max_bytes
        for number in range(8):
            answer = await outcome(till.keyed(pair, str(number)).charge(0))
            if number >= statistics.outcomes_forgotten:
                assert answer == number + 1
                continue
            assert type(answer) is duplex.ResourceExhausted
            assert re.search(r"the call was executed, .*Idempotency\.max_bytes is \d+", str(answer))
            assert answer.may_have_executed
            assert not answer.metadata
        assert till.runs == 8
        await till.keyed(pair, "0").charge.notify(0)
        await pair.settle()
        assert till.runs == 8
    # The first is warned of at once, the others are counted.
    [record] = [record for record in caplog.records if "is forgotten" in record.message]
    assert "120 s before its time" in record.message


async def test_new_keys_are_refused_rather_than_known_ones_forgotten(
    till: Till, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(till.service, server=_room(0, 8), within=1000) as pair:
        for number in range(8):
            assert await till.keyed(pair, str(number)).charge(0) == number + 1
        for _ in range(3):
            with pytest.raises(duplex.ResourceExhausted, match=r"no room for more \(Idempotency") as caught:
                await till.keyed(pair, "new").charge(0)
            assert not caught.value.may_have_executed
            assert caught.value.retry_after is not None
        for number in range(8):
            with pytest.raises(duplex.ResourceExhausted, match="was executed"):
                await till.keyed(pair, str(number)).charge(0)
        assert pair.server.statistics().keys_refused == 3
        assert till.runs == 8
        assert len([record for record in caplog.records if "are refused" in record.message]) == 1
        await trio.sleep(121)
        assert await till.keyed(pair, "new").charge(0) == 9
        assert await till.keyed(pair, "0").charge(0) == 10


async def test_keys_of_cut_runs_make_room(till: Till, autojump_clock: trio.testing.MockClock) -> None:
    async with linked(till.service, server=_room(0, 7)) as pair:
        for number in range(20):
            with trio.move_on_after(0.01):
                await till.keyed(pair, str(number)).slow()
        await pair.settle()
        assert pair.server.statistics().idempotency_bytes == 0


async def test_what_has_expired_goes_without_further_calls(
    till: Till, autojump_clock: trio.testing.MockClock
) -> None:
    async with linked(till.service, server=_room(2, 7), within=1000) as pair:
        for number in range(6):
            await till.keyed(pair, str(number)).charge(0)
            await trio.sleep(1)
        assert pair.server.statistics().outcomes_forgotten
        await trio.sleep(110)
        assert pair.server.statistics().outcomes_remembered
        await trio.sleep(20)
        statistics = pair.server.statistics()
        assert not statistics.outcomes_remembered
        assert not statistics.outcomes_forgotten
        assert not statistics.idempotency_bytes


def test_two_minutes_of_300_calls_a_second_have_room() -> None:
    """With their outcomes; and ten times as many without."""
    room = duplex.Idempotency()
    small = CallResult(StatusCode.OK, b"x" * 100, trailers={"run": "1"})
    calls = 300 * round(room.ttl)
    assert calls * small.size <= room.max_bytes
    assert 10 * calls * KEY_SIZE <= room.max_bytes


async def test_bytes_are_bounded(till: Till) -> None:
    async with linked(till.service, server={"idempotency": duplex.Idempotency(max_bytes=100_000)}) as pair:
        for number in range(20):
            assert len(await till.keyed(pair, str(number)).blob(30_000)) == 30_000
            assert pair.server._inside.results.remembered[1] <= 100_000
        assert pair.server._inside.results.remembered[0] == 3
        assert pair.server.statistics().outcomes_lost == 17


async def test_result_that_is_too_large_to_be_remembered(till: Till) -> None:
    async with linked(till.service, server={"idempotency": duplex.Idempotency(max_bytes=1024)}) as pair:
        assert len(await till.keyed(pair).blob(2000)) == 2000
        with pytest.raises(duplex.ResourceExhausted, match=r"was executed.*Idempotency\.max_bytes is 1024"):
            await till.keyed(pair).blob(2000)
        assert till.runs == 1
        assert pair.server.statistics().outcomes_lost == 1


async def test_running_calls_are_bounded() -> None:
    service = duplex.Service("s")
    go = trio.Event()

    @service.rpc
    async def wait() -> None:
        await go.wait()

    async with linked(service, server=_room(0, 7)) as pair:

        async def call(key: str) -> None:
            await pair.service("s").with_options(idempotency_key=key).wait()

        async with trio.open_nursery() as nursery:
            for key in "abcdefg":
                nursery.start_soon(call, key)
            await pair.settle()
            assert pair.server.statistics().keys_running == 7
            with pytest.raises(
                duplex.ResourceExhausted, match=r"7 calls with .* run here .*Idempotency\.max_bytes"
            ):
                await call("h")
            go.set()


async def test_answer_waits_for_credit(till: Till) -> None:
    """Answers need no task, so it is the arrival of credit that sends them."""
    limits = duplex.Limits(link_window=1024, channel_window=1024, link_buffer=0)
    async with linked(till.service, client={"limits": limits}) as pair:
        remote = pair.service("till")
        async with remote.blobs.open(3) as hog:
            await until(lambda: pair.back._inside.connection.link_credit <= 0)
            results: list[Any] = []

            async def call() -> None:
                results.append(await till.keyed(pair).charge(1))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await until(lambda: till.runs == 1)
                nursery.start_soon(call)
                await given_up(lambda: pair.back.statistics().incoming == 4, call)
                await until(lambda: pair.back.statistics().incoming == 3)
                assert results == []
                assert len(pair.back._inside.credit.waiters) == 3
                await collect(hog)
        assert results == [101, 101]


@pytest.mark.parametrize("of_link", [False, True])
async def test_any_credit_is_enough_for_an_answer_and_none_is_not(till: Till, of_link: bool) -> None:
    async with linked(till.service) as pair, trio.open_nursery() as nursery:
        results: list[int] = []

        async def call() -> None:
            results.append(await till.keyed(pair).slow(1))

        nursery.start_soon(call)
        await until(lambda: till.running)
        connection = pair.back._inside.connection
        (channel,) = pair.back._inside.channels.users
        window = connection._outgoing if of_link else connection._channels[channel].outgoing
        granted, window.balance = window.balance, 0
        till.go.set()
        await until(lambda: pair.server._inside.results.remembered[0])
        await pair.settle()
        assert results == []
        (waiter,) = pair.back._inside.credit.waiters
        waiter.on_credit()
        assert pair.back._inside.credit.waiters, "that there is news does not mean that there is credit"
        window.balance = 1
        waiter.on_credit()
        assert not pair.back._inside.credit.waiters
        window.balance += granted - 1
        await until(lambda: results)
        assert results == [101]


async def test_link_lost_while_an_answer_waits_for_credit(till: Till) -> None:
    limits = duplex.Limits(link_window=1024, channel_window=1024, link_buffer=0)
    async with linked(till.service, client={"limits": limits}, check=False) as pair:
        async with pair.service("till").blobs.open(3):
            await until(lambda: pair.back._inside.connection.link_credit <= 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outcome, till.keyed(pair).charge(1))
                await until(lambda: pair.server._inside.results.remembered[0])
                await pair.back.aclose()
        assert not pair.back._inside.credit.waiters
        assert not pair.back._inside.channels.users


async def test_result_that_one_caller_cannot_take(till: Till) -> None:
    async with (
        linked(till.service, client={"limits": duplex.Limits(max_message=1024)}) as pair,
        duplex.open_peer() as other,
    ):
        with pytest.raises(duplex.ResourceExhausted, match="over the receiver's limit"):
            await till.keyed(pair).blob(2000)
        await other.connect(pair.endpoint)
        remote = other.service("till").with_options(idempotency_key="k")
        assert len(await remote.blob(2000)) == 2000
        assert till.runs == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ttl": 0}, "ttl must be a number of seconds from 0.001"),
        ({"ttl": float("inf")}, "ttl"),
        ({"ttl": "long"}, "ttl"),
        ({"max_bytes": True}, "max_bytes"),
        ({"max_bytes": 10}, "max_bytes must be a whole number from 1024"),
    ],
)
def test_configuration_is_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=words):
        duplex.Idempotency(**options)


async def test_wrong_configuration_of_a_peer() -> None:
    with pytest.raises(duplex.ConfigurationError, match=r"idempotency must be a duplex\.Idempotency"):
        async with duplex.open_peer(idempotency=60):  # type: ignore[arg-type]
            pass
