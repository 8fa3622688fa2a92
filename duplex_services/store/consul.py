"""Consul's own interface, for what is in no store: the agent of this host, and any other that answers.

It needs the extra ``consul``, so it is not among the names of :mod:`duplex_services.store`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final, final

from duplex_services._shared._http_client import HttpClient, HttpError
from duplex_services.store._backends._http import failure_of, open_client, secret_of
from duplex_services.store._model import Refused, Unavailable
from duplex_services.store._url import parse_url

_PORT: Final = 8500


@final
class ConsulApi:
    """Requests to one Consul. :func:`open_consul_api` makes it.

    Args:
        agent: the client of the first host alone, which is the agent that has what is registered here.
        others: the client of the other hosts; ``None`` if there are none.
        token: is shown; may be empty.
    """

    def __init__(self, agent: HttpClient, others: HttpClient | None, token: str) -> None:
        self._agent = agent
        self._others = others
        self._headers = [("X-Consul-Token", token)] if token else []

    async def ask_agent(self, method: str, path: str, body: object = None) -> Any:
        """Ask the agent, and return the JSON of its answer; ``None`` if that is empty.

        Raises:
            Unavailable, Unknown: it does not answer.
            Refused: it does not do that; the message says why.
        """
        return await self._ask(self._agent, method, path, body)

    async def ask_others(self, method: str, path: str, body: object = None) -> Any:
        """Ask any other host, in the same way."""
        if self._others is None:
            raise Unavailable("there is no other host of Consul's in the URL")
        return await self._ask(self._others, method, path, body)

    async def _ask(self, client: HttpClient, method: str, path: str, body: object) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        try:
            answer = await client.request(method, path, data, headers=self._headers)
        except HttpError as error:
            raise failure_of(error, is_read=method == "GET") from error
        if answer.status != 200:
            said = answer.body.decode(errors="replace").strip()
            kind = Unavailable if answer.status >= 500 else Refused
            raise kind(f"Consul answers {method} {path} with {answer.status}: {said[:200]}")
        try:
            return json.loads(answer.body) if answer.body.strip() else None
        except ValueError:
            return None


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
    agent = HttpClient([first])
    others = HttpClient(rest) if rest else None
    try:
        yield ConsulApi(agent, others, token)
    finally:
        await agent.aclose()
        if others is not None:
            await others.aclose()
