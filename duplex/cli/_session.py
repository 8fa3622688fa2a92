"""Connecting and calling, until it is done or a signal comes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import click
import msgspec
import trio

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._options import credentials, discovery_servers
from duplex.cli._output import ResultWriter, to_json
from duplex.cli._probe import connect
from duplex.cli._report import printable, report, report_unwritable, tell
from duplex.cli._stdin import Form, Items
from duplex.cli._tls_options import tls
from duplex.cli._values import takes_bytes
from duplex.cli._words import Method, bind_data, bind_words, check_method
from duplex.resolvers import is_looked_up

REFLECTION = "duplex.reflection"


# -- running ---------------------------------------------------------------------------------------------


def run(
    command: Callable[[], Awaitable[int | None]], *, on_signal: Callable[[], object] | None = None
) -> int:
    """Run a command until it ends, or until SIGINT or SIGTERM cancels it; a second signal ends it at once.

    Args:
        command: what to run; it may return an exit code. Its errors are reported on stderr.
        on_signal: what the first signal does instead, called in the event loop.

    Returns:
        The exit code; after a signal that cancelled it 128 and the signal's number, as shells have it.
    """

    async def main() -> int | None:
        with trio.CancelScope() as scope, _signals_call(on_signal or scope.cancel) as received:
            return await command()
        return 128 + received[0] if received and scope.cancelled_caught else None

    try:
        code = trio.run(main)
    except OSError as error:
        return report_unwritable(error)
    except (CommandError, duplex.DuplexError) as error:
        return report(error)
    return code or 0


@contextlib.contextmanager
def _signals_call(react: Callable[[], object]) -> Iterator[list[int]]:
    """Let the first signal call a function, and the second end the process even if nothing reacts any more."""
    token = trio.lowlevel.current_trio_token()
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        token.run_sync_soon(react)

    replaced = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell that starts a job in the background has it ignore SIGINT, and so it should stay.
        if signal.getsignal(number) is not signal.SIG_IGN:
            replaced[number] = signal.signal(number, handle)
    try:
        yield received
    finally:
        for number, previous in replaced.items():
            signal.signal(number, previous)


# -- connecting ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def linked(endpoint: str, timeout: float) -> AsyncIterator[duplex.Link]:
    """Connect to an endpoint for the time of a block.

    Args:
        endpoint: where the other peer is bound; or ``discovery://NAME``, for one of the instances of a service.
        timeout: seconds until there must be a link; where nothing listens, it fails at once.
    """
    async with peer_for([endpoint], timeout) as peer:
        yield await connect(peer, endpoint)


def peer_for(endpoints: Iterable[str], timeout: float) -> AbstractAsyncContextManager[duplex.Peer]:
    """Open a peer that is to connect to endpoints.

    Args:
        endpoints: where; names of services among them, perhaps.
        timeout: seconds that looking one up may take, and a link.
    """
    return looking_up(timeout) if any(map(is_looked_up, endpoints)) else _plain_peer(timeout)


def looking_up(timeout: float) -> AbstractAsyncContextManager[duplex.Peer]:
    """Open a peer that looks services up where the command says.

    Args:
        timeout: seconds that this may take, and a link.
    """
    return _plain_peer(timeout, discovery=discovery_servers() or None)


def _plain_peer(timeout: float, **options: Any) -> AbstractAsyncContextManager[duplex.Peer]:
    return duplex.open_peer(
        name="duplex-cli", connect_timeout=timeout, credentials=credentials(), tls=tls(), **options
    )


async def reflect(link: duplex.Link, method: str, *args: Any, timeout: float) -> Any:
    """Ask the reflection of a peer.

    Raises:
        RPCError: its outcome; ``Unimplemented`` if the peer has none.
    """
    if REFLECTION not in link.services:
        raise duplex.Unimplemented(
            f"{link.peer_name} does not describe its services: it was opened with reflection=False"
        )
    return await link.service(REFLECTION).with_options(timeout=timeout)[method](*args)


async def describe_method(link: duplex.Link, target: str, *, timeout: float) -> Method | None:
    """Return the description of a method; ``None`` if the peer describes nothing.

    Raises:
        Unimplemented: the peer has no such method.
    """
    if REFLECTION not in link.services:
        return None
    service, _, name = target.rpartition(".")
    try:
        description = await reflect(link, "describe", service, name, timeout=timeout)
    except duplex.NotFound as error:
        missing = duplex.Unimplemented(error.message)
        missing.method, missing.peer = target, link.peer_name
        raise missing from None
    try:
        (described,) = description["methods"]
        method = msgspec.convert({**described, "name": target}, Method)
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise duplex.Internal(
            f"the description of {target} cannot be understood ({error}); try --no-reflection"
        ) from None
    return method


# -- calling ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, as the command line has it. Times are seconds."""

    endpoint: str
    #: ``service.method``.
    target: str
    words: Sequence[str] = ()
    #: The arguments in JSON, decoded; ``None`` if the words are the arguments.
    data: list[Any] | dict[str, Any] | None = None
    #: Standard input was read for them already.
    data_from_stdin: bool = False
    timeout: float | None = None
    connect_timeout: float = 5.0
    metadata: Mapping[str, str] = field(default_factory=dict)
    reflection: bool = True
    #: Stream standard input even if there is no description that asks for it.
    stdin: bool = False
    #: What the items on standard input are.
    form: Form = "json"
    raw: bool = False
    verbose: bool = False


async def make_call(call: Call) -> None:
    """Make a call and write its results to stdout as they come."""
    started = trio.current_time()
    times: dict[str, float] = {}

    def note(what: str) -> None:
        times.setdefault(what, trio.current_time() - started)

    async with linked(call.endpoint, call.connect_timeout) as link:
        note("linked")
        method = None
        if call.reflection:
            method = await describe_method(link, call.target, timeout=call.connect_timeout)
            note("described")
        if method is not None:
            check_method(method)
        items = _items(call, method)
        if call.data is not None:
            arguments = bind_data(call.data, method)
        else:
            arguments = bind_words(call.words, method)
        service, _, name = call.target.rpartition(".")
        proxy = link.service(service).with_options(timeout=call.timeout, metadata=call.metadata)
        writer = ResultWriter(raw=call.raw)

        async def show(value: Any, alone: bool) -> None:
            note("first result")
            await writer.write(value, alone=alone)

        trailers: Mapping[str, str | bytes] = {}
        try:
            async with proxy[name].open(*arguments.positional, **arguments.keyword) as opened:
                try:
                    await _converse(opened, items, show)
                finally:
                    trailers = opened.trailers
        finally:
            note("end")
            if call.verbose:
                _tell(link, trailers, times)


def _items(call: Call, method: Method | None) -> Items | None:
    """Return what is to be read from standard input, or ``None``."""
    streamed = call.stdin or call.form != "json"
    if method is None:
        return Items(None, {}, form=call.form) if streamed else None
    if method.streams_input:
        if call.data_from_stdin:
            raise CommandError(f"{call.target} takes a stream from stdin, which so cannot hold its arguments")
        schema = method.input.schema if method.input is not None else {}
        if call.form == "bytes" and not takes_bytes(schema, method.defs):
            raise CommandError(f"{call.target} takes no stream of bytes: it is {method.signature}")
        return Items(method.input, method.defs, form=call.form)
    if streamed:
        raise CommandError(f"{call.target} takes no stream: it is {method.signature}")
    return None


async def _converse(
    call: duplex.OutgoingCall[Any, Any], items: Items | None, show: Callable[[Any, bool], Awaitable[None]]
) -> None:
    """Send the items of a call and show its results, both at once, until the call ends."""
    problem: Exception | None = None

    async def send() -> None:
        nonlocal problem
        try:
            if items is not None:
                await items.send_to(call.send)
            await call.send_eof()
        except (duplex.RPCError, trio.BrokenResourceError):
            pass  # the call is over; its receiver learns of the outcome
        except (CommandError, duplex.EncodeError) as error:
            problem = error
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        try:
            await _receive(call, show)
        except (CommandError, duplex.RPCError, OSError) as error:
            # Raised below: a nursery would wrap it in a group.
            problem = error
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem


async def _receive(call: duplex.OutgoingCall[Any, Any], show: Callable[[Any, bool], Awaitable[None]]) -> None:
    while True:
        try:
            value = await call.receive()
        except trio.EndOfChannel:
            return
        except TypeError:
            # The method returns a single value. It may come before the last item was sent, or only behind that.
            await show(await call.result(end=False), True)
            return
        await show(value, False)


def _tell(link: duplex.Link, trailers: Mapping[str, str | bytes], times: Mapping[str, float]) -> None:
    tell(f"peer: {printable(link.peer_name)}")
    tell(f"trailers: {to_json(trailers).decode()}")
    told = ", ".join(f"{what} {1000 * seconds:.1f} ms" for what, seconds in times.items())
    tell(f"since the start: {told}")


# -- ping ------------------------------------------------------------------------------------------------


async def ping(endpoint: str, *, count: int, interval: float, connect_timeout: float, timeout: float) -> None:
    """Write the round trip of every ping to stdout, and a summary to stderr. Times are seconds."""
    times: list[float] = []
    async with linked(endpoint, connect_timeout) as link:
        try:
            for number in range(count):
                if number:
                    await trio.sleep(interval)
                seconds = None
                with trio.move_on_after(timeout):
                    seconds = await link.ping()
                if seconds is None:
                    raise duplex.DeadlineExceeded(f"{link.peer_name} did not answer within {timeout:g} s")
                times.append(1000 * seconds)
                click.echo(f"{times[-1]:.3f} ms")
        finally:
            if times:
                in_order, half = sorted(times), len(times) // 2
                middle = (in_order[half] + in_order[~half]) / 2
                tell(
                    f"{len(times)} round trip{'s' if len(times) > 1 else ''} to {printable(link.peer_name)}: "
                    f"min {min(times):.3f}, median {middle:.3f}, max {max(times):.3f} ms"
                )
