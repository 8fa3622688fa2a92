"""What a function says of itself: kind, flavor, parameters; and what cannot be served."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from dataclasses import FrozenInstanceError
from typing import Annotated, Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack

import msgspec
import pytest
import trio

from duplex import Callback, Channel, ConfigurationError, Kind, ReceiveChannel, SendChannel
from duplex.engine._handler import Flavor, Handler
from tests.service.helpers import call, spec_of

P = ParamSpec("P")
T = TypeVar("T")


async def unary(a: int) -> str: ...  # type: ignore[empty-body]
def sync_unary(a: int) -> str: ...  # type: ignore[empty-body]


async def counts(upto: int) -> AsyncIterator[int]:
    yield 1


async def counts_generator() -> AsyncGenerator[int, None]:
    yield 1


async def counts_iterable() -> AsyncIterable[int]:
    yield 1


async def counts_bare() -> AsyncIterator:  # type: ignore[type-arg]
    yield 1


async def counts_anything() -> Any:
    yield 1


async def counts_untold():  # type: ignore[no-untyped-def]
    yield 1


def sync_counts() -> Iterator[int]:
    yield 1


def sync_generator() -> Generator[int, None, None]:
    yield 1


def sync_iterable() -> Iterable[int]:
    yield 1


async def total(numbers: ReceiveChannel[int]) -> int: ...  # type: ignore[empty-body]
async def total_trio(numbers: trio.abc.ReceiveChannel[int]) -> int: ...  # type: ignore[empty-body]
async def total_annotated(numbers: Annotated[ReceiveChannel[int], "x"]) -> int: ...  # type: ignore[empty-body]
async def total_bare(numbers: ReceiveChannel) -> int: ...  # type: ignore[type-arg, empty-body]
async def total_named(*names: str, numbers: ReceiveChannel[int]) -> int: ...  # type: ignore[empty-body]


async def shout(words: ReceiveChannel[str]) -> AsyncIterator[bytes]:
    yield b""


async def chat(channel: Channel[bytes, str]) -> None: ...
async def chat_trio(channel: trio.abc.Channel[str]): ...  # type: ignore[no-untyped-def]
async def chat_bare(channel: Channel) -> None: ...  # type: ignore[type-arg]
async def chat_more(channel: Channel[int, str], extra: ReceiveChannel[bytes]) -> None: ...
async def merge(a: ReceiveChannel[int], b: ReceiveChannel[int]) -> int: ...  # type: ignore[empty-body]
async def maybe(numbers: ReceiveChannel[int] | None = None) -> int: ...  # type: ignore[empty-body]
async def send(out: SendChannel[int], visit: Callback[[int], None]) -> None: ...
async def give() -> ReceiveChannel[int]: ...  # type: ignore[empty-body]
def thread(visit: Callback[[int], None]) -> Iterable[int]: ...  # type: ignore[empty-body]


UNARY, SERVER, CLIENT, BOTH = Kind.UNARY, Kind.SERVER_STREAMING, Kind.CLIENT_STREAMING, Kind.BIDIRECTIONAL
ASYNC, SYNC, AGEN, GEN = Flavor.ASYNC, Flavor.SYNC, Flavor.ASYNC_GENERATOR, Flavor.SYNC_GENERATOR


@pytest.mark.parametrize(
    ("function", "kind", "flavor", "stream", "wants_channel", "input_type", "output_type"),
    [
        (unary, UNARY, ASYNC, None, False, Any, str),
        (sync_unary, UNARY, SYNC, None, False, Any, str),
        (counts, SERVER, AGEN, None, False, Any, int),
        (counts_generator, SERVER, AGEN, None, False, Any, int),
        (counts_iterable, SERVER, AGEN, None, False, Any, int),
        (counts_bare, SERVER, AGEN, None, False, Any, Any),
        (counts_anything, SERVER, AGEN, None, False, Any, Any),
        (counts_untold, SERVER, AGEN, None, False, Any, Any),
        (sync_counts, SERVER, GEN, None, False, Any, int),
        (sync_generator, SERVER, GEN, None, False, Any, int),
        (sync_iterable, SERVER, GEN, None, False, Any, int),
        (total, CLIENT, ASYNC, "numbers", False, int, int),
        (total_trio, CLIENT, ASYNC, "numbers", False, int, int),
        (total_annotated, CLIENT, ASYNC, "numbers", False, int, int),
        (total_bare, CLIENT, ASYNC, "numbers", False, Any, int),
        (total_named, CLIENT, ASYNC, "numbers", False, int, int),
        (shout, BOTH, AGEN, "words", False, str, bytes),
        (chat, BOTH, ASYNC, "channel", True, str, bytes),
        (chat_trio, BOTH, ASYNC, "channel", True, str, str),
        (chat_bare, BOTH, ASYNC, "channel", True, Any, Any),
        (chat_more, BOTH, ASYNC, "channel", True, str, int),
        (merge, UNARY, ASYNC, None, False, Any, int),
        (maybe, UNARY, ASYNC, None, False, Any, int),
        (send, UNARY, ASYNC, None, False, Any, type(None)),
        (give, UNARY, ASYNC, None, False, Any, ReceiveChannel[int]),
        (thread, UNARY, SYNC, None, False, Any, Iterable[int]),
    ],
)
def test_kinds(
    function: Callable[..., Any],
    kind: Kind,
    flavor: Flavor,
    stream: str | None,
    wants_channel: bool,
    input_type: Any,
    output_type: Any,
) -> None:
    spec = spec_of(function)
    assert (spec.kind, spec.flavor, spec.stream_parameter, spec.wants_channel) == (
        kind,
        flavor,
        stream,
        wants_channel,
    )
    assert (spec.input_type, spec.output_type) == (input_type, output_type)
    assert spec.function is function


def test_a_spec_is_what_the_engine_needs() -> None:
    handler: Handler = spec_of(unary)
    assert handler.method == "calc.unary"
    assert handler.inline is False


def test_a_spec_is_frozen() -> None:
    spec = spec_of(unary)
    with pytest.raises(FrozenInstanceError, match="'method'"):
        spec.method = "other"  # type: ignore[misc]
    assert spec.name == "unary"
    assert "calc.unary" in repr(spec)


def test_options_and_documentation() -> None:
    def work(a: int) -> None:
        """Work.

        Hard.
        """

    spec = spec_of(work, inline=True, idempotent=True, deprecated="use play")
    assert (spec.inline, spec.idempotent, spec.deprecated) == (True, True, "use play")
    assert spec.doc == "Work.\n\nHard."
    plain = spec_of(work)
    assert (plain.inline, plain.idempotent, plain.deprecated) == (False, False, None)
    assert spec_of(functools.partial(work, 1), name="again").doc == "Work.\n\nHard."
    assert spec_of(unary).doc == ""


@pytest.mark.parametrize("function", [unary, counts])
def test_inline_is_for_plain_functions(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="inline=True is for a plain `def`"):
        spec_of(function, inline=True)


def test_an_inline_generator() -> None:
    assert spec_of(sync_counts, inline=True).inline


# -- what acts like a function -------------------------------------------------------------------------


class Adder:
    """Adds."""

    async def __call__(self, a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    def bound(self, a: int) -> int:
        return a

    @staticmethod
    def static(a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int) -> int:
        return a


def test_callable_objects() -> None:
    adder = Adder()
    spec = spec_of(adder, name="add")
    assert (spec.kind, spec.flavor, spec.doc) == (UNARY, ASYNC, "Add.")
    assert spec.function == adder.__call__
    assert call(spec, 1, 2) == ((1, 2), {})


@pytest.mark.parametrize("name", ["bound", "static", "of_class"])
def test_methods_that_are_bound(name: str) -> None:
    spec = spec_of(getattr(Adder(), name))
    assert [p.name for p in spec.parameters] == ["a"]
    assert spec.method == f"calc.{name}"


def test_partials() -> None:
    spec = spec_of(functools.partial(counts, upto=3), name="three")
    assert spec.flavor is AGEN
    assert [(p.name, p.default) for p in spec.parameters] == [("upto", 3)]


def test_decorated_functions() -> None:
    def logged(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            return await function(*args, **kwargs)

        return wrapper

    spec = spec_of(logged(unary))
    assert [(p.name, p.annotation) for p in spec.parameters] == [("a", int)]
    assert spec.output_type is str


def test_decorators_that_hide_the_signature() -> None:
    def hides(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            return await function(*args, **kwargs)

        return wrapper

    spec = spec_of(hides(unary), name="unary")
    assert [p.annotation for p in spec.parameters] == [Any, Any]
    assert call(spec, 1, x=2) == ((1,), {"x": 2})


def test_functions_in_c() -> None:
    spec = spec_of(len)
    assert spec.method == "calc.len"
    assert call(spec, [1]) == (([1],), {})


# -- what cannot be served -----------------------------------------------------------------------------


class Foreign:
    pass


class Quacks(Protocol):
    def quack(self) -> None: ...


class Parts(TypedDict):
    a: int


def wrapped_async() -> Callable[..., Any]:
    @functools.wraps(unary)
    def wrapper(*args: Any) -> Any:
        return unary(*args)

    return wrapper


@contextlib.asynccontextmanager
async def manager() -> AsyncIterator[int]:
    yield 1


async def returns_iterator() -> AsyncIterator[int]: ...  # type: ignore[empty-body]
def returns_sync_iterator() -> Iterator[int]: ...  # type: ignore[empty-body]
def returns_awaitable() -> Awaitable[int]: ...  # type: ignore[empty-body]
def returns_coroutine() -> Coroutine[Any, Any, int]: ...  # type: ignore[empty-body]


async def yields_but_says_int() -> int:  # type: ignore[misc]
    yield 1


def sync_yields_but_says_async() -> AsyncIterator[int]:  # type: ignore[misc]
    yield 1


async def needs_self(self, a: int) -> None: ...  # type: ignore[no-untyped-def]
async def needs_cls(cls, a: int) -> None: ...  # type: ignore[no-untyped-def]
async def unpacked(**kwargs: Unpack[Parts]) -> None: ...
async def memory(numbers: trio.MemoryReceiveChannel[int]) -> None: ...
async def memory_value(out: trio.MemorySendChannel[int]) -> None: ...
async def positional_stream(numbers: ReceiveChannel[int], /) -> None: ...
async def stream_before_variadic(numbers: ReceiveChannel[int], *more: int) -> None: ...
def stream_in_thread(numbers: ReceiveChannel[int]) -> None: ...


def stream_in_thread_generator(numbers: ReceiveChannel[int]) -> Iterator[int]:
    yield 1


async def two_channels(a: Channel[int, int], b: Channel[int, int]) -> None: ...
async def channel_with_result(channel: Channel[int, int]) -> int: ...  # type: ignore[empty-body]


async def channel_that_yields(channel: Channel[int, int]) -> AsyncIterator[int]:
    yield 1


async def nested_channel(channel: Channel[int, int] | None = None) -> None: ...
async def function_value(visit: Callable[[int], None]) -> None: ...
async def iterator_value(items: AsyncIterator[int]) -> None: ...
async def foreign(value: list[Foreign]) -> None: ...
async def foreign_default(value: int, other: Foreign | None = None) -> None: ...
async def foreign_result() -> dict[str, Foreign]: ...  # type: ignore[empty-body]
async def foreign_items(items: ReceiveChannel[Foreign]) -> None: ...
async def foreign_channel(items: Channel[Foreign, int]) -> None: ...
async def ambiguous(value: Foreign | int) -> None: ...
async def encoding(value: msgspec.Raw) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Adder, "a class is not a method"),
        (staticmethod(unary), "a staticmethod gets its function from its class"),
        (classmethod(needs_cls), "a classmethod gets its function from its class"),
        (5, "'int' is not callable"),
        (vars, "Python cannot tell the signature"),
        (wrapped_async(), "a plain function is wrapped around its `async def`"),
        (manager, "a plain function is wrapped around its async generator"),
        (contextlib.contextmanager(sync_counts), "a plain function is wrapped around its generator"),
        (
            returns_iterator,
            "it returns AsyncIterator, which is no value; make it a generator: `yield` the items",
        ),
        (returns_sync_iterator, "it returns Iterator, which is no value; make it a generator"),
        (returns_awaitable, "it returns Awaitable, which is no value; make it a `async def` that awaits it"),
        (returns_coroutine, "it returns Coroutine"),
        (yields_but_says_int, r"it yields, so its result is to be annotated AsyncIterator\[...\], not int"),
        (sync_yields_but_says_async, r"is to be annotated Iterator\[...\], not AsyncIterator"),
        (needs_self, "its first parameter is 'self', so it belongs to a class"),
        (needs_cls, "its first parameter is 'cls', so it belongs to a class"),
        (unpacked, "the parameter 'kwargs' is unpacked from a type"),
        (
            memory,
            "the parameter 'numbers': MemoryReceiveChannel does not cross the wire; use duplex.ReceiveChannel",
        ),
        (memory_value, "the parameter 'out': MemorySendChannel cannot travel; use duplex.SendChannel"),
        (positional_stream, "cannot be positional-only"),
        (stream_before_variadic, r"put it behind the \*arguments"),
        (stream_in_thread, "only `async def` can receive from"),
        (stream_in_thread_generator, "only `async def` can receive from"),
        (two_channels, "'a' and 'b' cannot both be the call's own channel"),
        (channel_with_result, r"answers through channel\.send\(\)"),
        (channel_that_yields, r"answers through channel\.send\(\)"),
        (nested_channel, "the parameter 'channel': Channel cannot travel"),
        (function_value, "the parameter 'visit': Callable cannot travel; use duplex.Callback"),
        (iterator_value, "the parameter 'items': AsyncIterator cannot travel; use duplex.ReceiveChannel"),
        (foreign, "the parameter 'value': Foreign cannot travel; use a dataclass"),
        (foreign_default, "the parameter 'other': Foreign cannot travel"),
        (foreign_result, "the result: Foreign cannot travel"),
        (foreign_items, "the parameter 'items': Foreign cannot travel"),
        (foreign_channel, "the result: Foreign cannot travel"),
        (ambiguous, "the parameter 'value': "),
        (encoding, "the parameter 'value': "),
    ],
)
def test_what_cannot_be_served(function: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^calc\.it: .*{message}"):
        spec_of(function, name="it")


def test_results_that_may_be_something_else() -> None:
    class Text(str):
        __slots__ = ()

    async def one() -> Iterable[Quacks]: ...  # type: ignore[empty-body]
    async def two() -> Text: ...  # type: ignore[empty-body]
    async def three() -> object: ...
    async def four() -> tuple[Callback[[], None], ReceiveChannel[int]]: ...  # type: ignore[empty-body]

    two.__annotations__["return"] = Text
    for function in (one, two, three, four):
        assert spec_of(function).kind is UNARY
