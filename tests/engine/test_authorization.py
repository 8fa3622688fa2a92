"""Who may call what: decided before anything of a call is looked at, for every kind of call."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

import duplex
from duplex._identity import Identity
from duplex.engine.serving import checked_authorize
from tests.engine.helpers import collect, linked, outcome, until

vault = duplex.Service("vault")
ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@vault.rpc
async def look() -> str:
    ran.append("look")
    return "gold"


@vault.rpc(requires="admin")
async def open_it(code: int) -> str:
    ran.append("open_it")
    return f"opened with {code}"


@vault.rpc(requires=["admin", "auditor"])
async def audit() -> str:
    ran.append("audit")
    return "all there"


@vault.rpc(requires="admin", inline=True)
def inline() -> int:
    ran.append("inline")
    return 1


@vault.rpc(requires="admin")
def in_thread() -> int:
    ran.append("in_thread")
    return 1


@vault.rpc(requires="admin")
async def count(upto: int) -> AsyncIterator[int]:
    ran.append("count")
    for number in range(upto):
        yield number


@vault.rpc(requires="admin")
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    ran.append("total")
    return sum([number async for number in numbers])


@vault.rpc(requires="admin", overflow="drop_oldest")
async def talk(other: duplex.Channel[int, int]) -> None:
    ran.append("talk")
    async for number in other:
        await other.send(number)


@vault.rpc
async def visit(function: duplex.Callback[[], int]) -> int:
    return await function()


class Hook:
    """Decides as it is told to, and notes what it was asked."""

    def __init__(self, verdict: Any = True) -> None:
        self.verdict = verdict
        self.asked: list[duplex.AskedCall] = []

    def __call__(self, identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        assert identity == call.peer.identity
        assert method == call.method
        self.asked.append(call)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict  # type: ignore[no-any-return]


def waiting(hook: Hook) -> Callable[..., Awaitable[bool]]:
    """The same as an async function."""

    async def authorize(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        await trio.lowlevel.checkpoint()
        return hook(identity, method, call)

    return authorize


#: Both kinds of hooks.
both = pytest.mark.parametrize("kind", [lambda hook: hook, waiting], ids=["plain", "async"])

DENIED = duplex.StatusCode.PERMISSION_DENIED


async def _streams(remote: duplex.ServiceProxy) -> list[Any]:
    """Call what streams, in each direction, and send more than is taken."""
    found: list[Any] = []
    async with remote.count.open(3) as call:
        found.append(await _all(call))
    async with remote.total.open() as call:
        found.append(await outcome(_send_and_result(call)))
    async with remote.talk.open() as call:
        found.append(await _first(call))
    return found


async def _all(call: Any) -> Any:
    try:
        return await collect(call)
    except duplex.RPCError as error:
        return error


async def _send_and_result(call: Any) -> Any:
    for number in range(3):
        try:
            await call.send(number)
        except trio.BrokenResourceError:
            break
    try:
        await call.send_eof()
    except trio.BrokenResourceError:
        pass
    return await call.result()


async def _first(call: Any) -> Any:
    try:
        await call.send(7)
        return await call.receive()
    except duplex.RPCError as error:
        return error


async def test_what_requires_a_permission_nobody_may_call_until_somebody_says_so() -> None:
    async with linked(vault) as pair:
        remote = pair.service("vault")
        assert await remote.look() == "gold"
        error = await outcome(remote.open_it(1))
        assert isinstance(error, duplex.PermissionDenied)
        assert error.message == (
            "vault.open_it requires the permission 'admin', which anonymous does not have: "
            "who serves it decides that with open_peer(authorize=...)"
        )
        assert not error.may_have_executed
        error = await outcome(remote.audit())
        assert "requires the permissions 'admin', 'auditor'," in error.message
        for method in (remote.inline, remote.in_thread):
            assert (await outcome(method())).code is DENIED
        assert [error.code for error in await _streams(remote)] == [DENIED] * 3
        await remote.open_it.notify(1)
        await pair.settle()
    assert ran == ["look"]


@both
async def test_a_hook_allows(kind: Any) -> None:
    hook = Hook(True)
    async with linked(vault, server={"authorize": kind(hook)}) as pair:
        remote = pair.service("vault").with_options(metadata={"user": "ann"})
        assert await remote.look() == "gold"
        assert await remote.open_it(1) == "opened with 1"
        assert await remote.audit() == "all there"
        assert await remote.inline() == await remote.in_thread() == 1
        assert await _streams(remote) == [[0, 1, 2], 3, 7]
        await remote.open_it.notify(2)
        await until(lambda: ran.count("open_it") == 2)
    first, *_, last = hook.asked
    assert (first.method, first.requires, first.notify) == ("vault.look", frozenset(), False)
    assert (last.method, last.requires, last.notify) == ("vault.open_it", frozenset({"admin"}), True)
    assert first.metadata == {"user": "ann"}
    assert first.peer.name == "client"
    assert hook.asked[2].requires == {"admin", "auditor"}


@both
async def test_a_hook_refuses(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: list[duplex.UnservedCall] = []
    server = {"authorize": kind(Hook(False)), "observer": told.append}
    async with linked(vault, server=server) as pair:
        remote = pair.service("vault")
        error = await outcome(remote.look())
        assert error.code is DENIED
        assert error.message == (
            "anonymous may not call vault.look: who serves it decides that with open_peer(authorize=...)"
        )
        assert not error.may_have_executed
        error = await outcome(remote.open_it("not even decoded", 2))
        assert "may not call vault.open_it, which requires the permission 'admin'" in error.message
        for method in (remote.inline, remote.in_thread):
            assert (await outcome(method())).code is DENIED
        assert [error.code for error in await _streams(remote)] == [DENIED] * 3
        await remote.look.notify()
        await until(lambda: len(told) == 8)
    assert ran == []
    assert [call.method for call in told[:2]] == ["vault.look", "vault.open_it"]
    assert all(call.status == DENIED for call in told)
    assert told[-1].notify


@both
async def test_notifications_that_may_not_be_made_are_no_failures_of_their_handler(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Those who may not must not write tracebacks to the log, as often as they like."""
    async with linked(vault, server={"authorize": kind(Hook(False))}) as pair:
        for _ in range(50):
            await pair.service("vault").look.notify()
        await pair.settle()
        await pair.link.ping()
    logged = [record.getMessage() for record in caplog.records]
    texts = [text for text in logged if text.startswith("a notification")]
    assert 1 <= len(texts) < 50
    assert all("was not handled: anonymous may not call vault.look" in text for text in texts)
    assert not any(record.exc_info for record in caplog.records)


@both
async def test_a_hook_says_why(kind: Any) -> None:
    why = duplex.Unauthenticated("come with a key")
    why.retry_after = 3.0
    async with linked(vault, server={"authorize": kind(Hook(why))}) as pair:
        error = await outcome(pair.service("vault").look())
        assert isinstance(error, duplex.Unauthenticated)
        assert error.message == "come with a key"
        assert error.retry_after == 3.0
        assert not error.may_have_executed


@both
@pytest.mark.parametrize("verdict", [ValueError("oh"), None, 1, "yes"])
async def test_a_hook_that_fails_refuses(kind: Any, verdict: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(vault, server={"authorize": kind(Hook(verdict))}) as pair:
        for _ in range(3):
            error = await outcome(pair.service("vault").look())
            assert isinstance(error, duplex.Internal)
            assert error.message == "whether anonymous may call vault.look could not be decided"
    assert ran == []
    assert len([record for record in caplog.records if "authorize failed" in record.getMessage()]) == 1


async def test_a_hook_that_hides_a_coroutine(caplog: pytest.LogCaptureFixture) -> None:
    async def decide() -> bool:
        raise NotImplementedError

    def authorize(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> Awaitable[bool]:
        return decide()

    async with linked(vault, server={"authorize": authorize}) as pair:
        assert isinstance(await outcome(pair.service("vault").look()), duplex.Internal)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "write it as an `async def`" in str(record.exc_info)


@both
async def test_it_is_asked_before_arguments_are_decoded_and_before_all_middleware(kind: Any) -> None:
    async def never(call: duplex.ServedCall, next: duplex.Next) -> Any:
        raise NotImplementedError

    guarded = duplex.Service("guarded", middleware=[never])
    guarded.add(open_it, name="open_it")
    server = {"authorize": kind(Hook(False)), "middleware": [never]}
    async with linked(guarded, server=server) as pair:
        error = await outcome(pair.service("guarded").open_it("no number"))
        assert error.code is DENIED


@both
async def test_middleware_sees_what_is_allowed(kind: Any) -> None:
    seen: list[str] = []

    async def log(call: duplex.ServedCall, next: duplex.Next) -> Any:
        seen.append(call.method)
        return await next(call)

    async with linked(vault, server={"authorize": kind(Hook(True)), "middleware": [log]}) as pair:
        assert await pair.service("vault").inline() == 1
        async with pair.service("vault").count.open(1) as call:
            assert await collect(call) == [0]
    assert seen == ["vault.inline", "vault.count"]


# -- keys ----------------------------------------------------------------------------------------------


@both
async def test_each_call_with_a_key_is_asked_for(kind: Any) -> None:
    hook = Hook(False)
    async with linked(vault, server={"authorize": kind(hook)}) as pair:
        remote = pair.service("vault").with_options(idempotency_key="once")
        assert (await outcome(remote.open_it(1))).code is DENIED
        hook.verdict = True
        assert await remote.open_it(1) == await remote.open_it(1) == "opened with 1"
        assert ran == ["open_it"], "the refusal was not kept"


async def test_who_may_not_does_not_get_what_others_got() -> None:
    hook = Hook(True)
    async with linked(vault, server={"authorize": hook}) as pair:
        remote = pair.service("vault").with_options(idempotency_key="once")
        assert await remote.open_it(1) == "opened with 1"
        hook.verdict = False
        assert (await outcome(remote.open_it(1))).code is DENIED


async def test_a_key_is_the_callers_own() -> None:
    """An async hook is asked for the first call with a key, so that who joins must be the same."""
    identities: dict[str, Identity] = {}

    def allow_all(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        return True

    async with (
        duplex.open_peer(services=[vault], authorize=allow_all) as server,
        duplex.open_peer(name="ann") as ann,
        duplex.open_peer(name="ben") as ben,
    ):
        endpoint = await server.bind("memory://*")
        for client in (ann, ben):
            await client.connect(endpoint)
            await until(lambda: len(server.links) == len(ann.links) + len(ben.links))
        for link in server.links:
            name = link.peer_name
            identities[name] = Identity(name, "test")
            inside = link._inside
            inside.remote = type(inside.remote)(link.peer_id, name, identities[name])
        for client in (ann, ann, ben):
            key = client.service("vault").with_options(idempotency_key="once")
            assert await key.open_it(1) == "opened with 1"
        assert ran == ["open_it"] * 2, "once for each of them"


# -- what is not asked for -----------------------------------------------------------------------------


@both
async def test_callbacks_are_not_asked_for(kind: Any) -> None:
    hook = Hook(False)

    async def function() -> int:
        return 1

    async with linked(vault, client={"authorize": kind(hook)}) as pair:
        assert await pair.service("vault").visit(function) == 1
    assert hook.asked == []


@both
async def test_duplexs_own_services_are_asked_for(kind: Any) -> None:
    hook = Hook(False)
    async with linked(vault, server={"authorize": kind(hook)}) as pair:
        error = await outcome(pair.service("duplex.health").check(""))
        assert error.code is DENIED
    assert [call.method for call in hook.asked] == ["duplex.health.check"]


@both
async def test_unknown_methods_are_unknown(kind: Any) -> None:
    hook = Hook(False)
    async with linked(vault, server={"authorize": kind(hook)}) as pair:
        assert isinstance(await outcome(pair.service("vault").nothing()), duplex.Unimplemented)
    assert hook.asked == []


async def test_a_service_that_is_added_later_is_guarded() -> None:
    async with linked(server={"authorize": Hook(False)}) as pair:
        pair.server.add_service(vault)
        await pair.settle()
        assert (await outcome(pair.service("vault").look())).code is DENIED


async def test_both_sides_of_a_link_decide_for_themselves() -> None:
    async with linked(vault, offers=[vault], client={"authorize": Hook(False)}) as pair:
        assert await pair.service("vault").look() == "gold"
        assert (await outcome(pair.server.service("vault").look())).code is DENIED


async def test_a_call_that_is_cancelled_while_it_is_decided(autojump_clock: object) -> None:
    async def never(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        await trio.sleep_forever()
        raise NotImplementedError

    async with linked(vault, server={"authorize": never}) as pair:
        with trio.move_on_after(1):
            await pair.service("vault").look()
        error = await outcome(pair.service("vault").with_options(timeout=1).count(1))
        assert isinstance(error, duplex.DeadlineExceeded)
    assert ran == []


async def test_calls_that_wait_for_a_decision_count_as_handlers(autojump_clock: object) -> None:
    gate = trio.Event()

    async def slow(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        await gate.wait()
        return True

    limits = duplex.Limits(max_handlers_per_link=2)
    async with linked(vault, server={"authorize": slow, "limits": limits}) as pair:
        remote = pair.service("vault")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(remote.look)
            await pair.settle()
            assert isinstance(await outcome(remote.look()), duplex.ResourceExhausted)
            gate.set()


async def test_what_is_counted() -> None:
    async with linked(vault) as pair:
        await outcome(pair.service("vault").open_it(1))
        (counted,) = [
            one
            for one in pair.server.method_statistics()
            if (one.method, one.direction) == ("vault.open_it", "served")
        ]
    assert counted.errors == {"PERMISSION_DENIED": 1}


async def test_it_is_described() -> None:
    async with linked(vault) as pair:
        described = await pair.service("duplex.reflection").describe("vault")
    requires = {method["name"]: method["requires"] for method in described["methods"]}
    assert requires["look"] == []
    assert requires["open_it"] == ["admin"]
    assert requires["audit"] == ["admin", "auditor"]


@duplex.rpc(requires="admin")
async def marked() -> str:
    return "marked"


class Safe:
    @duplex.rpc(requires="keeper")
    async def peek(self) -> str:
        return "gold"


async def test_objects_and_added_functions_keep_what_they_require() -> None:
    other = duplex.Service("other")
    other.add(marked)
    other.add(marked, name="easier", requires=())
    other.add(look, requires="visitor")
    async with linked(other) as pair:
        pair.server.expose(Safe())
        await pair.settle()
        remote = pair.service("other")
        assert (await outcome(remote.marked())).code is DENIED
        assert await remote.easier() == "marked"
        assert "'visitor'" in (await outcome(remote.look())).message
        assert "'keeper'" in (await outcome(pair.service("safe").peek())).message


@pytest.mark.parametrize("wrong", ["", [""], 3, [1], ["admin", ""], {"a": 1}.values()])
def test_what_cannot_be_required(wrong: Any) -> None:
    service = duplex.Service("s")
    with pytest.raises(duplex.ConfigurationError, match="requires"):
        service.rpc(requires=wrong)(look)


@pytest.mark.parametrize(
    "wrong",
    [3, "yes", lambda: True, lambda identity: True, lambda a, b, c, d: True],
)
async def test_what_is_no_hook(wrong: Any) -> None:
    with pytest.raises(duplex.ConfigurationError, match="authorize"):
        async with duplex.open_peer(authorize=wrong):
            pass


def test_a_hook_whose_signature_nobody_knows() -> None:
    unknown: Any = max
    assert checked_authorize(unknown) is unknown
