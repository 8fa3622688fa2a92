"""Services: how they are treated, who is to lead them, and what is kept for them."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from duplex_services.discovery._errors import AlreadyThere, NotAllowed, NotThere, check
from duplex_services.discovery._model import ServiceConfig
from duplex_services.discovery._registrations import Registrations
from duplex_services.discovery._rules._checking import check_id, check_service_name, encode_service_metadata
from duplex_services.discovery._rules._keys import config_key, encode, metadata_key
from duplex_services.discovery._rules._plans import Plan, as_known
from duplex_services.discovery._rules._view import View
from duplex_services.discovery._writing import Writer
from duplex_services.store import missing


class Services:
    """The services of a directory.

    Args:
        view: what is known.
        writer: how to write.
        registrations: their instances.
    """

    def __init__(self, view: View, writer: Writer, registrations: Registrations) -> None:
        self._view = view
        self._writer = writer
        self._registrations = registrations
        self._keeper = registrations.keeper

    def _check_room(self, name: str) -> None:
        if name not in self._view:
            self._writer.check_room()

    async def add(self, name: str, config: ServiceConfig | None = None) -> None:
        """Have a service, with or without instances.

        Raises:
            BadRequest: that is no name.
            AlreadyThere: somebody has configured it.
            Full: there are too many.
            StoreAway: the store does not take it.
        """
        check(check_service_name, name)
        key = config_key(name)

        def plan() -> Plan:
            if self._view.modified_of(key):
                raise AlreadyThere(f"service {name!r} already exists")
            self._check_room(name)
            return Plan({key: encode(config or ServiceConfig())}, when=(missing(key),))

        await self._writer.write(plan)
        await self._keeper.settle_now(name)

    async def configure(self, name: str, config: ServiceConfig) -> None:
        """Say how a service is to be treated, even one that has no instances.

        Raises:
            BadRequest, Full, StoreAway: as :meth:`add`.
        """
        check(check_service_name, name)
        if config.leader:
            check(check_id, config.leader)
        key = config_key(name)

        def plan() -> Plan | None:
            info = self._view.service(name)
            if info is not None and info.config_index and info.config == config:
                return None
            self._check_room(name)
            return Plan({key: encode(config)}, when=(as_known(self._view, key),))

        await self._writer.write(plan)
        await self._keeper.settle_now(name)

    async def set_leader(self, name: str, id: str) -> None:
        """Name who leads a service whose leader is named by hand. It leads as soon as it is there.

        Raises:
            BadRequest: that is no name.
            NotAllowed: its leader is the oldest instance.
            StoreAway: the store does not take it.
        """
        check(check_service_name, name)
        check(check_id, id)
        info = self._view.service(name)
        if info is None or info.config.leader_type != "manual":
            raise NotAllowed(f"the leader of {name} is not named by hand: configure it as manual first")
        await self.configure(name, msgspec.structs.replace(info.config, leader=id))

    async def remove(self, name: str) -> None:
        """Have a service no more: its instances are deregistered, and what is kept for it is deleted.

        Raises:
            BadRequest, StoreAway: as :meth:`add`.
            NotThere: there is no such service.
        """
        check(check_service_name, name)
        if name not in self._view:
            raise NotThere(f"service {name!r} not found")

        def plan() -> Plan | None:
            keys = [key for key in (config_key(name), metadata_key(name)) if self._view.modified_of(key)]
            when = [as_known(self._view, key) for key in keys]
            return Plan(deletes=tuple(keys), when=tuple(when)) if keys else None

        await self._writer.write(plan)
        for instance in self._view.all_instances(name):
            with contextlib.suppress(NotThere):
                await self._registrations.deregister(name, instance.id, why="its service was removed")
        await self._keeper.settle_now(name)

    async def set_metadata(self, name: str, data: Any, index: int) -> int:
        """Keep something for a service, if it is as it was read.

        Args:
            name: of the service.
            data: whatever JSON can say.
            index: of what was read; 0 if there was nothing.

        Returns:
            Its index now.

        Raises:
            BadRequest: that is no name, or no JSON, or too much.
            NotThere: there is no such service.
            NotAllowed: it has another index.
            StoreAway: the store does not take it.
        """
        check(check_service_name, name)
        value = check(encode_service_metadata, data)
        key = metadata_key(name)

        def plan() -> Plan:
            if name not in self._view:
                raise NotThere(f"service {name!r} not found")
            info = self._view.service(name)
            there = 0 if info is None or info.metadata is None else info.metadata.index
            if there != index:
                raise NotAllowed(_wrong_index(name, index, there))
            return Plan({key: value}, when=(as_known(self._view, key),))

        return await self._writer.write(plan)


def _wrong_index(name: str, index: int, there: int) -> str:
    if not there:
        return f"Service metadata for {name!r} does not exist, use index=0 to set"
    if not index:
        return f"Service metadata for {name!r} already exists, use index={there} to set"
    return f"Service metadata for {name!r} exists, but wrong index provided: it is {there}, not {index}"
