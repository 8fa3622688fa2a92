"""A service with a method of each kind, for the tests of middleware."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import trio

import duplex
from tests.engine.helpers import Pair, collect

told: contextvars.ContextVar[str] = contextvars.ContextVar("told", default="nothing")


def every_kind(*middleware: duplex.ServingMiddleware, **options: Any) -> duplex.Service:
    """Make a service with a method of each kind, which says what it has seen."""
    service = duplex.Service("svc", middleware=middleware)

    def seen() -> str:
        call = duplex.current_call()
        return f"{call.metadata.get('user')!s} {call.state.get('user')} {told.get()}"

    @service.rpc(**options)
    async def coroutine(word: str) -> str:
        return f"{word} {seen()}"

    @service.rpc(**options)
    async def waiting(word: str) -> str:
        await trio.lowlevel.checkpoint()
        return f"{word} {seen()}"

    @service.rpc(**options)
    def thread(word: str) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return f"{word} {seen()}"

    @service.rpc(inline=True, **options)
    def inline(word: str) -> str:
        assert threading.current_thread() is threading.main_thread()
        return f"{word} {seen()}"

    @service.rpc(**options)
    async def generator(word: str) -> AsyncIterator[str]:
        yield word
        yield seen()

    @service.rpc(**options)
    def thread_generator(word: str) -> Iterator[str]:
        assert threading.current_thread() is not threading.main_thread()
        yield word
        yield seen()

    @service.rpc(inline=True, **options)
    def inline_generator(word: str) -> Iterator[str]:
        yield word
        yield seen()

    @service.rpc(**options)
    async def collected(words: duplex.ReceiveChannel[str]) -> list[str]:
        return [*[word async for word in words], seen()]

    @service.rpc(**options)
    async def both(words: duplex.ReceiveChannel[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word
        yield seen()

    @service.rpc(**options)
    async def channel(words: duplex.Channel[str, str]) -> None:
        async for word in words:
            await words.send(word)
        await words.send(seen())

    return service


#: Methods, and what they do with words.
UNARY = ("coroutine", "waiting", "thread", "inline")
STREAMED = ("generator", "thread_generator", "inline_generator")
STREAMING = ("collected", "both", "channel")


async def use(pair: Pair, method: str, *, name: str = "svc", **options: Any) -> list[str]:
    """Call a method with a word, or with a stream of one, and return what came back."""
    remote = getattr(pair.service(name), method).with_options(**options)
    if method in UNARY:
        return str(await remote("word")).split(" ", 1)
    if method in STREAMED:
        async with remote.open("word") as call:
            return await collect(call)
    async with remote.open() as call:
        await call.send("word")
        await call.send_eof()
        return list(await call.result()) if method == "collected" else await collect(call)


async def turn_into_denial(call: duplex.ServedCall, next: duplex.Next) -> Any:
    """Middleware that tells an unexpected error to callers."""
    try:
        return await next(call)
    except ZeroDivisionError as error:
        raise duplex.PermissionDenied(f"the handler raised {error!r}") from error


def through(name: str) -> duplex.ServingMiddleware:
    """Middleware that writes its name on everything that passes."""

    async def receiving(receive: Any) -> str:
        return f"{await receive()}>{name}"

    async def sending(item: str, send: Any) -> None:
        await send(f"{item}>{name}")

    async def middleware(call: duplex.ServedCall, next: duplex.Next) -> Any:
        call.wrap_receive(receiving)
        call.wrap_send(sending)
        return await next(call)

    return middleware
