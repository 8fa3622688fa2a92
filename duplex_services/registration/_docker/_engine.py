"""An engine's API, as much of it as is needed to see what runs: nothing here changes anything."""

from __future__ import annotations

import contextlib
import email.utils
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import quote, urlsplit

import duplex
from duplex_services._shared._http_client import Endpoint, HttpClient, HttpError, Stream
from duplex_services.registration._rules._versions import negotiate

#: Seconds that one answer may take.
_ANSWER_WITHIN: Final = 10.0
_CONNECTIONS: Final = 4

#: Bytes that one event may have.
_LINE: Final = 1024 * 1024

#: What may change what is listed. Others come often, such as two for each health check.
_EVENTS: Final = {
    "type": ["container", "network"],
    "event": [
        "start",
        "die",
        "kill",
        "pause",
        "unpause",
        "rename",
        "destroy",
        "health_status",
        "connect",
        "disconnect",
    ],
}


class EngineError(Exception):
    """The engine cannot be asked, or its answer makes no sense: what it said before still holds."""


@final
class Engine:
    """One engine, whichever life of it: each connection goes by the path of its socket.

    Args:
        where: ``unix:///run/docker.sock``, or ``tcp://HOST:PORT``.
        tls: for the latter, how certificates are checked and shown.

    Attributes:
        where: the same.
        version: of the API that is spoken; empty until :meth:`greet`.
        name: what the engine calls itself.
    """

    def __init__(self, where: str, tls: ssl.SSLContext | None = None) -> None:
        self.where = where
        self.version = ""
        self.name = ""
        self._endpoint = read_endpoint(where, tls)
        self._http = HttpClient([self._endpoint], answer_within=_ANSWER_WITHIN, connections=_CONNECTIONS)
        self._clock = 0

    @property
    def socket(self) -> Path | None:
        """The socket's path, if it is a Unix socket."""
        return self._endpoint.socket

    async def greet(self) -> None:
        """Find out which version of the API to speak.

        Raises:
            EngineError: nobody answers, or there is no version that both speak.
        """
        answer, headers = await self._get("/version")
        if not isinstance(answer, dict):
            raise EngineError(f"{self.where} does not answer as an engine does")
        try:
            self.version = negotiate(str(answer.get("MinAPIVersion", "")), str(answer.get("ApiVersion", "")))
        except ValueError as error:
            raise EngineError(f"{self.where}: {error}") from error
        self.name = f"{answer.get('Version', '')}"
        date = email.utils.parsedate_to_datetime(headers["date"]) if "date" in headers else None
        self._clock = 0 if date is None else int(date.timestamp())

    async def containers(self) -> list[dict[str, Any]]:
        """Return a line for each container, whether it runs or not.

        Raises:
            EngineError: nobody answers sensibly.
        """
        answer, _ = await self._get(f"/v{self.version}/containers/json?all=1")
        if not isinstance(answer, list):
            raise EngineError(f"{self.where} answers with no list of containers")
        return answer

    async def inspect(self, id: str) -> dict[str, Any] | None:
        """Return all about a container; ``None`` if there is none.

        Raises:
            EngineError: nobody answers sensibly.
        """
        answer, _ = await self._get(f"/v{self.version}/containers/{quote(id, safe='')}/json", missing=True)
        return answer if isinstance(answer, dict) else None

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Give what happens, from some moment before :meth:`greet` on, until the engine ends it.

        Raises:
            EngineError: nobody answers; or later, the connection was lost.
        """
        filters = quote(json.dumps(_EVENTS))
        # The engine answers before it has subscribed us, so events of that moment are asked for once more. Its clock counts.
        since = f"&since={self._clock - 1}" if self._clock else ""
        try:
            async with self._http.stream(
                "GET", f"/v{self.version}/events?filters={filters}{since}"
            ) as stream:
                if stream.status != 200:
                    raise EngineError(f"{self.where} tells no events: it answers {stream.status}")
                yield _lines(stream, self.where)
        except HttpError as error:
            raise EngineError(str(error)) from error

    async def _get(self, target: str, *, missing: bool = False) -> tuple[Any, dict[str, str]]:
        try:
            answer = await self._http.request("GET", target)
        except HttpError as error:
            raise EngineError(str(error)) from error
        if answer.status == 404 and missing:
            return None, answer.headers
        try:
            found = json.loads(answer.body)
        except ValueError as error:
            raise EngineError(f"{self.where} answers {answer.status} to {target} with no JSON") from error
        if answer.status != 200:
            message = found.get("message", "") if isinstance(found, dict) else ""
            raise EngineError(f"{self.where} answers {answer.status}: {message}")
        return found, answer.headers

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


async def _lines(stream: Stream, where: str) -> AsyncIterator[dict[str, Any]]:
    try:
        while (line := await stream.line(_LINE)) is not None:
            if line.strip():
                found = json.loads(line)
                if isinstance(found, dict):
                    yield found
    except HttpError as error:
        raise EngineError(str(error)) from error
    except ValueError as error:
        raise EngineError(f"{where} tells an event that is no JSON") from error


def read_endpoint(where: str, tls: ssl.SSLContext | None = None) -> Endpoint:
    """Return where an engine listens.

    Raises:
        ConfigurationError: that is no address of an engine.
    """
    parts = urlsplit(where)
    if parts.scheme == "unix" and not parts.netloc and parts.path not in ("", "/"):
        return Endpoint("docker", socket=Path(parts.path))
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme in ("tcp", "http", "https") and parts.hostname and port and parts.path in ("", "/"):
        return Endpoint(parts.hostname, port, tls)
    raise duplex.ConfigurationError(
        f"{where!r} is no address of a container engine: unix:///run/docker.sock, or tcp://HOST:PORT"
    )
