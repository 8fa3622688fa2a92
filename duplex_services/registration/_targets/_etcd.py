"""etcd's key-value store as a target, by its JSON gateway; keys go with a lease if they are to have a TTL."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Any, Final, final

import msgspec
import trio

from duplex_services._shared._http_client import Endpoint, HttpClient, HttpError
from duplex_services.registration._target import RefusedError

_log: Final = logging.getLogger("duplex")


@final
class EtcdKeys:
    """etcd's keys.

    Args:
        endpoint: where a server is.
        ttl: seconds that keys stay without this process; 0 for as long as somebody deletes them.
    """

    def __init__(self, endpoint: Endpoint, ttl: float = 0.0) -> None:
        self._http = HttpClient([endpoint])
        self._ttl = ttl
        self._lease = ""
        self._leased: set[str] = set()

    async def run(self) -> None:
        """Keep the lease, until cancelled. Keys whose lease is lost are written anew."""
        try:
            if not self._ttl:
                await trio.sleep_forever()
            while True:
                await trio.sleep(self._ttl / 3)
                if not self._lease:
                    continue
                try:
                    answer = await self._ask("lease/keepalive", {"ID": self._lease})
                    if int((answer.get("result") or {}).get("TTL", 0)) > 0:
                        continue
                    _log.warning("a lease of etcd's was lost: what it kept is written anew")
                except (HttpError, RefusedError) as error:
                    _log.info("a lease of etcd's is not kept: %s", error)
                    continue
                self._lease = ""
                self._leased.clear()
        finally:
            with trio.CancelScope(shield=True):
                await self._http.aclose()

    async def read(self, prefix: str) -> Mapping[str, str]:
        """Return all keys below a prefix with their values."""
        first = f"/{prefix}".encode()
        last = first[:-1] + bytes([first[-1] + 1])
        answer = await self._ask("kv/range", {"key": _coded(first), "range_end": _coded(last)})
        found: dict[str, str] = {}
        for pair in answer.get("kvs") or ():
            key = base64.b64decode(pair["key"]).decode(errors="replace").removeprefix("/")
            found[key] = base64.b64decode(pair.get("value") or "").decode(errors="replace")
            if pair.get("lease", "0") != (self._lease or "0"):
                self._leased.discard(key)
        return found

    async def put(self, key: str, value: str, *, is_new: bool) -> bool:
        """Write a value, a new one only if the key is not there."""
        name = _coded(f"/{key}".encode())
        put: dict[str, Any] = {"key": name, "value": _coded(value.encode())}
        if self._ttl:
            if not self._lease:
                granted = await self._ask("lease/grant", {"TTL": max(1, round(self._ttl))})
                self._lease = str(granted["ID"])
            put["lease"] = self._lease
        compare = [{"key": name, "target": "VERSION", "result": "EQUAL", "version": "0"}] if is_new else []
        try:
            answer = await self._ask("kv/txn", {"compare": compare, "success": [{"request_put": put}]})
        except RefusedError as error:
            if "lease" not in str(error):
                raise
            # It has expired meanwhile: next time there is another one.
            self._lease = ""
            raise HttpError(str(error)) from error
        self._leased.add(key)
        return bool(answer.get("succeeded"))

    async def delete(self, key: str) -> None:
        """Delete a key, be it there or not."""
        await self._ask("kv/deleterange", {"key": _coded(f"/{key}".encode())})

    def lasts(self, key: str) -> bool:
        """Whether it is under the lease that is kept, or under none if none is to be."""
        return not self._ttl or key in self._leased

    async def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._http.request("POST", f"/v3/{what}", msgspec.json.encode(body))
        try:
            found = msgspec.json.decode(answer.body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise HttpError(f"etcd answers {answer.status} with no JSON") from error
        if answer.status == 200:
            return found
        text = f"etcd answers {answer.status}: {found.get('message') or found.get('error')}"
        if 400 <= answer.status < 500:
            raise RefusedError(text)
        raise HttpError(text)


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()
