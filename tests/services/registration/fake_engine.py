"""An engine that is none: containers as data, over the API on a Unix socket, as old or as new as a test wants it."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Self, final

import trio

from duplex_services._shared._background import background

_TARGET: Final = re.compile(r"/v(1\.[0-9]+)(/[^?]*)")


def inspected(number: int, **given: Any) -> dict[str, Any]:
    """What an engine tells of a container that publishes port 80."""
    id = f"{number:064x}"[::-1]
    state = {"Status": "running", "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z", "FinishedAt": ""}
    return {
        "Id": id,
        "Created": f"2026-01-01T00:{number % 60:02}:00Z",
        "Name": f"/web.{number}",
        "State": state | given.pop("State", {}),
        "HostConfig": {"NetworkMode": "bridge"},
        "Config": {"Hostname": id[:12], "Image": "example/web:1", "ExposedPorts": {"80/tcp": {}}}
        | given.pop("Config", {}),
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(20_000 + number)}]},
            "Networks": {"bridge": {"IPAddress": f"172.17.{number // 250}.{number % 250 + 2}"}},
        },
    } | given


@final
class FakeEngine:
    """Containers that a test makes up.

    Args:
        path: of the socket.
        versions: the oldest and the newest of the API that it speaks.
    """

    def __init__(self, path: Path, versions: tuple[str, str] = ("1.24", "1.45")) -> None:
        self.path = path
        self.versions = versions
        self.containers: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.methods: set[str] = set()
        #: Answers to be given instead, by the path without version and query.
        self.instead: dict[str, tuple[int, Any]] = {}
        self._listeners: set[trio.MemorySendChannel[dict[str, Any]]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def add(self, *containers: dict[str, Any]) -> None:
        """Have containers, or other facts about them, without an event."""
        self.containers |= {one["Id"]: one for one in containers}

    def tell(self, action: str, id: str, kind: str = "container", **attributes: str) -> None:
        """Tell an event, as engines of API 1.52 do: with an actor and nothing besides."""
        actor = {"ID": id, "Attributes": attributes}
        for listener in self._listeners:
            listener.send_nowait({"Type": kind, "Action": action, "Actor": actor, "timeNano": 2 * 10**18})

    def hang_up(self) -> None:
        """End all events."""
        for listener in list(self._listeners):
            listener.close()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[Self]:
        """Listen, until the block is left."""
        self.path.unlink(missing_ok=True)
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(str(self.path))
        sock.listen(64)
        async with background() as nursery:
            nursery.start_soon(trio.serve_listeners, self._answer_all, [trio.SocketListener(sock)])
            yield self

    async def _answer_all(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                data = b""
                while True:
                    while b"\r\n\r\n" not in data:
                        more = await stream.receive_some(65536)
                        if not more:
                            return
                        data += more
                    head, _, data = data.partition(b"\r\n\r\n")
                    method, target, *_ = head.decode().split(" ")
                    self.methods.add(method)
                    await self._answer(stream, target)

    async def _answer(self, stream: trio.SocketStream, target: str) -> None:
        path = target.partition("?")[0]
        match = _TARGET.fullmatch(path)
        path = match[2] if match else path
        self.requests.append(path)
        if path in self.instead:
            await self._send(stream, *self.instead[path])
        elif path == "/version":
            oldest, newest = self.versions
            await self._send(stream, 200, {"ApiVersion": newest, "MinAPIVersion": oldest, "Version": "fake"})
        elif match is None or not self._speaks(match[1]):
            asked = match[1] if match else "none"
            message = (
                f"client version {asked} is too old. Minimum supported API version is {self.versions[0]}"
            )
            await self._send(stream, 400, {"message": message})
        elif path == "/containers/json":
            await self._send(stream, 200, [_line(one) for one in self.containers.values()])
        elif path == "/events":
            await self._tell_events(stream)
        else:
            found = self.containers.get(path.split("/")[2])
            await self._send(stream, 404 if found is None else 200, found or {"message": "no such container"})

    def _speaks(self, version: str) -> bool:
        first, asked, last = (
            int(text.partition(".")[2]) for text in (self.versions[0], version, self.versions[1])
        )
        return first <= asked <= last

    async def _send(self, stream: trio.SocketStream, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(data)) + data)

    async def _tell_events(self, stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        send, receive = trio.open_memory_channel[dict[str, Any]](math.inf)
        self._listeners.add(send)
        try:
            async for event in receive:
                data = json.dumps(event).encode() + b"\n"
                await stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))
            await stream.send_all(b"0\r\n\r\n")
        finally:
            self._listeners.discard(send)


def _line(one: dict[str, Any]) -> dict[str, Any]:
    state = one["State"]["Status"]
    health = (one["State"].get("Health") or {}).get("Status")
    return {
        "Id": one["Id"],
        "Names": [one["Name"]],
        "State": state,
        "Status": f"Up {next(_SECONDS)} seconds" + (f" ({health})" if health else ""),
        "Ports": [],
        "NetworkSettings": {"Networks": one["NetworkSettings"]["Networks"]},
    }


#: Each list has another text for how long containers have been up.
_SECONDS: Final = itertools.count()
