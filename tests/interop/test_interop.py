"""gRPC's interoperability cases, over every kind of endpoint, and between two processes.

Source: https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md. The names, the sizes and
the texts are those of that list, so that whoever knows it finds each case again.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import GUARD, SCHEMES, collect, endpoint_of, linked, outcome, process, quiet
from tests.interop.service import Request, make_service
from tests.machine import fail_after

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
REQUESTS = (27182, 8, 1828, 45904)
RESPONSES = (31415, 9, 2653, 58979)


class Place:
    """Where the server of a case is."""

    def __init__(self, endpoint: str, *, elsewhere: bool) -> None:
        self.endpoint = endpoint
        self.elsewhere = elsewhere

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[duplex.Peer]:
        """A client of it."""
        if not self.elsewhere:
            async with linked(make_service(), endpoint=self.endpoint) as pair:
                yield pair.client
            return
        with fail_after(GUARD):
            async with duplex.open_peer(name="client") as client:
                link = await client.connect(self.endpoint)
                yield client
                await quiet(link)

    @contextlib.asynccontextmanager
    async def remote(self) -> AsyncIterator[duplex.ServiceProxy]:
        """A proxy for the service there."""
        async with self.connected() as client:
            yield client.service("interop")


@pytest.fixture(scope="module")
def other_process() -> Iterator[str]:
    with process("tests.interop.service", "tcp://127.0.0.1:*") as (_, endpoint):
        yield endpoint


@pytest.fixture(params=[*SCHEMES, "process"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "process":
        return Place(request.getfixturevalue("other_process"), elsewhere=True)
    return Place(endpoint_of(request.param, tmp_path), elsewhere=False)


async def test_empty_unary(place: Place) -> None:
    async with place.remote() as remote:
        assert await remote.empty() is None


async def test_large_unary(place: Place) -> None:
    async with place.remote() as remote:
        assert await remote.unary(314159, bytes(271828)) == bytes(314159)


async def test_client_streaming(place: Place) -> None:
    async with place.remote() as remote, remote.collect.open() as call:
        for size in REQUESTS:
            await call.send(bytes(size))
        assert await call.result() == 74922


async def test_server_streaming(place: Place) -> None:
    async with place.remote() as remote, remote.emit.open(list(RESPONSES)) as call:
        assert [len(payload) for payload in await collect(call)] == list(RESPONSES)


async def test_ping_pong(place: Place) -> None:
    async with place.remote() as remote, remote.exchange.open() as call:
        for request, response in zip(REQUESTS, RESPONSES, strict=True):
            await call.send(Request(response, bytes(request)))
            assert await call.receive() == bytes(response)
        await call.send_eof()
        with pytest.raises(trio.EndOfChannel):
            await call.receive()


async def test_empty_stream(place: Place) -> None:
    async with place.remote() as remote, remote.exchange.open() as call:
        await call.send_eof()
        assert await collect(call) == []


async def test_custom_metadata(place: Place) -> None:
    metadata: duplex.Metadata = {
        "x-grpc-test-echo-initial": "test_initial_metadata_value",
        "x-grpc-test-echo-trailing-bin": b"\xab\xab\xab",
    }
    async with place.remote() as plain:
        remote = plain.with_options(metadata=metadata)
        async with remote.echo_metadata.open() as call:
            assert call.trailers == {}
            assert await call.result() is None
            assert call.trailers == metadata
        async with remote.exchange_metadata.open() as call:
            await call.send(Request(314159, bytes(271828)))
            assert len(await call.receive()) == 314159
            await call.send_eof()
            assert await collect(call) == []
            assert call.trailers == metadata


async def test_status_code_and_message(place: Place) -> None:
    async with place.remote() as remote:
        with pytest.raises(duplex.Unknown) as caught:
            await remote.fail(2, "test status message", {"field": ["a", 1, b"\0"]})
        assert caught.value.code is duplex.StatusCode.UNKNOWN
        assert caught.value.message == "test status message"
        assert caught.value.details == {"field": ["a", 1, b"\0"]}
        async with remote.exchange_failing.open(code=2, message="test status message") as call:
            await call.send(Request(3, b""))
            assert await call.receive() == bytes(3)
            with pytest.raises(duplex.Unknown) as caught:
                await call.receive()
        assert caught.value.message == "test status message"


async def test_special_status_message(place: Place) -> None:
    async with place.remote() as remote:
        with pytest.raises(duplex.Unknown) as caught:
            await remote.fail(2, SPECIAL)
        assert caught.value.message == SPECIAL


async def test_unimplemented_method(place: Place) -> None:
    async with place.remote() as remote:
        with pytest.raises(duplex.Unimplemented, match="'interop' has no method 'unimplemented_call'"):
            await remote.unimplemented_call()
        assert await remote.empty() is None


async def test_unimplemented_service(place: Place) -> None:
    async with place.connected() as client:
        with pytest.raises(duplex.Unimplemented, match="there is no service 'unimplemented'"):
            await client.service("unimplemented").unimplemented_call()
        assert await client.service("interop").empty() is None


async def test_cancel_after_begin(place: Place) -> None:
    async with place.remote() as remote:
        key = secrets.token_hex(4)
        async with remote.hang.open(key=key) as call:
            call.cancel()
            with pytest.raises(duplex.CallCancelled) as caught:
                await call.receive()
        assert caught.value.cancelled_by == "local"


async def test_cancel_after_first_response(place: Place) -> None:
    async with place.remote() as remote:
        key = secrets.token_hex(4)
        async with remote.hang.open(key=key) as call:
            await call.send(Request(31415, bytes(27182)))
            assert await call.receive() == bytes(31415)
            call.cancel()
            with pytest.raises(duplex.CallCancelled):
                await call.receive()
        assert await remote.wait_cancelled(key) is True


async def _hang(method: duplex.MethodProxy, key: str) -> Any:
    async with method.open(key=key) as call:
        await call.send(Request(8, bytes(27182)))
        return await collect(call)


async def test_timeout_on_sleeping_server(place: Place) -> None:
    async with place.remote() as remote:
        key = secrets.token_hex(4)
        error = await outcome(_hang(remote.hang.with_options(timeout=0.02), key))
        assert type(error) is duplex.DeadlineExceeded
        assert error.code is duplex.StatusCode.DEADLINE_EXCEEDED
        assert await remote.wait_cancelled(key) is True
