"""Serves calls in spans, and tells which: ``python -m tests.middleware.serve_traced``."""

from __future__ import annotations

import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import duplex
from duplex.middleware import trace_calls
from tests.engine.helpers import serve_until_eof

EXPORTER = InMemorySpanExporter()
traced = duplex.Service("traced")


@traced.rpc
async def call_back(function: duplex.Callback[[], int]) -> int:
    return await function()


@traced.rpc
async def spans() -> list[tuple[str, str, str]]:
    """Return kind, name and trace of each."""
    return [
        (span.kind.name, span.name, f"{span.context.trace_id:032x}") for span in EXPORTER.get_finished_spans()
    ]


async def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    both = [trace_calls(tracer_provider=provider)]
    await serve_until_eof(traced, endpoint="tcp://127.0.0.1:*", middleware=both, call_middleware=both)


if __name__ == "__main__":
    trio.run(main)
