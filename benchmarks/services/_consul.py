"""Discovery beside a Consul agent, in the same run: lookups, how late a change is known, and memory.

Both are asked through HTTP, by the same client over one connection and over eight; discovery through Duplex too. A watch of Consul is a
blocking query, one of discovery a long poll of the same kind, or a stream of Duplex.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.services._names import service_of
from benchmarks.services._processes import Costs, Discovery, Process, discovery, holding
from duplex_services._shared._http_client import Endpoint, HttpClient
from duplex_services.discovery._wire import SERVICE
from duplex_services.discovery.client import DiscoveryService, Filter, Health, Report, open_client

_READY_WITHIN: Final = 30.0
#: Seconds that a watch may wait.
_WAIT: Final = 60
_CLIENTS: Final = (1, 8)
_CHANGES_A_SECOND: Final = 20.0


def find() -> str | None:
    """Return the path of Consul: on this machine, or among what the tests have unpacked."""
    found = shutil.which("consul")
    cached = sorted((Path.home() / ".cache" / "duplex-test-programs").glob("*-consul/usr/bin/consul"))
    return found or (str(cached[0]) if cached else None)


@contextlib.contextmanager
def agent(program: str) -> Iterator[tuple[str, Costs]]:
    """Run a Consul agent that keeps nothing; gives its ``HOST:PORT`` and what it costs."""
    with tempfile.TemporaryDirectory(prefix="duplex-bench-") as folder:
        http, server, gossip = _ports(3)
        settings = Path(folder) / "agent.json"
        ports = {"http": http, "server": server, "serf_lan": gossip, "serf_wan": -1, "dns": -1, "grpc": -1}
        more = {"limits": {"http_max_conns_per_client": 1000}, "disable_update_check": True}
        address = {"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1"}
        settings.write_text(json.dumps({"ports": ports, **more, **address}))
        words = [program, "agent", "-dev", "-log-level=err", f"-config-file={settings}"]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _wait(f"http://127.0.0.1:{http}/v1/status/leader")
                yield f"127.0.0.1:{http}", Costs(process.pid)
            finally:
                process.kill()


def _ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(url: str) -> None:
    until = time.monotonic() + _READY_WITHIN
    while True:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(url, timeout=1) as answer,
        ):
            if answer.read().strip() not in (b"", b'""'):
                return
        if time.monotonic() > until:
            raise RuntimeError(f"Consul does not answer at {url}")
        # It tells nobody when it is ready.
        time.sleep(0.05)


@contextlib.asynccontextmanager
async def _client(address: str, connections: int) -> AsyncIterator[HttpClient]:
    host, _, port = address.rpartition(":")
    client = HttpClient([Endpoint(host, int(port))], connections=connections, answer_within=_WAIT * 2)
    try:
        yield client
    finally:
        await client.aclose()


async def _http_lookups(
    figures: dict[str, float], address: str, target: str, costs: Costs | Process, seconds: float
) -> None:
    for callers in _CLIENTS:
        async with _client(address, callers) as client:

            async def ask(client: HttpClient = client) -> object:
                return await _ask(client, "GET", target)

            before = costs.cpu()
            rate = await _rate(ask, callers, seconds)
            figures[f"lookups/s, HTTP, {callers} at a time"] = rate
            figures[f"lookup, ms of CPU, HTTP, {callers}"] = (costs.cpu() - before) / (rate * seconds) * 1e3


async def _ask(client: HttpClient, method: str, target: str, body: object = None) -> Any:
    headers = {} if body is None else {"Content-Type": "application/json"}
    words = b"" if body is None else json.dumps(body).encode()
    answer = await client.request(method, target, words, headers=headers.items())
    if answer.status != 200:
        raise RuntimeError(f"{method} {target}: {answer.status} {answer.body!r}")
    return answer


async def _rate(ask: Callable[[], Awaitable[object]], callers: int, seconds: float) -> float:
    """Return how often a second something is answered."""
    answered = 0

    async def call() -> None:
        nonlocal answered
        while True:
            await ask()
            answered += 1

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(call)
    return answered / seconds


async def _delays(
    watchers: int,
    watch: Callable[[Callable[[str], None]], Awaitable[None]],
    change: Callable[[Health, str], Awaitable[None]],
    seconds: float,
) -> list[float]:
    """Return how late each watcher knew each change that it was told, in seconds.

    Args:
        watchers: how many.
        watch: calls what it is given with the note of each change.
        change: makes one: another health, with a note. Consul tells a note alone minutes later.
        seconds: for how long.
    """
    delays: list[float] = []

    def told(note: str) -> None:
        with contextlib.suppress(ValueError):
            delays.append(time.monotonic() - float(note))

    async with trio.open_nursery() as nursery:
        for _ in range(watchers):
            nursery.start_soon(watch, told)
        # Until all of them wait.
        await trio.sleep(2.0)
        begin = trio.current_time()
        for number in range(round(seconds * _CHANGES_A_SECOND)):
            await trio.sleep_until(begin + number / _CHANGES_A_SECOND)
            await change("warning" if number % 2 else "passing", f"{time.monotonic()}")
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    return sorted(delays) or [float("nan")]


def _put(figures: dict[str, float], name: str, delays: list[float]) -> None:
    figures[f"{name}, p50"] = statistics.median(delays) * 1e3
    figures[f"{name}, p99"] = delays[len(delays) * 99 // 100] * 1e3


# -- Consul ----------------------------------------------------------------------------------------------


def of_consul(program: str, instances: int, watchers: int, seconds: float) -> dict[str, float]:
    """Measure Consul."""
    with agent(program) as (address, costs):
        return trio.run(_of_consul, address, costs, instances, watchers, seconds)


async def _of_consul(
    address: str, costs: Costs, instances: int, watchers: int, seconds: float
) -> dict[str, float]:
    figures: dict[str, float] = {}
    empty, begin = costs.memory(), time.monotonic()
    target = f"/v1/health/service/{service_of(0)}?stale"
    async with _client(address, 16) as client:

        async def register(number: int) -> None:
            check = {"CheckID": f"i{number}", "TTL": "1h", "Status": "passing"}
            where = {"ID": f"i{number}", "Name": service_of(number), "Address": "10.0.0.7", "Port": 80}
            await _ask(client, "PUT", "/v1/agent/service/register", {**where, "Check": check})

        async def change(health: Health, note: str) -> None:
            await _ask(client, "PUT", "/v1/agent/check/update/i0", {"Status": health, "Output": note})

        async def watch(told: Callable[[str], None]) -> None:
            async with _client(address, 1) as mine:
                index, seen = "0", ""
                while True:
                    answer = await _ask(mine, "GET", f"{target}&index={index}&wait={_WAIT}s")
                    index = answer.headers["x-consul-index"]
                    checks = [check for entry in json.loads(answer.body) for check in entry["Checks"]]
                    seen = _tell(told, seen, [check["Output"] for check in checks])

        async with trio.open_nursery() as nursery:
            for number in range(instances):
                nursery.start_soon(register, number)
        figures["register all, s"] = time.monotonic() - begin
        figures["memory, MB"] = costs.memory()
        figures["memory of an instance, KB"] = (costs.memory() - empty) / instances * 1e3
        await _http_lookups(figures, address, target, costs, seconds)
        before = costs.cpu()
        _put(figures, "a change at a watcher, HTTP, ms", await _delays(watchers, watch, change, seconds))
        figures["CPU while it changes, %"] = (costs.cpu() - before) / (seconds + 3) * 100
    return figures


def _tell(told: Callable[[str], None], seen: str, notes: list[str]) -> str:
    """Tell the latest of the notes, if it is another one than was seen last, and return it."""
    latest = max(notes, key=_float_or_0, default="")
    if _float_or_0(latest) and latest != seen:
        told(latest)
        return latest
    return seen


def _float_or_0(text: str) -> float:
    """Return a number, or 0 if the text is none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


# -- discovery -------------------------------------------------------------------------------------------


def of_discovery(instances: int, watchers: int, seconds: float) -> dict[str, float]:
    """Measure discovery in the same way."""
    with discovery() as server:
        empty = server.process.memory()
        with holding(server, instances, 4, 60.0) as (_, took):
            figures = {"register all, s": took, "memory, MB": server.process.memory()}
            figures["memory of an instance, KB"] = (figures["memory, MB"] - empty) / instances * 1e3
            figures.update(trio.run(_of_discovery, server, watchers, seconds))
    return figures


async def _of_discovery(server: Discovery, watchers: int, seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {}
    costs, service = server.process, service_of(0)
    target = f"/v1/services/{service}/instances"
    await _http_lookups(figures, server.http, target, costs, seconds)
    async with open_client(server.endpoint) as peer:
        remote = peer.service(DiscoveryService, name=SERVICE)

        async def look_up() -> object:
            return await remote.instances(service, Filter())

        for callers in _CLIENTS:
            before = costs.cpu()
            rate = await _rate(look_up, callers, seconds)
            figures[f"lookups/s, Duplex, {callers} at a time"] = rate
            figures[f"lookup, ms of CPU, Duplex, {callers}"] = (costs.cpu() - before) / (rate * seconds) * 1e3

        async def poll(told: Callable[[str], None]) -> None:
            async with _client(server.http, 1) as mine:
                position, seen = "", ""
                while True:
                    answer = await _ask(mine, "GET", f"{target}?wait={_WAIT}{position}")
                    index, origin = answer.headers["discoverd-index"], answer.headers["discoverd-origin"]
                    position = f"&index={index}&origin={origin}"
                    seen = _tell(told, seen, [one.get("note", "") for one in json.loads(answer.body)])

        async def watch(told: Callable[[str], None]) -> None:
            async with open_client(server.endpoint) as mine:
                asked = mine.service(DiscoveryService, name=SERVICE)
                async with asked.watch.open(service, None) as batches:
                    async for batch in batches:
                        for one in batch.changes:
                            if one.kind == "update" and one.instance is not None:
                                told(one.instance.note)

        async def change(health: Health, note: str) -> None:
            await remote.report(service, "i0", Report(health, note), "")

        before = costs.cpu()
        _put(figures, "a change at a watcher, HTTP, ms", await _delays(watchers, poll, change, seconds))
        figures["CPU while it changes, %"] = (costs.cpu() - before) / (seconds + 3) * 100
        _put(figures, "a change at a watcher, Duplex, ms", await _delays(watchers, watch, change, seconds))
    return figures
