"""FastAPI on uvicorn, with the aiohttp client: JSON bodies, checked against a model; streams as lines of JSON."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks._payloads import CHUNK
from benchmarks.peers import Client, More
from benchmarks.peers._runtimes import Asyncio

app = FastAPI()


class Small(BaseModel):
    """What calls carry."""

    id: int
    name: str
    value: float
    ok: bool
    tags: list[str]


@app.post("/echo")
async def echo(value: Small) -> Small:
    return value


@app.post("/echo_bytes")
async def echo_bytes(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


@app.post("/repeat")
async def repeat(value: Small) -> StreamingResponse:
    async def items() -> AsyncIterator[str]:
        while True:
            yield value.model_dump_json() + "\n"

    return StreamingResponse(items(), media_type="application/x-ndjson")


@app.post("/swallow")
async def swallow(request: Request) -> int:
    number, rest = 0, b""
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            json.loads(line)
            number += 1
    return number


class HttpClient(Client):
    """See the base class."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._echo, self._echo_bytes = f"{base}/echo", f"{base}/echo_bytes"
        self._repeat, self._swallow = f"{base}/repeat", f"{base}/swallow"

    async def unary(self, value: Any, /) -> Any:
        async with self._session.post(self._echo, json=value) as response:
            return await response.json()

    async def echo(self, data: bytes, /) -> Any:
        async with self._session.post(self._echo_bytes, data=data) as response:
            return await response.read()

    async def download(self, value: Any, more: More) -> None:
        received = 0
        async with self._session.post(self._repeat, json=value) as response:
            async for line in response.content:
                json.loads(line)
                received += 1
                if received % CHUNK == 0 and not more(CHUNK):
                    break
            response.close()

    async def upload(self, value: Any, more: More) -> int:
        async def items() -> AsyncIterator[bytes]:
            while True:
                for _ in range(CHUNK):
                    yield json.dumps(value).encode() + b"\n"
                if not more(CHUNK):
                    break

        async with self._session.post(self._swallow, data=items()) as response:
            return int(await response.json())


class HttpPeer:
    """See :class:`benchmarks.peers.Peer`."""

    imports: ClassVar[str] = "fastapi, uvicorn, aiohttp"
    runtime: ClassVar[Asyncio] = Asyncio()

    def serve(self, announce: Callable[[str], None]) -> None:
        logging.disable(logging.WARNING)
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        announce(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server.run(sockets=[listener])

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Client]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield HttpClient(session, address)


PEER = HttpPeer()
