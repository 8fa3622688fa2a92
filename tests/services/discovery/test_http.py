"""Discovery through HTTP: what discoverd's tests of its handlers ask, asked here with what it says; and what it did not have."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex_services._shared._http_client import Answer, Endpoint, HttpClient
from duplex_services.discovery import (
    Directory,
    HttpOptions,
    Reading,
    Registration,
    ServiceConfig,
    Status,
    StoreAway,
    open_directory,
    open_dns,
    open_http,
)
from tests.machine import fail_after, require_program, within
from tests.services.discovery.names import ask, shown
from tests.services.store.weather import open_weather

JSON = ("Content-Type", "application/json")


class Client:
    """Asks an HTTP front."""

    def __init__(self, directory: Directory, address: str) -> None:
        self.directory = directory
        self.address = address
        host, _, port = address.rpartition(":")
        self.http = HttpClient(
            [Endpoint(host, int(port))], connect_within=within(10), answer_within=within(10)
        )

    async def __call__(self, method: str, path: str, body: Any = b"", *headers: tuple[str, str]) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.request(method, path, content, headers=headers or (JSON,))

    async def once(self, method: str, path: str) -> Answer:
        """Ask, and close the connection."""
        answer = await self(method, path)
        await self.http.aclose()
        return answer

    async def json(self, path: str, *headers: tuple[str, str]) -> Any:
        answer = await self("GET", path, b"", *headers)
        assert answer.status == 200, answer
        return json.loads(answer.body)


@asynccontextmanager
async def open_client(**options: Any) -> AsyncIterator[Client]:
    async with (
        open_directory("memory:", server="here") as directory,
        open_http(directory, "127.0.0.1:0", HttpOptions(**options)) as server,
    ):
        client = Client(directory, server.addresses[0])
        try:
            yield client
        finally:
            await client.http.aclose()


def id_of(proto: str, addr: str) -> str:
    return hashlib.md5(f"{proto}-{addr}".encode()).hexdigest()


def an_instance(addr: str = "localhost:10000", proto: str = "http", **more: Any) -> dict[str, Any]:
    return {"id": id_of(proto, addr), "addr": addr, "proto": proto, **more}


ID = "74667cebd845d088d811ddef924895b7"
NAME = "discoverd: service must be lowercase alphanumeric plus dash"


def error(code: str, message: str, *, retry: bool = False) -> dict[str, Any]:
    return {"code": code, "message": message, "retry": retry}


#: What is done before; method, path, body; status, and the body of the answer. ``abc`` has an instance and metadata 7; ``empty``
#: is only configured; ``manual`` has a leader that is named.
ROUTES: dict[str, tuple[str, str, Any, int, Any]] = {
    "PutService": ("PUT", "/services/new", {"leader_type": "manual"}, 200, None),
    "PutService_Oldest": ("PUT", "/services/new", {}, 200, None),
    "PutService_ErrInvalidName": ("PUT", "/services/X", {}, 400, error("validation_error", NAME)),
    "PutService_ErrExists": (
        "PUT",
        "/services/abc",
        {},
        409,
        error("object_exists", 'discoverd: service "abc" already exists'),
    ),
    "PutService_ErrContentType": (
        "PUT",
        "/services/new",
        "plain",
        400,
        error("validation_error", "Content-Type must be application/json"),
    ),
    "PutService_ErrTruncated": (
        "PUT",
        "/services/new",
        b'{"leader_type"',
        500,
        error("unknown_error", "Something went wrong"),
    ),
    "PutService_ErrEmpty": ("PUT", "/services/new", b"", 500, error("unknown_error", "Something went wrong")),
    "PutService_ErrSyntax": ("PUT", "/services/new", b"{x", 400, "syntax_error"),
    "DeleteService": ("DELETE", "/services/abc", b"", 200, None),
    "DeleteService_ErrInvalidName": ("DELETE", "/services/a_b", b"", 400, error("validation_error", NAME)),
    "DeleteService_ErrNotFound": (
        "DELETE",
        "/services/none",
        b"",
        404,
        error("object_not_found", 'discoverd: service "none" not found'),
    ),
    "PutMeta_Create": (
        "PUT",
        "/services/empty/meta",
        {"data": {"x": [1]}, "index": 0},
        200,
        {"data": {"x": [1]}},
    ),
    "PutMeta_Update": ("PUT", "/services/abc/meta", {"data": "new", "index": "now"}, 200, {"data": "new"}),
    "PutMeta_Leader": (
        "PUT",
        "/services/manual/meta",
        {"data": 1, "index": 0, "leader_id": "later"},
        200,
        {"data": 1},
    ),
    "PutMeta_ErrLeaderIsOldest": (
        "PUT",
        "/services/empty/meta",
        {"data": 1, "index": 0, "leader_id": "a"},
        400,
        error("validation_error", "service leader election type is not manual"),
    ),
    "PutMeta_ErrServiceNotFound": (
        "PUT",
        "/services/none/meta",
        {"data": 1},
        404,
        error("object_not_found", 'discoverd: service "none" not found'),
    ),
    "PutMeta_ErrExists": (
        "PUT",
        "/services/abc/meta",
        {"data": 1, "index": 0},
        409,
        error("object_exists", 'Service metadata for "abc" already exists, use index=INDEX to set'),
    ),
    "PutMeta_ErrNotFound": (
        "PUT",
        "/services/empty/meta",
        {"data": 1, "index": 3},
        412,
        error("precondition_failed", 'Service metadata for "empty" does not exist, use index=0 to set'),
    ),
    "PutMeta_ErrIndex": (
        "PUT",
        "/services/abc/meta",
        {"data": 1, "index": 99},
        412,
        error("precondition_failed", 'Service metadata for "abc" exists, but wrong index provided'),
    ),
    "PutMeta_ErrTruncated": (
        "PUT",
        "/services/abc/meta",
        b"{",
        500,
        error("unknown_error", "Something went wrong"),
    ),
    "GetMeta": ("GET", "/services/abc/meta", b"", 200, {"data": {"k": 7}}),
    "GetMeta_ErrNotFound": (
        "GET",
        "/services/empty/meta",
        b"",
        404,
        error("object_not_found", "service meta not found"),
    ),
    "PutInstance": ("PUT", f"/services/abc/instances/{ID}", an_instance(), 200, None),
    "PutInstance_ErrProtoMissing": (
        "PUT",
        "/services/abc/instances/a",
        {"id": "a", "addr": "localhost:1"},
        400,
        error("validation_error", "discoverd: proto must be set"),
    ),
    "PutInstance_ErrProtoInvalid": (
        "PUT",
        "/services/abc/instances/a",
        an_instance(proto="!!!"),
        400,
        error("validation_error", "discoverd: proto must be lowercase alphanumeric"),
    ),
    "PutInstance_ErrAddr": (
        "PUT",
        "/services/abc/instances/a",
        an_instance("nowhere"),
        400,
        error("validation_error", "address nowhere: missing port in address"),
    ),
    "PutInstance_ErrID": (
        "PUT",
        "/services/abc/instances/a",
        {**an_instance(), "id": "a"},
        400,
        error("validation_error", f"discoverd: instance id is incorrect, expected {ID}"),
    ),
    "PutInstance_ErrServiceNotFound": (
        "PUT",
        f"/services/none/instances/{ID}",
        an_instance(),
        404,
        error("object_not_found", 'discoverd: service "none" not found'),
    ),
    "PutInstance_ErrTruncated": (
        "PUT",
        f"/services/abc/instances/{ID}",
        b"{",
        500,
        error("unknown_error", "Something went wrong"),
    ),
    "DeleteInstance": ("DELETE", "/services/abc/instances/one", b"", 200, None),
    "DeleteInstance_Unknown": ("DELETE", "/services/abc/instances/none", b"", 200, None),
    "DeleteInstance_ErrNotFound": (
        "DELETE",
        "/services/none/instances/one",
        b"",
        404,
        error("object_not_found", 'discoverd: service "none" not found'),
    ),
    "GetInstances": (
        "GET",
        "/services/abc/instances",
        b"",
        200,
        [
            {"id": "one", "addr": "10.0.0.1:80", "proto": "tcp", "meta": {"k": "v"}},
            {"id": "two", "addr": "", "proto": "duplex", "endpoint": "ipc:///run/two", "weight": 3},
        ],
    ),
    "GetInstances_ErrNotFound": (
        "GET",
        "/services/none/instances",
        b"",
        404,
        error("object_not_found", 'service not found: "none"'),
    ),
    "GetInstances_ErrEmpty": (
        "GET",
        "/services/empty/instances",
        b"",
        404,
        error("object_not_found", 'service not found: "empty"'),
    ),
    "PutLeader": ("PUT", "/services/manual/leader", {"id": "later"}, 200, None),
    "PutLeader_ErrOldest": (
        "PUT",
        "/services/none/leader",
        {"id": "a"},
        400,
        error("validation_error", "service leader election type is not manual"),
    ),
    "GetLeader": (
        "GET",
        "/services/abc/leader",
        b"",
        200,
        {"id": "one", "addr": "10.0.0.1:80", "proto": "tcp", "meta": {"k": "v"}},
    ),
    "GetLeader_ErrNone": (
        "GET",
        "/services/empty/leader",
        b"",
        404,
        error("object_not_found", "no leader found"),
    ),
    "Ping": ("GET", "/ping", b"", 200, None),
    "GetRaftLeader": ("GET", "/raft/leader", b"", 200, {"host": "http://ADDRESS"}),
    "GetRaftPeers": ("GET", "/raft/peers", b"", 200, ["ADDRESS"]),
    "PutRaftPeer": ("PUT", "/raft/peers/a:1", b"", 501, "not_implemented"),
    "DeleteRaftPeer": ("DELETE", "/raft/peers/a:1", b"", 501, "not_implemented"),
    "Promote": ("POST", "/raft/promote", b"", 501, "not_implemented"),
    "Demote": ("POST", "/raft/demote", b"", 501, "not_implemented"),
    "Shutdown": ("POST", "/shutdown", b"", 501, "not_implemented"),
    "NotFound": ("GET", "/other", b"", 404, error("not_found", "there is nothing under this path")),
}


async def prepare(directory: Directory) -> None:
    await directory.services.add("abc")
    await directory.services.add("empty")
    await directory.services.add("manual", ServiceConfig("manual"))
    await directory.instances.register(
        "abc", Registration("one", host="10.0.0.1", port=80, metadata={"k": "v"}), 10, is_held=True
    )
    await directory.instances.register(
        "abc", Registration("two", endpoint="ipc:///run/two", protocol="duplex", weight=3), 10, is_held=True
    )
    await directory.services.set_metadata("abc", {"k": 7}, 0)


def without_index(value: Any) -> Any:
    if isinstance(value, list):
        return [without_index(one) for one in value]
    return {k: v for k, v in value.items() if k != "index"} if isinstance(value, dict) else value


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_each_route(prefix: str) -> None:
    for name, (method, path, body, status, expected) in ROUTES.items():
        if prefix and ("Truncated" in name or name.endswith("Empty")):
            continue  # what is different there has tests of its own
        async with open_client() as client:
            await prepare(client.directory)
            info = client.directory.reading.service("abc")
            assert info is not None
            assert info.metadata is not None
            index = info.metadata.index
            headers: tuple[tuple[str, str], ...] = ()
            if body == "plain":
                body, headers = b"{}", (("Content-Type", "text/plain"),)
            elif isinstance(body, dict) and body.get("index") == "now":
                body = {**body, "index": index}
            answer = await client(method, prefix + path, body, *headers)
            assert answer.status == status, (name, answer)
            for header in ("discoverd-peers", "discoverd-index", "discoverd-origin", "discoverd-age"):
                assert header in answer.headers, name
            if expected is None:
                assert answer.body == b"", name
            elif isinstance(expected, str):
                assert json.loads(answer.body)["code"] == expected, name
            else:
                text = json.dumps(expected).replace("INDEX", str(index)).replace("ADDRESS", client.address)
                found = json.loads(answer.body)
                if prefix and name == "GetLeader":
                    assert found.pop("fence") > 0
                    assert found.pop("epoch")
                assert without_index(found) == json.loads(text), name


async def test_what_was_done_is_there() -> None:
    async with open_client() as client:
        assert (await client("PUT", "/services/web", {"leader_type": "manual"})).status == 200
        path = f"/services/web/instances/{ID}"
        for _ in range(3):
            # The same again is a heartbeat, of which nothing is written.
            assert (await client("PUT", path, an_instance(meta={"a": "b"}, index=99))).status == 200
        commits = client.directory.commits
        assert (await client("PUT", path, an_instance(meta={"a": "b"}))).status == 200
        assert client.directory.commits == commits
        [found] = await client.json("/services/web/instances")
        assert found.pop("index") > 0
        assert found == {"id": ID, "addr": "localhost:10000", "proto": "http", "meta": {"a": "b"}}
        assert (await client("GET", "/services/web/leader")).status == 404
        assert (await client("PUT", "/services/web/leader", {"id": ID})).status == 200
        with fail_after(5):
            while (answer := await client("GET", "/services/web/leader")).status != 200:
                pass
        assert int(answer.headers["discoverd-fence"]) > 0
        assert (await client("DELETE", path)).status == 200
        assert client.directory.reading.view.all_instances("web") == ()
        assert (await client("DELETE", "/services/web")).status == 200
        assert "web" not in client.directory.reading.view


async def test_an_instance_goes_after_its_ttl() -> None:
    async with open_client() as client:
        await client("PUT", "/services/web", {})
        assert (await client("PUT", f"/services/web/instances/{ID}", an_instance(ttl=0.5))).status == 200
        assert (await client.json("/services/web/instances"))[0]["ttl"] == 0.5
        with fail_after(10):
            while (await client("GET", "/services/web/instances")).status == 200:
                # It is gone after half a second without a heartbeat; the server's clock is real.
                await trio.sleep(0.05)


async def test_what_discoverd_did_not_have() -> None:
    async with open_client() as client:
        await prepare(client.directory)
        put = {
            "addr": "[fd00::1]:80",
            "proto": "http",
            "zone": "z",
            "weight": 7,
            "health": "critical",
            "ttl": 60,
        }
        assert (await client("PUT", "/v1/services/abc/instances/mine", put)).status == 200
        words = await client.json("/v1/services/abc/instances/mine")
        assert words.pop("index") > 0
        health = put.pop("health")
        assert words == {**put, "id": "mine", "state": health}
        everything = await client.json("/v1/services/abc/instances?state=all&zone=z&proto=http")
        assert [one["id"] for one in everything] == ["mine"]
        assert [one["id"] for one in await client.json("/v1/services/abc/instances?meta.k=v")] == ["one"]
        assert [one["id"] for one in await client.json("/v1/services/abc/instances?meta.k=")] == ["one"]
        assert await client.json("/v1/services/abc/instances?zone=none") == []
        # There is such a service, it has nobody.
        assert await client.json("/v1/services/empty/instances") == []
        assert (await client("GET", "/v1/services/none/instances")).status == 404
        services = await client.json("/v1/services")
        assert [(one["name"], one["serving"], one["instances"], one["leader"]) for one in services] == [
            ("abc", 2, 3, "one"),
            ("empty", 0, 0, ""),
            ("manual", 0, 0, ""),
        ]
        found = await client.json("/v1/services/abc/instances/mine/explanation")
        assert not found["listed"]
        assert (await client("GET", "/v1/services/abc/instances/none")).status == 404
        for body, message in (
            ({**put, "addr": "fd00::1:80"}, "too many colons"),
            ({**put, "addr": "a:http"}, "invalid port"),
            ({**put, "addr": "[::1]"}, "missing port"),
            ({**put, "addr": "*:80"}, "every address"),
            ({**put, "weight": -1}, "weight is from 0"),
            ({**put, "health": "ill"}, "makes no sense"),
            ({**put, "check": {"kind": "command", "target": "rm"}}, "has to be run by the registrant"),
            ({**an_instance("a:1"), "meta": {}}, "in the path and"),
        ):
            answer = await client("PUT", "/v1/services/abc/instances/mine", body)
            assert answer.status == 400, body
            assert message in json.loads(answer.body)["message"]
        for raw in (b"{", b"", b'{"data": ' + b"[" * 100_000, b'{"data": "\xff"}'):
            answer = await client("PUT", "/v1/services/abc/meta", raw)
            assert (answer.status, json.loads(answer.body)["code"]) == (400, "syntax_error")


async def test_what_http_itself_refuses() -> None:
    async with open_client() as client:
        answer = await client("POST", "/services/abc")
        assert answer.status == 405
        assert answer.headers["allow"] == "DELETE, GET, HEAD, PUT"
        too_big = await client("PUT", "/services/abc", b"x" * 1_100_000)
        assert (too_big.status, json.loads(too_big.body)["code"]) == (400, "request_body_too_big")
        status = await client("GET", "/.well-known/status")
        assert status.body.endswith(b"}\n")
        data = json.loads(status.body)["data"]
        assert (data["status"], data["version"], data["stale"]) == ("healthy", duplex.__version__, False)
        assert (await client("GET", "/readyz")).status == 200


async def test_tokens() -> None:
    async with open_client(write_token="w", read_token="r") as client:
        for method, token, status in (
            ("GET", "", 401),
            ("GET", "Bearer x", 401),
            ("GET", "Basic w", 401),
            ("GET", "Bearer r", 200),
            ("GET", "bearer w", 200),
            ("PUT", "Bearer r", 401),
            ("PUT", "", 401),
            ("PUT", "Bearer w", 200),
        ):
            path = "/services" if method == "GET" else "/services/web"
            headers = [("Authorization", token)] if token else []
            answer = await client(method, path, {}, JSON, *headers)
            assert answer.status == status, (method, token)
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
    async with open_client(write_token="w") as client:
        assert (await client("GET", "/services")).status == 200
        assert (await client("PUT", "/services/web", {})).status == 401


async def test_browsers_change_nothing() -> None:
    async with open_client() as client:
        answer = await client("PUT", "/services/web", {}, JSON, ("Origin", "http://evil.example"))
        assert (answer.status, json.loads(answer.body)["code"]) == (403, "forbidden")
        assert (await client("GET", "/services", b"", ("Origin", "http://evil.example"))).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:7710", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("a b", 403),
        ("[::1", 403),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("app.localhost.", 200),
        ("127.0.0.1:7710", 200),
        ("[::1]:7710", 200),
        (socket.gethostname(), 200),
    ],
)
async def test_pages_read_nothing_under_names_of_their_own(host: str, status: int) -> None:
    async with open_client() as client:
        answer = await client("GET", "/services", b"", ("Host", host))
        assert answer.status == status
        assert (await client("PUT", "/services/web", {}, JSON, ("Host", host))).status == status
    # Who shows a token is no page of somebody else's.
    for options in ({"write_token": "w", "read_token": "r"}, {"anybody": True}):
        async with open_client(**options) as client:
            headers = (("Host", host), ("Authorization", "Bearer r"))
            assert (await client("GET", "/services", b"", *headers)).status == 200


@pytest.mark.parametrize(
    ("bind", "options", "message"),
    [
        (":0", {}, "everyone who reaches it could register"),
        ("127.0.0.1:0", {"write_token": "a b"}, "without spaces"),
        ("127.0.0.1:0", {"read_token": "a"}, "without a write_token"),
        ("127.0.0.1", {}, "no address to use"),
    ],
)
async def test_configurations_that_make_no_sense(bind: str, options: dict[str, Any], message: str) -> None:
    async with open_directory("memory:") as directory:
        with pytest.raises(duplex.ConfigurationError, match=message):
            async with open_http(directory, bind, HttpOptions(**options)):
                pass


@pytest.mark.parametrize("options", [{"anybody": True}, {"write_token": "w"}])
async def test_every_address_if_that_is_meant(options: dict[str, Any]) -> None:
    async with open_directory("memory:") as directory:
        async with open_http(directory, ":0", HttpOptions(**options)) as server:
            port = server.addresses[0].rpartition(":")[2]
            answer = await Client(directory, f"127.0.0.5:{port}").once("GET", "/ping")
            assert answer.status == 200


async def test_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_client() as client:

        async def away(*args: Any) -> None:
            raise StoreAway("consul: nobody answers; nothing changed")

        monkeypatch.setattr(client.directory.services, "add", away)
        answer = await client("PUT", "/services/web", {})
        assert (answer.status, json.loads(answer.body)) == (
            503,
            error("service_unavailable", "consul: nobody answers; nothing changed", retry=True),
        )
        away_for = Status("v", 1, "e", 1, 7.5, True, "nobody answers")
        monkeypatch.setattr(Reading, "status", lambda self: away_for)
        headers = (await client("GET", "/services")).headers
        assert (headers["discoverd-age"], headers["discoverd-stale"]) == ("7.500", "true")
        # What was never read is not known to be empty.
        monkeypatch.setattr(Reading, "is_known", False)
        assert (await client("GET", "/services/web/instances")).status == 503
        assert (await client("GET", "/.well-known/status")).status == 500
        assert (await client("GET", "/ping")).status == 200


async def test_servers_are_told() -> None:
    async with (
        open_directory(
            "memory:", server="here", endpoints=["tcp://10.0.0.1:1", "http://10.0.0.1:7710"]
        ) as directory,
        open_http(directory, "127.0.0.1:0") as server,
    ):
        answer = await Client(directory, server.addresses[0]).once("GET", "/raft/peers")
        assert json.loads(answer.body) == ["10.0.0.1:7710"]
        assert answer.headers["discoverd-peers"] == "10.0.0.1:7710"


async def test_curl_registers(tmp_path: Any) -> None:
    curl = require_program("curl", package="curl")
    async with open_client() as client:

        async def run(path: str, *words: str) -> str:
            url = f"http://{client.address}{path}"
            command = [curl, "-sS", "--noproxy", "*", "--max-time", str(within(10)), url, *words]
            return (await trio.run_process(command, capture_stdout=True)).stdout.decode()

        assert (
            await run("/services/web", "-X", "PUT", "-d", "{}", "-H", "Content-Type: application/json") == ""
        )
        body = tmp_path / "body"
        body.write_text('{"addr": "10.0.0.1:80", "proto": "http"}')
        assert await run("/v1/services/web/instances/a", "-T", str(body)) == ""
        assert '"addr":"10.0.0.1:80"' in await run("/services/web/instances")


async def test_fronts_go_on_while_the_store_is_away() -> None:
    async with open_weather(verify_every=0.05, patience=0.2) as (store, weather):
        async with (
            open_directory(store, server="here") as directory,
            open_http(directory, "127.0.0.1:0") as http,
            open_dns(directory.reading, "127.0.0.1:0") as front,
        ):
            await directory.instances.register(
                "web", Registration("a", host="10.0.0.1", port=80), 10, is_held=True
            )
            client = Client(directory, http.addresses[0])
            weather.is_away = True
            with fail_after(10):
                while not directory.reading.status().stale:
                    # The store is verified in real time.
                    await trio.sleep(0.01)
            for _ in range(50):
                answer = await client("GET", "/services/web/instances")
                assert answer.status == 200
                assert answer.headers["discoverd-stale"] == "true"
                assert shown(await ask(front, "web.discoverd.")) == ["A 10.0.0.1"]
            refused = await client("PUT", "/services/new", {})
            assert (refused.status, json.loads(refused.body)["retry"]) == (503, True)
            weather.is_away = False
            await client.http.aclose()


def test_without_the_library_one_error_says_what_to_install() -> None:
    source = (
        "import sys; sys.modules['h11'] = None\n"
        "import trio\n"
        "from duplex_services.discovery import open_http\n"
        "async def main():\n"
        "    async with open_http(None): pass\n"
        "trio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.stderr.rstrip().splitlines()[-1].endswith("not installed: pip install 'duplex-rpc[http]'")
