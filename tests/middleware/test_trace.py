"""Spans of calls, of every kind and on both sides, and the traces that they are part of."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trio.testing
from opentelemetry import trace
from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import duplex
from duplex.middleware import trace_calls
from tests.engine.helpers import collect, linked, process, until
from tests.machine import fail_after

pytestmark = pytest.mark.filterwarnings("error")

things = duplex.Service("things")


@things.rpc
async def echo(value: Any) -> Any:
    return value


@things.rpc
async def current() -> str:
    return f"{trace.get_current_span().get_span_context().span_id:016x}"


@things.rpc
def current_in_thread() -> str:
    return f"{trace.get_current_span().get_span_context().span_id:016x}"


@things.rpc
async def fail(code: int) -> None:
    raise duplex.RPCError("no", code=duplex.StatusCode(code))


@things.rpc
async def crash() -> None:
    raise ValueError("oh")


@things.rpc
async def wait() -> None:
    await trio.sleep_forever()


@things.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@things.rpc
async def break_off() -> AsyncIterator[int]:
    yield 1
    raise duplex.DataLoss("broken")


@things.rpc
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    return sum([number async for number in numbers])


@things.rpc
async def shout(words: duplex.ReceiveChannel[str]) -> AsyncIterator[str]:
    async for word in words:
        yield word.upper()


@things.rpc
async def visit(function: duplex.Callback[[int], int]) -> int:
    return await function(1)


@things.rpc
async def headers() -> dict[str, str]:
    return {key: str(value) for key, value in duplex.current_call().metadata.items()}


@things.rpc
async def baggage() -> str:
    return str(get_baggage("user"))


class Spans:
    """What was collected."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.middleware = trace_calls(tracer_provider=self.provider)
        self.both: dict[str, Any] = {
            "server": {"middleware": [self.middleware], "call_middleware": [self.middleware]},
            "client": {"middleware": [self.middleware], "call_middleware": [self.middleware]},
        }

    def all(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def of(self, kind: trace.SpanKind) -> list[ReadableSpan]:
        return [span for span in self.all() if span.kind is kind]

    async def pair(self) -> tuple[ReadableSpan, ReadableSpan]:
        """The spans of the only call there was: at its caller, and where it was served."""
        await until(lambda: len(self.all()) == 2)
        ((made,), (served,)) = self.of(trace.SpanKind.CLIENT), self.of(trace.SpanKind.SERVER)
        return made, served


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert parent.context is not None
    assert child.context is not None
    return (
        child.parent is not None
        and child.parent.span_id == parent.context.span_id
        and child.context.trace_id == parent.context.trace_id
    )


@pytest.fixture
def spans() -> Iterator[Spans]:
    found = Spans()
    yield found
    assert not trace.get_current_span().get_span_context().is_valid, "nothing is left behind"
    found.provider.shutdown()


async def _unary(remote: duplex.ServiceProxy) -> None:
    assert await remote.echo(1) == 1


async def _notify(remote: duplex.ServiceProxy) -> None:
    await remote.echo.notify(1)


async def _server_streaming(remote: duplex.ServiceProxy) -> None:
    async with remote.count.open(3) as call:
        assert await collect(call) == [0, 1, 2]


async def _client_streaming(remote: duplex.ServiceProxy) -> None:
    async with remote.total.open() as call:
        await call.send(1)
        await call.send_eof()
        assert await call.result() == 1


async def _bidirectional(remote: duplex.ServiceProxy) -> None:
    async with remote.shout.open() as call:
        await call.send("a")
        assert await call.receive() == "A"
        await call.send_eof()
        assert await collect(call) == []


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (_unary, "things.echo"),
        (_notify, "things.echo"),
        (_server_streaming, "things.count"),
        (_client_streaming, "things.total"),
        (_bidirectional, "things.shout"),
    ],
)
async def test_every_kind_of_call_has_a_span_at_each_side(make: Any, method: str, spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        await make(pair.service("things"))
        made, served = await spans.pair()
    assert made.parent is None
    assert is_child(served, made)
    common = {"rpc.system.name": "duplex", "rpc.method": method, "rpc.response.status_code": "OK"}
    peer = (
        {"duplex.peer": "server"}
        if made.kind is trace.SpanKind.CLIENT and "open" in make.__code__.co_names
        else {}
    )
    assert attributes(made) == common | peer
    assert attributes(served) == common | {"duplex.peer": "client"}
    for span in (made, served):
        assert span.name == method
        assert span.status.status_code is trace.StatusCode.UNSET
        assert not span.events


async def test_the_handler_is_in_its_span(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        remote = pair.service("things")
        for method in (remote.current, remote.current_in_thread):
            spans.exporter.clear()
            own = await method()
            _, served = await spans.pair()
            assert served.context is not None
            assert own == f"{served.context.span_id:016x}"


async def test_calls_of_handlers_are_part_of_the_trace(spans: Spans) -> None:
    outer = duplex.Service("outer")

    @outer.rpc
    async def ask() -> int:
        link: Any = duplex.current_call().link
        return int(await link.service("things").echo(1))

    @outer.rpc
    def ask_in_thread() -> int:
        link: Any = duplex.current_call().link
        return int(trio.from_thread.run(link.service("things").echo, 1))

    async with linked(outer, offers=[things], **spans.both) as pair:
        for method in (pair.service("outer").ask, pair.service("outer").ask_in_thread):
            spans.exporter.clear()
            with spans.provider.get_tracer("program").start_as_current_span("main"):
                assert await method() == 1
            await until(lambda: len(spans.all()) == 5)
            chain = spans.all()
            assert [span.kind.name for span in chain] == ["INTERNAL", "CLIENT", "SERVER", "CLIENT", "SERVER"]
            assert all(is_child(child, parent) for parent, child in itertools.pairwise(chain))


async def test_callbacks_are_part_of_the_trace(spans: Spans) -> None:
    async def function(number: int) -> int:
        return number + 1

    async with linked(things, **spans.both) as pair:
        assert await pair.service("things").visit(function) == 2
        await until(lambda: len(spans.all()) == 4)
    chain = spans.all()
    assert [span.name for span in chain] == ["things.visit", "things.visit", "callback", "callback"]
    assert all(is_child(child, parent) for parent, child in itertools.pairwise(chain))


async def test_the_block_of_an_opened_call_is_not_in_its_span(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        remote = pair.service("things")
        async with remote.count.open(1) as call:
            assert not trace.get_current_span().get_span_context().is_valid
            await remote.echo(1)
            await collect(call)
        await until(lambda: len(spans.all()) == 4)
    assert [span.parent for span in spans.of(trace.SpanKind.CLIENT)] == [None, None]


#: What the conventions count as a failure of the server; all are one for the client.
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


@pytest.mark.parametrize("code", [code for code in duplex.StatusCode if code is not duplex.StatusCode.OK])
async def test_errors_are_the_status_of_spans(code: duplex.StatusCode, spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        with pytest.raises(duplex.RPCError):
            await pair.service("things").fail(int(code))
        made, served = await spans.pair()
    assert attributes(made)["rpc.response.status_code"] == code.name
    assert attributes(made)["error.type"] == code.name
    assert attributes(made)["duplex.peer"] == "server"
    assert made.status.status_code is trace.StatusCode.ERROR
    assert made.status.description == "no"
    assert attributes(served)["rpc.response.status_code"] == code.name
    assert (served.status.status_code is trace.StatusCode.ERROR) == (code.name in FAULTS)
    assert attributes(served).get("error.type") == (code.name if code.name in FAULTS else None)


async def test_an_exception_of_the_handler_is_recorded_where_it_was_raised(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        with pytest.raises(duplex.Internal):
            await pair.service("things").crash()
        made, served = await spans.pair()
    (event,) = served.events
    assert (event.attributes or {})["exception.type"] == "ValueError"
    assert attributes(served)["error.type"] == "INTERNAL"
    assert served.status.status_code is made.status.status_code is trace.StatusCode.ERROR
    assert not made.events


async def test_a_stream_that_breaks_off(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        with pytest.raises(duplex.DataLoss):
            async with pair.service("things").break_off.open() as call:
                await collect(call)
        made, served = await spans.pair()
    for span in (made, served):
        assert attributes(span)["error.type"] == "DATA_LOSS"


async def test_a_stream_whose_error_the_block_has_caught(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        async with pair.service("things").break_off.open() as call:
            with pytest.raises(duplex.DataLoss):
                await collect(call)
        made, _ = await spans.pair()
    assert attributes(made)["error.type"] == "DATA_LOSS"


async def test_what_the_block_raises_itself(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        with pytest.raises(KeyError):
            async with pair.service("things").count.open(5):
                raise KeyError("mine")
    (made,) = spans.of(trace.SpanKind.CLIENT)
    assert attributes(made)["error.type"] == "builtins.KeyError"
    assert "rpc.response.status_code" not in attributes(made)
    assert made.status.description == "builtins.KeyError: 'mine'"


async def test_a_call_that_never_was_one(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        with pytest.raises(duplex.EncodeError):
            await pair.service("things").echo(object())
    (made,) = spans.all()
    assert attributes(made)["error.type"] == "duplex.EncodeError"


@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_calls_that_are_cut_short(how: str, spans: Spans, autojump_clock: object) -> None:
    async with linked(things, **spans.both) as pair:
        if how == "late":
            with pytest.raises(duplex.DeadlineExceeded):
                await pair.service("things").wait.with_options(timeout=1)()
        else:
            with trio.CancelScope() as scope, trio.move_on_after(1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pair.service("things").wait)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
        made, served = await spans.pair()
    status = "DEADLINE_EXCEEDED" if how == "late" else "CANCELLED"
    for span in (made, served):
        assert attributes(span)["rpc.response.status_code"] == status
    assert made.status.status_code is trace.StatusCode.ERROR
    assert (served.status.status_code is trace.StatusCode.ERROR) == (how == "late")


async def test_attempts_are_one_call_of_the_caller(spans: Spans) -> None:
    left = 2

    async def refuse(call: duplex.ServedCall, next: duplex.Next) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise duplex.Unavailable("not now")
        return await next(call)

    spans.both["server"]["middleware"].append(refuse)
    async with linked(things, **spans.both) as pair:
        remote = pair.service("things").with_options(retry=duplex.RetryPolicy(initial=0.001))
        assert await remote.echo(1) == 1
        await until(lambda: len(spans.all()) == 4)
    (made,), served = spans.of(trace.SpanKind.CLIENT), spans.of(trace.SpanKind.SERVER)
    assert all(is_child(span, made) for span in served)
    # The first one was refused, and so repeated as if it had not been.
    assert [attributes(span).get("duplex.attempt") for span in served] == [None, None, 2]


async def test_headers_that_the_program_sets_stay(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        remote = pair.service("things").with_options(metadata={"user": "ann"})
        found = await remote.headers()
        made, _ = await spans.pair()
    assert made.context is not None
    assert found.keys() == {"user", "traceparent"}
    assert found["user"] == "ann"
    assert found["traceparent"].startswith(f"00-{made.context.trace_id:032x}-{made.context.span_id:016x}-")


@pytest.mark.parametrize(
    "metadata",
    [
        {"traceparent": "nonsense"},
        {"traceparent": b"\xff\x00"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "tracestate": "=" * 2000},
        {"tracestate": "a=b"},
    ],
)
async def test_headers_that_are_no_trace_begin_one(metadata: Any, spans: Spans) -> None:
    async with linked(things, server=spans.both["server"]) as pair:
        assert await pair.service("things").with_options(metadata=metadata).echo(1) == 1
        await until(spans.all)
    (served,) = spans.all()
    assert served.parent is None


async def test_the_state_of_a_trace_travels(spans: Spans) -> None:
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    outer = duplex.Service("outer")

    @outer.rpc
    async def ask() -> dict[str, str]:
        link: Any = duplex.current_call().link
        return dict(await link.service("things").headers())

    async with linked(outer, offers=[things], server=spans.both["server"]) as pair:
        metadata = {"traceparent": parent, "tracestate": "vendor=1"}
        found = await pair.service("outer").with_options(metadata=metadata).ask()
    assert found["tracestate"] == "vendor=1"
    assert found["traceparent"].split("-")[1] == "1" * 32


async def test_another_propagator(spans: Spans) -> None:
    middleware = trace_calls(tracer_provider=spans.provider, propagator=W3CBaggagePropagator())
    options = {"middleware": [middleware], "call_middleware": [middleware]}
    async with linked(things, server=options, client=options) as pair:
        token = attach(set_baggage("user", "ann"))
        try:
            assert await pair.service("things").headers() == {"baggage": "user=ann"}
        finally:
            detach(token)


async def test_each_call_of_a_gathering_has_a_span(spans: Spans) -> None:
    async with linked(things, **spans.both) as pair:
        with spans.provider.get_tracer("program").start_as_current_span("main"):
            assert [outcome.result() async for _, outcome in pair.service("things").echo.gather(1)] == [1]
        await until(lambda: len(spans.all()) == 3)
    chain = spans.all()
    assert all(is_child(child, parent) for parent, child in itertools.pairwise(chain))


async def test_without_a_provider_nothing_is_sent() -> None:
    middleware = [trace_calls()]
    async with linked(
        things, server={"middleware": middleware}, client={"call_middleware": middleware}
    ) as pair:
        assert await pair.service("things").headers() == {}


def test_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(duplex.ConfigurationError, match=r"pip install 'duplex-rpc\[opentelemetry\]'"):
        trace_calls()


@pytest.mark.slow
async def test_a_trace_goes_through_processes(spans: Spans) -> None:
    async def function() -> int:
        return 1

    options: dict[str, Any] = {"middleware": [spans.middleware], "call_middleware": [spans.middleware]}
    with fail_after(30), process("tests.middleware.serve_traced") as (_, endpoint):
        async with duplex.open_peer(**options) as peer:
            remote = (await peer.connect(endpoint)).service("traced")
            assert await remote.call_back(function) == 1
            there = await remote.spans()
    here = spans.all()
    ids = {f"{span.context.trace_id:032x}" for span in here[:2] if span.context is not None}
    assert [(span.kind.name, span.name) for span in here[:2]] == [
        ("CLIENT", "traced.call_back"),
        ("SERVER", "callback"),
    ]
    assert sorted(there) == sorted([["CLIENT", "callback", *ids], ["SERVER", "traced.call_back", *ids]])


async def test_what_was_current_where_a_peer_was_opened_is_no_parent_of_what_it_serves(spans: Spans) -> None:
    with spans.provider.get_tracer("program").start_as_current_span("main"):
        async with linked(things, server=spans.both["server"]) as pair:
            assert await pair.service("things").echo(1) == 1
            await until(spans.all)
    served, _ = spans.all()[::-1]
    assert served.kind is trace.SpanKind.SERVER
    assert served.parent is None


# -- what goes wrong with it ---------------------------------------------------------------------------


class Broken(SpanProcessor):
    """Fails when a span begins, or when it ends."""

    def __init__(self, when: str) -> None:
        self._when = when

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._when == "start":
            raise ValueError("the exporter is broken")

    def on_end(self, span: ReadableSpan) -> None:
        if self._when == "end":
            raise ValueError("the exporter is broken")


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize("when", ["start", "end"])
async def test_spans_that_cannot_be_had_cost_no_call(
    when: str, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(Broken(when))
    middleware = [trace_calls(tracer_provider=provider)]
    options: dict[str, Any] = {"server": {}, "client": {}}
    options[side] = {"middleware": middleware, "call_middleware": middleware}
    async with linked(things, **options) as pair:
        remote = pair.service("things")
        for call in (_unary, _notify, _server_streaming, _bidirectional):
            await call(remote)
        with pytest.raises(duplex.NotFound):
            await remote.fail(int(duplex.StatusCode.NOT_FOUND))
        await pair.settle()
    lost = [record for record in caplog.records if "a span of a call is lost" in record.getMessage()]
    assert len(lost) == 1, "others are counted"
    provider.shutdown()


@pytest.mark.parametrize(
    "state",
    [
        "a=" + "x" * 7000,
        ",".join(f"k{n}=v" for n in range(40)),
        "a=1,a=2",
        "A=1",
        "nonsense",
        "a=1,,b=2",
        "a=\u0660",
        "=" * 100,
    ],
)
async def test_a_stranger_does_not_write_the_log(
    state: str, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "tracestate": state}
    async with linked(things, server=spans.both["server"]) as pair:
        assert await pair.service("things").with_options(metadata=metadata).echo(1) == 1
        await until(spans.all)
    (served,) = spans.all()
    assert served.parent is not None, "the trace is one all the same"
    assert not served.parent.trace_state
    assert caplog.records == []


async def test_states_of_traces_that_are_well_formed_are_passed_on(spans: Spans) -> None:
    state = "vendor=1,tenant@system=a b!, other/x-*_=" + "y" * 100
    metadata = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "tracestate": state}
    async with linked(things, server=spans.both["server"]) as pair:
        assert await pair.service("things").with_options(metadata=metadata).echo(1) == 1
        await until(spans.all)
    (served,) = spans.all()
    assert served.parent is not None
    assert list(served.parent.trace_state) == ["vendor", "tenant@system", "other/x-*_"]
