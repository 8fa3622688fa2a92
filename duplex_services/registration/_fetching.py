"""What templates ask for with ``httpGet``."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, MutableMapping
from typing import Final
from urllib.parse import urlsplit

import trio

from duplex_services._shared._http_client import Endpoint, HttpClient, HttpError

_log: Final = logging.getLogger("duplex")

#: Seconds that an answer may take, and bytes that it may have.
_WITHIN: Final = 10.0
_MAX_BODY: Final = 1024 * 1024


async def fetch(addresses: Iterable[str], into: MutableMapping[str, bytes]) -> None:
    """Fetch the contents of addresses, each once; that of one which cannot be fetched is empty."""

    async def one(address: str) -> None:
        try:
            into[address] = await _get(address)
        except (HttpError, ValueError) as error:
            _log.warning("--tags: %s cannot be fetched: %s", address, error)
            into[address] = b""

    async with trio.open_nursery() as nursery:
        for address in addresses:
            nursery.start_soon(one, address)


async def _get(address: str) -> bytes:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is no address of HTTP's")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    endpoint = Endpoint(parts.hostname, parts.port or (443 if tls else 80), tls)
    client = HttpClient([endpoint], connect_within=_WITHIN, answer_within=_WITHIN, max_body=_MAX_BODY)
    try:
        answer = await client.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
    finally:
        await client.aclose()
    return answer.body
