"""One call of a benchmark, by the kind of the method: what is sent, and what is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._figures import Attempt
from duplex.cli._values import from_word, takes_bytes
from duplex.cli._words import Arguments, Method, bind_data, bind_words, check_method

#: Makes one call, tells the attempt what is sent and received, and returns once the call has ended well.
Shot: TypeAlias = Callable[[Attempt], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Ammunition:
    """What every call is made with, as the command line has it."""

    #: ``service.method``.
    target: str
    words: Sequence[str] = ()
    #: The arguments in JSON, decoded; ``None`` if the words are the arguments.
    data: list[Any] | dict[str, Any] | None = None
    #: Bytes that are the only argument or, for a method that takes a stream, every item.
    payload: bytes | None = None
    #: How many items every call streams to the method, and the word that each of them is.
    items: int | None = None
    item: str | None = None
    #: Seconds.
    timeout: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def load(ammunition: Ammunition, method: Method | None, links: Sequence[duplex.Link]) -> list[Shot]:
    """Return what makes a call, for every link.

    Args:
        ammunition: what to call with.
        method: the method's description; without one, it counts as unary.
        links: where to call.

    Raises:
        CommandError: the arguments do not fit the method.
    """
    if method is not None:
        check_method(method)
    streams_input = method is not None and method.streams_input
    arguments = _arguments(ammunition, method, streams_input)
    item = _item(ammunition, method) if streams_input else None
    if ammunition.items is not None and not streams_input:
        what = (
            "a method that nothing is known of" if method is None else f"{method.name}, which takes no stream"
        )
        raise CommandError(f"--items cannot be sent to {what}")
    service, _, name = ammunition.target.rpartition(".")
    shots: list[Shot] = []
    for link in links:
        remote = link.service(service).with_options(timeout=ammunition.timeout, metadata=ammunition.metadata)
        proxy = remote[name]
        size = len(ammunition.payload or b"")
        if method is None or method.kind == "unary":
            shots.append(_unary(proxy, arguments, size))
        elif not streams_input:
            shots.append(_server_streaming(proxy, arguments, size))
        else:
            shots.append(
                _streaming(proxy, arguments, item, ammunition.items or 0, size, method.streams_output)
            )
    return shots


def _arguments(ammunition: Ammunition, method: Method | None, streams_input: bool) -> Arguments:
    if ammunition.payload is None or streams_input:
        if ammunition.data is not None:
            return bind_data(ammunition.data, method)
        return bind_words(ammunition.words, method)
    if method is not None:
        parameter = next((p for p in method.parameters if not p.stream and p.kind != "keyword_only"), None)
        if parameter is None or not takes_bytes(parameter.schema, method.defs):
            raise CommandError(
                f"--payload is bytes, which {method.name} does not take; it is {method.signature}"
            )
    return Arguments([ammunition.payload], {})


def _item(ammunition: Ammunition, method: Method | None) -> Any:
    assert method is not None
    if ammunition.items is None:
        raise CommandError(f"{method.name} takes a stream: say with --items how many items each call sends")
    expected = method.input
    schema, type_text = (expected.schema, expected.type) if expected else ({}, "")
    if ammunition.payload is not None:
        if not takes_bytes(schema, method.defs):
            raise CommandError(f"--payload is bytes, and {method.name} takes a stream of {type_text}")
        return ammunition.payload
    if ammunition.item is None:
        raise CommandError(
            f"{method.name} takes a stream: say with --item WORD or --payload what its items are"
        )
    try:
        return from_word(ammunition.item, schema, method.defs, type_text)
    except ValueError as error:
        raise CommandError(f"--item: {error}") from None


def _unary(proxy: Any, arguments: Arguments, size: int) -> Shot:
    positional, keyword = arguments

    async def shoot(attempt: Attempt) -> None:
        attempt.sent(size)
        try:
            value = await proxy(*positional, **keyword)
        except TypeError as error:
            # There was no description to tell what the method is.
            raise CommandError(f"{error}; without a description only unary methods can be measured") from None
        attempt.returned(value)

    return shoot


def _server_streaming(proxy: Any, arguments: Arguments, size: int) -> Shot:
    positional, keyword = arguments

    async def shoot(attempt: Attempt) -> None:
        attempt.sent(size)
        async with proxy.open(*positional, **keyword) as call:
            async for value in call:
                attempt.received(value)

    return shoot


def _streaming(
    proxy: Any, arguments: Arguments, item: Any, items: int, size: int, streams_output: bool
) -> Shot:
    positional, keyword = arguments

    async def send(call: Any, attempt: Attempt) -> None:
        try:
            for _ in range(items):
                await call.send(item)
                attempt.sent_item(size)
            await call.send_eof()
        except (duplex.RPCError, trio.BrokenResourceError):
            pass  # the call is over; its receiver learns of the outcome

    async def one_result(attempt: Attempt) -> None:
        async with proxy.open(*positional, **keyword) as call:
            await send(call, attempt)
            attempt.returned(await call.result())

    async def many_results(attempt: Attempt) -> None:
        problem: duplex.RPCError | None = None
        async with proxy.open(*positional, **keyword) as call, trio.open_nursery() as nursery:
            nursery.start_soon(send, call, attempt)
            try:
                async for value in call:
                    attempt.received(value)
            except duplex.RPCError as error:
                # Raised below: a nursery would wrap it in a group.
                problem = error
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem

    return many_results if streams_output else one_result
