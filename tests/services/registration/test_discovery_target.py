"""Discovery as a target, where it is away, refuses, or is left in the midst of it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from duplex_services._shared._background import background
from duplex_services.registration._model import Service
from duplex_services.registration._rules._difference import Put
from duplex_services.registration._target import RefusedError, TargetError
from duplex_services.registration._targets._discovery import DiscoveryTarget
from tests.machine import fail_after
from tests.services.discovery.test_permissions import guarded
from tests.services.registration.made import container, one
from tests.services.registration.running import listing


def put(target: DiscoveryTarget, service: Service) -> Put:
    return Put(target.entry_of(service), service)


async def test_nobody_is_there() -> None:
    target = DiscoveryTarget(("tcp://127.0.0.1:1",), "me")
    action = put(target, one(container()))
    with pytest.raises(TargetError, match="no server of discovery answers at tcp://127"):
        await target.put(action)
    with pytest.raises(TargetError, match="no server of discovery answers"):
        await target.drop(action.entry, "gone")


async def test_what_is_put_while_nobody_is_there_is_listed_as_soon_as_somebody_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("duplex_services.registration._targets._discovery._ANSWER_WITHIN", 0.05)
    async with listing() as listed:
        pass
    target = DiscoveryTarget((listed.endpoint,), "me")
    action = put(target, one(container()))
    with fail_after(20):
        async with background() as nursery:
            nursery.start_soon(target.run, lambda: None)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2):
                with pytest.raises(TargetError, match="no server"):
                    await target.entries()
            with pytest.raises(TargetError, match="no server"):
                await target.put(action)
            # It waits for a server. It can be given up all the same.
            await target.drop(action.entry, "gone")
            with pytest.raises(TargetError, match="no server"):
                await target.put(action)
            nursery.cancel_scope.cancel()


async def test_who_may_not_register_is_told_so_until_he_may() -> None:
    action_of = one(container())
    with fail_after(60):
        async with guarded() as endpoint:
            async with background() as nursery:
                stranger = DiscoveryTarget((endpoint,), "me")
                nursery.start_soon(stranger.run, lambda: None)
                for _ in range(2):
                    assert await stranger.entries() == {}
                    with pytest.raises(TargetError, match=r"anonymous may not call discovery\.register"):
                        await stranger.put(put(stranger, action_of))
                nursery.cancel_scope.cancel()
            async with background() as nursery:
                known = DiscoveryTarget((endpoint,), "me", b"operator")
                nursery.start_soon(known.run, lambda: None)
                action = put(known, action_of)
                assert await known.entries() == {}
                await known.put(action)
                assert dict(await known.entries()) == {action.entry.key: action.entry}
                nursery.cancel_scope.cancel()


async def test_what_discovery_refuses_is_refused() -> None:
    async with listing() as listed, background() as nursery:
        target = DiscoveryTarget((listed.endpoint,), "me")
        nursery.start_soon(target.run, lambda: None)
        assert await target.entries() == {}
        # Its name and id are checked before; the host is discovery's to judge.
        bad = put(target, one(container(labels={"SERVICE_ADDRESS": "a b"})))
        with pytest.raises(RefusedError, match="host"):
            await target.put(bad)
        assert await target.entries() == {}
        good = put(target, one(container()))
        await target.put(good)
        assert dict(await target.entries()) == {good.entry.key: good.entry}
        await target.drop(good.entry, "gone")
        await listed.until(lambda: listed.all == [])
        # What is gone already is gone.
        await target.drop(good.entry, "gone")
        nursery.cancel_scope.cancel()
