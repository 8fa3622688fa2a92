"""Leaders, as clients of Consul look for them: the key ``service/NAME/leader``, held by a session that ends with the leader's check.

The directory decides who leads, by compare-and-set; the lock is what others see of it. Consul itself takes it away when the leader's
check fails or nobody speaks for it any more.
"""

from __future__ import annotations

import base64
import logging
import math
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from duplex_services.discovery._rules._catalogue import REFRESH, Lead
from duplex_services.store import StoreError

if TYPE_CHECKING:
    from duplex_services.store.consul import ConsulApi

_log: Final = logging.getLogger("duplex")


class Locks:
    """Keeps the locks of the leaders that this server keeps.

    Args:
        api: of Consul.
    """

    def __init__(self, api: ConsulApi) -> None:
        self._api = api
        #: The session that holds each lock, for whom, and when that was last looked at.
        self._held: dict[str, tuple[str, Lead, float]] = {}
        self._others: set[str] = set()

    async def compare(self, leads: Mapping[str, Lead]) -> None:
        """Hold the locks of these leaders, and no others.

        Args:
            leads: who leads, by services.

        Raises:
            StoreError: Consul does not answer, or does not take it. The rest is done.
        """
        failed: StoreError | None = None
        for service in self._held.keys() | leads.keys():
            lead = leads.get(service)
            session, had, at = self._held.get(service, ("", None, -math.inf))
            try:
                if had is not None and (lead is None or had.check != lead.check):
                    if session:
                        await self._end(session)
                    del self._held[service]
                    session, had = "", None
                if lead is not None and (lead != had or trio.current_time() >= at + REFRESH):
                    await self._hold(service, lead, session)
            except StoreError as error:
                failed = error
        if failed is not None:
            raise failed

    async def _hold(self, service: str, lead: Lead, session: str) -> None:
        path = f"/v1/kv/service/{urllib.parse.quote(service, safe='')}/leader"
        found = await self._api.ask_agent("GET", path, missing=True)
        holder, there = _read(found)
        if holder and holder != session:
            if there is None or there.directory != lead.directory:
                self._tell_of_others(service)
                self._held[service] = "", lead, trio.current_time()
                return
            if there == lead:
                # Of an earlier life of this server.
                self._held[service] = holder, lead, trio.current_time()
                return
            # Its leader is none any more.
            await self._end(holder)
        self._others.discard(service)
        if not session or holder != session:
            if session:
                await self._end(session)
            session = await self._begin(service, lead)
            self._held[service] = session, lead, -math.inf
        if holder != session or there != lead:
            taken = await self._api.ask_agent("PUT", f"{path}?acquire={session}", msgspec.json.encode(lead))
            if not taken:
                # Somebody was faster: the next look says who.
                return
        self._held[service] = session, lead, trio.current_time()

    async def _begin(self, service: str, lead: Lead) -> str:
        body = {
            "Name": f"duplex: leader of {service}",
            "NodeChecks": [],
            "ServiceChecks": [{"ID": lead.check}],
            "Behavior": "delete",
            "LockDelay": "0s",
        }
        return str((await self._api.ask_agent("PUT", "/v1/session/create", body))["ID"])

    async def _end(self, session: str) -> None:
        await self._api.ask_agent("PUT", f"/v1/session/destroy/{session}")

    def _tell_of_others(self, service: str) -> None:
        if service not in self._others:
            self._others.add(service)
            _log.warning("service/%s/leader in Consul is held by somebody else: it is left to them", service)


def _read(found: Any) -> tuple[str, Lead | None]:
    """Return the session that holds a lock, empty if none does; and whom it is for, if that is a leader of a directory."""
    if not found:
        return "", None
    try:
        lead = msgspec.json.decode(base64.b64decode(found[0].get("Value") or ""), type=Lead)
    except (ValueError, msgspec.DecodeError):
        lead = None
    return found[0].get("Session") or "", lead
