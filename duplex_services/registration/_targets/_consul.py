"""Consul as a target: its agent's services, and its key-value store."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final, final
from urllib.parse import quote

import msgspec
import trio

from duplex_services._shared._http_client import HttpError
from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._difference import Put
from duplex_services.registration._rules._layouts import consul_entry, consul_service
from duplex_services.registration._target import RefusedError, TargetError
from duplex_services.store import Refused, StoreError
from duplex_services.store.consul import ConsulApi

#: Where Consul notes that a service is in maintenance.
_MAINTENANCE: Final = "_service_maintenance:"


@final
class ConsulTarget:
    """The services of a Consul agent.

    Args:
        name: for people.
        api: the agent.
        owner: whose services these are; it is in their ``Meta``.

    Attributes:
        name: the same.
    """

    def __init__(self, name: str, api: ConsulApi, owner: str) -> None:
        self.name = name
        self._api = api
        self._owner = owner

    def entry_of(self, service: Service) -> Entry:
        """Return what the agent is to have of a service. What does not serve is in maintenance there, with the reason."""
        state = "" if service.state in ("passing", "warning") else "maintenance"
        return consul_entry(consul_service(service, self._owner), state, service.note if state else "")

    async def run(self, woken: Callable[[], None]) -> None:
        """Keep connections, until cancelled."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await self._api.aclose()

    async def entries(self) -> Mapping[str, Entry]:
        """Return all services of the agent.

        Raises:
            TargetError: it is away.
        """
        services = await self._read("/v1/agent/services")
        checks = await self._read("/v1/agent/checks")
        found: dict[str, Entry] = {}
        for id, told in services.items():
            maintained = checks.get(_MAINTENANCE + id)
            state = "" if maintained is None else "maintenance"
            found[id] = consul_entry(told, state, "" if maintained is None else maintained.get("Notes", ""))
        return found

    async def put(self, action: Put) -> None:
        """Register a service, or change what is said of it.

        Raises:
            TargetError: it is not known whether that was done.
            RefusedError: Consul does not take it.
        """
        before, after = action.before, action.entry
        if before is None or before.value != after.value:
            body = msgspec.json.encode(consul_service(action.service, self._owner))
            await self._write("/v1/agent/service/register", body)
        was = ("passing", "") if before is None else (before.state, before.note)
        if was != (after.state, after.note):
            is_on = "true" if after.state == "maintenance" else "false"
            reason = f"&reason={quote(after.note)}" if after.note else ""
            await self._write(
                f"/v1/agent/service/maintenance/{quote(after.key, safe='')}?enable={is_on}{reason}"
            )

    async def drop(self, entry: Entry, why: str) -> None:
        """Deregister a service.

        Raises:
            TargetError, RefusedError: as :meth:`put`.
        """
        await self._write(f"/v1/agent/service/deregister/{quote(entry.key, safe='')}")

    async def _read(self, target: str) -> dict[str, Any]:
        try:
            found = await self._api.ask_agent("GET", target)
        except StoreError as error:
            raise TargetError(error.message) from error
        if not isinstance(found, dict):
            raise TargetError(f"Consul answers {target} with no JSON of an object")
        return found

    async def _write(self, target: str, body: bytes | None = None) -> None:
        try:
            await self._api.ask_agent("PUT", target, body)
        except Refused as error:
            raise RefusedError(error.message) from error
        except StoreError as error:
            raise TargetError(error.message) from error


@final
class ConsulKeys:
    """Consul's key-value store.

    Args:
        api: an agent.
    """

    def __init__(self, api: ConsulApi) -> None:
        self._api = api

    async def run(self) -> None:
        """Keep connections, until cancelled."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await self._api.aclose()

    async def read(self, prefix: str) -> Mapping[str, str]:
        """Return all keys below a prefix with their values."""
        pairs = await self._ask("GET", f"/v1/kv/{quote(prefix)}?recurse=true", missing=True)
        if pairs is None:
            return {}
        try:
            return {
                pair["Key"]: base64.b64decode(pair.get("Value") or "").decode(errors="replace")
                for pair in pairs
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise HttpError(f"Consul answers with no keys: {error}") from error

    async def put(self, key: str, value: str, *, is_new: bool) -> bool:
        """Write a value, a new one only if the key is not there."""
        condition = "?cas=0" if is_new else ""
        return bool(await self._ask("PUT", f"/v1/kv/{quote(key)}{condition}", value.encode()))

    async def delete(self, key: str) -> None:
        """Delete a key, be it there or not."""
        await self._ask("DELETE", f"/v1/kv/{quote(key)}")

    async def _ask(self, method: str, path: str, body: bytes | None = None, *, missing: bool = False) -> Any:
        try:
            return await self._api.ask_agent(method, path, body, missing=missing)
        except Refused as error:
            raise RefusedError(error.message) from error
        except StoreError as error:
            raise HttpError(error.message) from error

    def lasts(self, key: str) -> bool:
        """Consul's keys stay."""
        return True
