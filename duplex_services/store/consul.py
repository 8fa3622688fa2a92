"""Consul's own interface, for what is in no store: the agent of this host, and any other that answers.

It needs the extra ``consul``, so it is not among the names of :mod:`duplex_services.store`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final, final

from duplex_services._shared._http_client import Answer, HttpClient, HttpError
from duplex_services.store._backend import ANSWER_WITHIN
from duplex_services.store._backends._http import failure_of, open_client, secret_of
from duplex_services.store._model import Refused, Unavailable, Unknown
from duplex_services.store._url import parse_url

_PORT: Final = 8500
#: Of requests: newer ones than these say so.
_TOO_MANY: Final = 429


@final
class ConsulApi:
    """Requests to one Consul. :func:`open_consul_api` makes it from a URL.

    Args:
        agent: the client of one host alone: the agent that has what is registered here.
        others: the client of the other hosts; ``None`` if there are none.
        token: is shown; may be empty.
    """

    def __init__(self, agent: HttpClient, others: HttpClient | None = None, token: str = "") -> None:
        self._agent = agent
        self._others = others
        self._headers = [("X-Consul-Token", token)] if token else []

    async def ask_agent(self, method: str, path: str, body: object = None, *, missing: bool = False) -> Any:
        """Ask the agent, and return the JSON of its answer; ``None`` if that is empty.

        Args:
            method: such as ``PUT``.
            path: with its query.
            body: sent as JSON; bytes are sent as they are, and ``None`` is nothing.
            missing: that there is no such thing (404) is an answer too: ``None``.

        Raises:
            Unavailable, Unknown: it does not answer.
            Refused: it does not do that; the message says why.
        """
        return _read(method, path, await self._ask(self._agent, method, path, body, missing=missing))

    async def ask_others(self, method: str, path: str, body: object = None) -> Any:
        """Ask any other host, in the same way."""
        if self._others is None:
            raise Unavailable("there is no other host of Consul's in the URL")
        return _read(method, path, await self._ask(self._others, method, path, body))

    async def wait(self, path: str, index: int, seconds: float) -> int:
        """Wait at the agent until what a path tells has another index.

        Args:
            path: without a query.
            index: what it had; 0 to be told at once.
            seconds: how long, at most.

        Returns:
            The index that it has. A lower one is of a Consul that was replaced.

        Raises:
            Unavailable, Refused: as of :meth:`ask_agent`.
        """
        target = f"{path}?index={index}&wait={seconds:g}s"
        # Consul adds up to a sixteenth, so that not all come back at once.
        within = seconds * 17 / 16 + ANSWER_WITHIN
        answer = await self._ask(self._agent, "GET", target, None, answer_within=within)
        text = answer.headers.get("x-consul-index", "")
        if not text.isdecimal():
            raise Unavailable(f"Consul answers GET {path} without an index: {text[:50]!r}")
        return int(text)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._agent.aclose()
        if self._others is not None:
            await self._others.aclose()

    async def _ask(
        self,
        client: HttpClient,
        method: str,
        path: str,
        body: object,
        *,
        missing: bool = False,
        answer_within: float | None = None,
    ) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        try:
            answer = await client.request(
                method, path, data, headers=self._headers, answer_within=answer_within
            )
        except HttpError as error:
            raise failure_of(error, is_read=method == "GET") from error
        if answer.status == 200 or (missing and answer.status == 404):
            return answer
        said = answer.body.decode(errors="replace").strip()
        kind = Unavailable if answer.status >= 500 or answer.status == _TOO_MANY else Refused
        raise kind(f"Consul answers {method} {path} with {answer.status}: {said[:200]}")


def _read(method: str, path: str, answer: Answer) -> Any:
    if answer.status != 200 or not answer.body.strip():
        return None
    try:
        return json.loads(answer.body)
    except ValueError:
        # Whatever that is, it does not say that nothing is there.
        kind = Unavailable if method == "GET" else Unknown
        raise kind(f"Consul answers {method} {path} with no JSON: {answer.body[:60]!r}") from None


@contextlib.asynccontextmanager
async def open_consul_api(url: str) -> AsyncIterator[ConsulApi]:
    """Open the interface of a Consul: ``async with open_consul_api("consul://10.0.0.1,10.0.0.2/") as api``.

    Args:
        url: as that of a store. The first host is the agent that is registered with.

    Raises:
        ConfigurationError: the URL makes no sense.
    """
    parsed = parse_url(url)
    client = open_client(parsed, _PORT)
    token = secret_of(parsed)
    first, *rest = client.endpoints
    api = ConsulApi(HttpClient([first]), HttpClient(rest) if rest else None, token)
    try:
        yield api
    finally:
        await api.aclose()
