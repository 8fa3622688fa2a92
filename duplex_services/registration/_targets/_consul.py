"""Consul as a target: its agent's services, and its key-value store."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final, final
from urllib.parse import quote

import msgspec
import trio

from duplex_services._shared._http_client import Answer, Endpoint, HttpClient, HttpError
from duplex_services.registration._model import Entry, Service
from duplex_services.registration._rules._difference import Put
from duplex_services.registration._rules._layouts import consul_entry, consul_service
from duplex_services.registration._target import RefusedError, TargetError

#: Where Consul notes that a service is in maintenance.
_MAINTENANCE: Final = "_service_maintenance:"


@final
class ConsulApi:
    """Requests to one agent.

    Args:
        endpoint: where it is.
        token: shown with each request; empty for none.
    """

    def __init__(self, endpoint: Endpoint, token: str = "") -> None:
        self._http = HttpClient([endpoint])
        self._headers = [("X-Consul-Token", token)] if token else []

    async def ask(self, method: str, target: str, body: bytes = b"", *, missing: bool = False) -> Answer:
        """Make a request.

        Args:
            method: such as ``PUT``.
            target: the path with its query.
            body: what is sent.
            missing: a 404 is an answer too.

        Raises:
            HttpError: nobody answers, or something is wrong there.
            RefusedError: it is not taken, and why.
        """
        answer = await self._http.request(method, target, body, headers=self._headers)
        if answer.status == 200 or (missing and answer.status == 404):
            return answer
        text = f"Consul answers {answer.status}: {answer.body[:500].decode(errors='replace').strip()}"
        if 400 <= answer.status < 500:
            raise RefusedError(text)
        raise HttpError(text)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


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
            found: dict[str, Any] = msgspec.json.decode((await self._api.ask("GET", target)).body, type=dict)
        except (HttpError, RefusedError, msgspec.DecodeError) as error:
            raise TargetError(str(error)) from error
        return found

    async def _write(self, target: str, body: bytes = b"") -> None:
        try:
            await self._api.ask("PUT", target, body)
        except HttpError as error:
            raise TargetError(str(error)) from error


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
        answer = await self._api.ask("GET", f"/v1/kv/{quote(prefix)}?recurse=true", missing=True)
        if answer.status == 404:
            return {}
        try:
            pairs = msgspec.json.decode(answer.body, type=list[dict[str, Any]])
            return {
                pair["Key"]: base64.b64decode(pair.get("Value") or "").decode(errors="replace")
                for pair in pairs
            }
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise HttpError(f"Consul answers with no keys: {error}") from error

    async def put(self, key: str, value: str, *, is_new: bool) -> bool:
        """Write a value, a new one only if the key is not there."""
        condition = "?cas=0" if is_new else ""
        answer = await self._api.ask("PUT", f"/v1/kv/{quote(key)}{condition}", value.encode())
        return answer.body.strip() == b"true"

    async def delete(self, key: str) -> None:
        """Delete a key, be it there or not."""
        await self._api.ask("DELETE", f"/v1/kv/{quote(key)}")

    def lasts(self, key: str) -> bool:
        """Consul's keys stay."""
        return True
