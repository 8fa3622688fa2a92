"""Who a peer is, as far as it has been proved."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import duplex
from tests.engine.helpers import linked


class TestIdentity:
    def test_nobody_in_particular(self) -> None:
        nobody = duplex.Identity()
        assert (nobody.principal, nobody.proof, nobody.attributes) == ("anonymous", "none", {})
        assert nobody.is_anonymous
        assert str(nobody) == "anonymous"

    def test_somebody(self) -> None:
        somebody = duplex.Identity("billing", "key", {"roles": ["admin"]})
        assert not somebody.is_anonymous
        assert str(somebody) == "billing"
        assert somebody != duplex.Identity("billing", "token", {"roles": ["admin"]})
        assert somebody != duplex.Identity("billing", "key")

    def test_is_not_changed(self) -> None:
        attributes = {"role": "admin"}
        somebody: Any = duplex.Identity("billing", "key", attributes)
        attributes["role"] = "nobody"
        assert somebody.attributes == {"role": "admin"}
        with pytest.raises(TypeError):
            somebody.attributes["role"] = "nobody"
        with pytest.raises(AttributeError):
            somebody.principal = "root"

    def test_is_a_key(self) -> None:
        one = duplex.Identity("billing", "key", {"roles": ["admin"]})
        assert {one: 1}[duplex.Identity("billing", "key", {"roles": ["admin"]})] == 1

    @pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_travels(self, way: Any) -> None:
        one = duplex.Identity("billing", "key", {"role": "admin"})
        assert way(one) == one

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (("", "key"), "the principal of an identity is a str that is not empty, not ''"),
            ((7, "key"), "the principal of an identity is a str that is not empty, not 7"),
            (("billing", ""), "the proof of an identity is a str that is not empty, not ''"),
            (("billing", None), "the proof of an identity is a str that is not empty, not None"),
            (("billing", "key", ["admin"]), r"the attributes of an identity are a mapping, not \['admin'\]"),
            (("billing",), "exactly if its proof is 'none'; this one is 'billing' by 'none'"),
            (("anonymous", "key"), "exactly if its proof is 'none'; this one is 'anonymous' by 'key'"),
        ],
    )
    def test_wrong(self, arguments: tuple[Any, ...], complaint: str) -> None:
        with pytest.raises(duplex.ConfigurationError, match=complaint):
            duplex.Identity(*arguments)


async def test_everybody_is_anonymous() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def who() -> tuple[str, str, str]:
        peer = duplex.current_call().peer
        assert duplex.current_call().link.remote is peer
        return peer.id, peer.name, peer.identity.principal

    async with linked(service) as pair:
        assert await pair.service("service").who() == [pair.client.id, "client", "anonymous"]
        assert pair.link.remote == duplex.PeerInfo(pair.server.id, "server", duplex.Identity())
