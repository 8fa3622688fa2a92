"""Peers that find out who others are, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import trio

import duplex
from tests.machine import fail_after

BILLING: Final = duplex.Identity("billing", "token")
SHOP: Final = duplex.Identity("shop", "token", {"roles": ["server"]})
TOKENS: Final = {b"for billing": BILLING, b"for shop": SHOP}


async def by_token(handshake: duplex.Handshake) -> duplex.Identity:
    """Say who has a token."""
    try:
        return TOKENS[handshake.credentials or b""]
    except KeyError:
        raise duplex.Unauthenticated("there is no such token") from None


def service() -> duplex.Service:
    made = duplex.Service("service")

    @made.rpc
    async def who() -> list[str]:
        identity = duplex.current_call().peer.identity
        return [identity.principal, identity.proof]

    return made


SHOP_OPTIONS: Final[dict[str, Any]] = {"authenticator": by_token, "credentials": b"for shop"}
BILLING_OPTIONS: Final[dict[str, Any]] = {"authenticator": by_token, "credentials": b"for billing"}


def offers(link: duplex.Link, name: str) -> bool:
    return name in link.services


class Gate:
    """An authenticator that waits until it is told who everybody is."""

    def __init__(self, answer: duplex.Identity | BaseException = BILLING) -> None:
        self.answer = answer
        self.asked: list[duplex.Handshake] = []
        self.opened = trio.Event()
        self.cancelled = 0

    async def __call__(self, handshake: duplex.Handshake) -> duplex.Identity:
        self.asked.append(handshake)
        try:
            await self.opened.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@contextlib.asynccontextmanager
async def two(
    server: dict[str, Any], client: dict[str, Any], endpoint: str = "memory://*"
) -> AsyncIterator[tuple[duplex.Peer, duplex.Peer, str]]:
    """Two peers that are not linked, and where the first is bound."""
    with fail_after(20):
        async with (
            duplex.open_peer(services=[service()], name="server", **server) as serving,
            duplex.open_peer(services=[service()], name="client", **client) as calling,
        ):
            yield serving, calling, await serving.bind(endpoint)


class Odd(Exception):
    """An error whose text must not travel."""
