"""Of the HTTP front, what is beside the directory: what it has counted, how much one address may wait for, where servers are."""

from __future__ import annotations

import json
import sys

import pytest
import trio

import duplex
from duplex_services._shared._http_client import Endpoint, HttpClient
from duplex_services.discovery import Registration, open_directory, open_dns, open_http
from duplex_services.discovery._front_options import fronts_of
from duplex_services.discovery._model import ServerInfo
from duplex_services.discovery._rules._announcing import announced, http_peers
from duplex_services.discovery._serving import open_server
from tests.machine import fail_after, within
from tests.services.discovery.names import ask
from tests.services.discovery.test_http import open_client

# -- where servers are -----------------------------------------------------------------------------------


def test_what_a_server_announces() -> None:
    bound = [
        "tcp://10.0.0.1:7700",
        "tcp://0.0.0.0:7700",
        "http://[::]:7710",
        "dns://127.0.0.1:53",
        "ipc:///run/d",
    ]
    assert announced(bound) == ("tcp://10.0.0.1:7700", "dns://127.0.0.1:53", "ipc:///run/d")
    bound = ["tcp://*:1", "http://127.0.0.1:7710"]
    assert announced(bound, ["https://a.example"]) == ("https://a.example",)


def test_loopback_addresses_are_for_who_is_there() -> None:
    servers = [
        ServerInfo("b", "1", ("http://127.0.0.1:2", "tcp://10.0.0.2:1")),
        ServerInfo("a", "1", ("https://10.0.0.1:7710", "http://localhost:3", "http://[::1]:4")),
    ]
    assert http_peers(servers, is_here=True) == ["10.0.0.1:7710", "localhost:3", "[::1]:4", "127.0.0.1:2"]
    assert http_peers(servers, is_here=False) == ["10.0.0.1:7710"]


async def test_what_is_announced_later_is_told() -> None:
    async with (
        open_directory("memory:", server="here") as directory,
        open_http(directory, "127.0.0.1:0") as server,
    ):
        host, _, port = server.addresses[0].rpartition(":")
        client = HttpClient([Endpoint(host, int(port))], connect_within=within(10), answer_within=within(10))
        incarnation = directory.info.incarnation
        directory.announce(["http://10.0.0.1:7710"])
        with fail_after(10):
            while (await client.request("GET", "/ping")).headers["discoverd-peers"] != "10.0.0.1:7710":
                # The store tells it in real time.
                await trio.sleep(0.01)
        assert directory.reading.view.servers["here"].incarnation == incarnation
        await client.aclose()


@pytest.mark.parametrize("url", ["10.0.0.7:7710", "http://", "ftp://a"])
def test_where_http_is_reached_is_a_url(url: str) -> None:
    options = {"http": "", "http_write_token": "", "http_read_token": "", "http_anybody": False}
    with pytest.raises(duplex.ConfigurationError, match="http-advertise is a URL"):
        fronts_of({**options, "http_certificate": None, "http_streams": 1, "http_advertise": (url,)})


# -- metrics ---------------------------------------------------------------------------------------------


async def test_metrics() -> None:
    async with (
        open_directory("memory:", server="here") as directory,
        open_server(directory, ["memory://*"]) as (peer, _),
        open_dns(directory.reading, "127.0.0.1:0") as front,
        open_http(directory, "127.0.0.1:0", peer=peer, dns=front) as server,
    ):
        for id, health in (("a", "passing"), ("b", "critical")):
            said = Registration(id, host="10.0.0.1", port=80, health=health)  # type: ignore[arg-type]
            await directory.instances.register("web", said, 10.0, is_held=True)
        await ask(front, "web.discoverd.")
        host, _, port = server.addresses[0].rpartition(":")
        client = HttpClient([Endpoint(host, int(port))], connect_within=within(10), answer_within=within(10))
        answer = await client.request("GET", "/metrics")
        await client.aclose()
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.body.decode().splitlines()
        for line in (
            'duplex_discovery_instances{service="web",state="passing"} 1.0',
            'duplex_discovery_instances{service="web",state="critical"} 1.0',
            "duplex_discovery_services 1.0",
            "duplex_discovery_servers 1.0",
            "duplex_discovery_stale 0.0",
            "duplex_discovery_dns_answers_total 1.0",
            "duplex_discovery_http_requests_total 1.0",
            "duplex_links 0.0",
        ):
            assert line in lines, line
        assert any(line.startswith("duplex_discovery_age_seconds ") for line in lines)


async def test_metrics_are_read_by_who_may_read() -> None:
    async with open_client(write_token="w", read_token="r") as client:
        assert (await client("GET", "/metrics")).status == 401
        assert (await client("GET", "/metrics", b"", ("Authorization", "Bearer r"))).status == 200


async def test_metrics_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with open_client() as client:
        answer = await client("GET", "/metrics")
        assert answer.status == 501
        assert "pip install 'duplex-rpc[metrics]'" in json.loads(answer.body)["message"]


# -- what one address may wait for -----------------------------------------------------------------------


async def test_one_address_may_wait_for_so_much() -> None:
    stream = ("Accept", "text/event-stream")
    async with open_client(streams=2) as client:
        await client("PUT", "/services/web", {})
        index = (await client("GET", "/v1/services/web/instances")).headers["discoverd-index"]
        question = f"/v1/services/web/instances?index={index}&wait=0.01"
        async with client.http.stream("GET", "/services/web", headers=[stream]) as first:
            assert first.status == 200
            assert (await client("GET", question)).status == 200
            async with client.http.stream("GET", "/services/web", headers=[stream]) as second:
                assert second.status == 200
                for refused in (
                    await client("GET", "/services/web", b"", stream),
                    await client("GET", question),
                ):
                    assert refused.status == 429
                    found = json.loads(refused.body)
                    assert (found["code"], found["retry"]) == ("ratelimited", True)
                    assert "has 2 streams and questions that wait already" in found["message"]
                # What is answered at once is not counted.
                assert (await client("GET", "/v1/services/web/instances")).status == 200
        with fail_after(10):
            while (await client("GET", question)).status != 200:
                # That they are gone is seen when their connections are.
                await trio.sleep(0.01)
    async with open_client(streams=0) as client:
        async with client.http.stream("GET", "/services/web", headers=[stream]) as one:
            assert one.status == 200


async def test_a_customer_of_ipv6_is_one_address() -> None:
    from duplex_services._shared._http_server import HttpLimits, HttpServer, Response, plain_refusal

    async def handle(request: object) -> Response:
        raise AssertionError("nothing is asked")

    server = HttpServer(handle, plain_refusal, HttpLimits(waiting=1), None)
    with server.waiting("2001:db8::1") as first, server.waiting("2001:db8::2") as same:
        assert (first, same) == (True, False)
        with server.waiting("2001:db8:0:1::1") as other, server.waiting("10.0.0.1") as fourth:
            assert (other, fourth) == (True, True)
    with server.waiting("2001:db8::2") as later:
        assert later
