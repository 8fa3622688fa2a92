"""A service, who may call it, and how callers prove who they are."""

from __future__ import annotations

import duplex

service = duplex.Service("guarded")


@service.rpc
async def look() -> str:
    return str(duplex.current_call().peer.identity)


@service.rpc(requires="admin")
async def change() -> str:
    return "changed"


async def authenticator(handshake: duplex.Handshake) -> duplex.Identity:
    if handshake.credentials is None:
        raise duplex.Unauthenticated("come with a token")
    return duplex.Identity(handshake.credentials.decode(), "token")


def authorize(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
    return not call.requires or identity.principal == "ann"
