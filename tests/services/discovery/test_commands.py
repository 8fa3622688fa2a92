"""``duplex discovery …``, as a process and in this one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from duplex_services._shared._commands import show_json
from duplex_services._shared._places import socket_endpoint
from duplex_services.discovery._asking import places
from duplex_services.discovery._model import Metadata, ServerInfo
from duplex_services.discovery._showing import (
    show_change,
    show_diff,
    show_explanation,
    show_instance,
    show_instances,
    show_leader,
    show_overview,
    show_service,
)
from duplex_services.discovery._wire import Diff, LeaderNews, Overview
from duplex_services.discovery.client import (
    Change,
    Explanation,
    Instance,
    Leader,
    Listing,
    ServiceConfig,
    ServiceInfo,
    Status,
)
from tests.machine import within
from tests.services.shell import Shell, serve_discovery


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, "discovery") as shell:
        yield shell


pytestmark = pytest.mark.slow


def testplaces() -> None:
    here = socket_endpoint("discovery")
    assert places(()) == places(("local",)) == (here,)
    assert places((":7710,local", "tcp://a:1")) == ("tcp://127.0.0.1:7710", here, "tcp://a:1")


def test_a_directory_from_a_shell(shell: Shell) -> None:
    server = serve_discovery(shell)
    code, out, _ = shell.run("ls", "web")
    assert code == 1
    assert "there is no such service" in out
    first = shell.start(
        "register", "web", "10.0.0.7:80", "--id", "a", "-m", "version=2", "--zone", "z1", "--weight", "3"
    )
    shell.until("10.0.0.7:80", "ls", "web")
    second = shell.start("register", "web", "tcp://10.0.0.8:7700", "--ttl", "2")
    out = shell.until("tcp://10.0.0.8:7700", "ls", "web")
    assert out.splitlines()[0].split() == ["ID", "ADDRESS", "STATE", "WEIGHT", "ZONE", "METADATA"]
    assert out.splitlines()[1].split() == ["a", "10.0.0.7:80", "passing", "3", "z1", "version=2"]
    assert out.splitlines()[2].split()[:3] == ["tcp---10-0-0-8-7700", "tcp://10.0.0.8:7700", "passing"]
    assert "as of" in out.splitlines()[-1]

    listing = shell.told("ls", "web", "-m", "version=2")
    assert [one["id"] for one in listing["instances"]] == ["a"]
    assert shell.run("ls", "web", "-m", "version=3")[0] == 1
    assert [one["id"] for one in shell.told("ls", "web", "-m", "version", "--zone", "z1")["instances"]] == [
        "a"
    ]
    overview = shell.run("ls")[1]
    assert overview.splitlines()[1].split() == ["web", "2", "2", "a"]
    assert "servers: server-" in overview
    assert "a at 10.0.0.7:80, fence" in shell.run("leader", "web")[1]
    assert "serving      2 of 2" in shell.run("show", "web")[1]
    assert "weight    3" in shell.run("show", "web", "a")[1]
    code, _, err = shell.run("show", "web", "x")
    assert code == 1
    assert "web has no instance x" in err

    assert shell.run("drain", "web", "a", "--note", "new version")[0] == 0
    code, out, _ = shell.run("explain", "web", "a")
    assert code == 1
    assert "web/a is not listed\n- it is draining: new version" in out
    assert "last changes:" in out
    assert [one["id"] for one in shell.told("ls", "web", "--all")["instances"]] == [
        "a",
        "tcp---10-0-0-8-7700",
    ]
    assert shell.run("maintain", "web", "a")[0] == 0
    assert "maintenance" in shell.run("ls", "web", "-a")[1]
    assert shell.run("maintain", "web", "a", "--undo")[0] == 0
    assert shell.run("explain", "web", "a")[0] == 0
    assert "a at" in shell.run("leader", "web", "--set", "a")[1]
    assert "leader type  manual (a)" in shell.run("show", "web")[1]
    assert shell.run("leader", "web", "--oldest")[0] == 0
    assert shell.run("leader", "web", "--oldest", "--set", "a")[0] == 2

    first.send_signal(signal.SIGINT)
    assert first.wait(within(20)) == 130
    assert [one["id"] for one in shell.told("ls", "web")["instances"]] == ["tcp---10-0-0-8-7700"]
    diff = shell.told("diff", "0", "--service", "web")
    assert {change["kind"] for change in diff["changes"]} >= {"up"}
    assert "down" in shell.run("diff", "1")[1]
    assert shell.run("diff", "0s")[0] == 0
    for words in (("1", "5m"), ("yesterday",)):
        assert shell.run("diff", *words)[0] == 2

    assert shell.run("deregister", "web", "tcp---10-0-0-8-7700", "--why", "not needed")[0] == 0
    _, err = second.communicate(timeout=within(20))
    assert second.returncode == 1
    assert "tcp---10-0-0-8-7700: not needed" in err
    assert shell.run("leader", "web")[:2] == (1, "web: nobody leads\n")
    server.send_signal(signal.SIGTERM)
    assert server.wait(within(20)) == 0


def test_a_server_comes_back_under_its_name(shell: Shell) -> None:
    server = serve_discovery(shell)
    name = shell.told("ls")["servers"][0]["name"]
    registrant = shell.start("register", "web", "10.0.0.7:80", "--ttl", "5")
    shell.until("10.0.0.7:80", "ls", "web")
    server.kill()
    server.wait()
    serve_discovery(shell)
    overview = shell.told("ls")
    assert [one["name"] for one in overview["servers"]] == [name]
    assert [one["id"] for one in shell.told("ls", "web")["instances"]] == ["10-0-0-7-80"]
    assert registrant.poll() is None
    code, _, err = shell.run("run", "--no-socket", "--bind", f"ipc://{shell.folder}/other.sock")
    assert code == 2
    assert "another server of discovery has the state folder" in err


def test_watching(shell: Shell) -> None:
    serve_discovery(shell)
    watch = shell.start("watch", "web", "-o", "json")
    leaders = shell.start("leader", "web", "--watch")
    assert leaders.stdout is not None
    assert leaders.stdout.readline() == "web: nobody leads\n"
    registrant = shell.start("register", "web", "10.0.0.7:80", "--id", "a")
    assert watch.stdout is not None
    assert [json.loads(watch.stdout.readline())["kind"] for _ in range(2)] == ["up", "leader"]
    assert leaders.stdout.readline().startswith("web: a at 10.0.0.7:80, fence")
    registrant.send_signal(signal.SIGINT)
    assert {json.loads(watch.stdout.readline())["kind"] for _ in range(2)} == {"down", "leader"}
    watch.send_signal(signal.SIGINT)
    assert watch.wait(within(20)) == 130


def test_watching_while_nobody_is_there(shell: Shell) -> None:
    watch = shell.start("watch", "web")
    assert watch.stderr is not None
    assert watch.stdout is not None
    assert "no server of discovery answers at ipc://" in watch.stderr.readline()
    serve_discovery(shell)
    assert watch.stderr.readline() == "a server of discovery answers again\n"
    shell.start("register", "web", "10.0.0.7:80", "--id", "a")
    assert "web/a  10.0.0.7:80 passing" in watch.stdout.readline()


def test_a_live_view(shell: Shell) -> None:
    serve_discovery(shell)
    live = shell.start("watch", "--live", "--interval", "0.2", "--count", "2000")
    assert live.stdout is not None
    registrant = shell.start("register", "web", "10.0.0.7:80", "--id", "a")
    while "fence" not in (line := live.stdout.readline()):
        assert line, "it has ended before anything was seen"
    assert line.split()[:3] == ["web", "a", "passing"]
    registrant.send_signal(signal.SIGINT)
    while "0 of 0 serve" not in (line := live.stdout.readline()):
        assert line, "it has ended before the end was seen"
    live.send_signal(signal.SIGINT)
    assert live.wait(within(20)) == 130
    changes = shell.start("watch", "--live", "-o", "json")
    shell.start("register", "web", "10.0.0.7:80", "--id", "b")
    assert changes.stdout is not None
    assert json.loads(changes.stdout.readline())["id"] == "b"


def test_nobody_is_there(shell: Shell) -> None:
    code, _, err = shell.run("ls")
    assert code == 78
    assert "no server of discovery answers at ipc://" in err
    assert "discovery.sock does not exist: nothing is bound there" in err
    assert "start one with `duplex discovery run`" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("run", "--no-socket"),
            "with --no-socket it listens nowhere: say where with --bind, --http or --dns",
        ),
        (("register", "web", "nonsense"), "neither an endpoint nor HOST:PORT"),
        (("register", "web", "h:1", "-m", "x"), "'x' is no KEY=VALUE"),
        (("register", "web", "h:1", "--check", "udp"), "'udp' is no kind of check"),
    ],
)
def test_wrong_command_lines(words: tuple[str, ...], message: str, shell: Shell) -> None:
    code, _, err = shell.run(*words)
    assert code == 2
    assert message in err


def test_what_is_wrong_with_a_registration_is_told(shell: Shell) -> None:
    serve_discovery(shell)
    code, _, err = shell.run("register", "Web", "0.0.0.0:80", "--id", "/")
    assert code == 67
    assert "service 'Web' is no name" in err
    assert "is every address and so none" in err


def test_options_come_from_a_file(shell: Shell) -> None:
    folder = shell.folder / ".config" / "duplex"
    folder.mkdir(parents=True)
    (folder / "discovery.toml").write_text(f'name = "from-a-file"\nbind = "{shell.endpoint}"\n')
    server = shell.start("serve", "--no-socket", "--state", str(shell.folder / "state"))
    assert server.stdout is not None
    assert server.stdout.readline().strip() == shell.endpoint
    assert shell.told("ls")["servers"][0]["name"] == "from-a-file"
    (folder / "discovery.toml").write_text("name = ")
    code, _, err = shell.run("ls")
    assert code == 2
    assert "discovery.toml" in err


def test_checks_from_a_shell(shell: Shell) -> None:
    serve_discovery(shell)
    shell.start("register", "web", "h:1", "--id", "own", "--check", "command:true")
    shell.start("register", "web", shell.endpoint, "--id", "asked", "--check", "duplex:")
    shell.start("register", "web", "127.0.0.1:1", "--id", "sick", "--check", "tcp")
    until = time.monotonic() + within(30)
    expected = {"own": "passing", "asked": "passing", "sick": "critical"}
    while True:
        _, out, _ = shell.run("ls", "web", "--all", "-o", "json")
        found = {one["id"]: one["state"] for one in json.loads(out)["instances"]}
        if found == expected:
            break
        assert time.monotonic() < until, found


def test_what_others_say_is_shown_as_text() -> None:
    evil = "\x1b[2J\n10:00:00  up  web/fake\x9b\u202e\U000e0001"
    status = Status("v", 1, "e", 1, 0.0, True, evil)
    one = Instance("web", "a", "", "h", 1, "tcp", {"k": evil}, 1, "", "passing", evil, 1, 10.0)
    leader = Leader("a", 1, "e", one)
    info = ServiceInfo("web", ServiceConfig(), 1, Metadata({"k": evil}, 1), 1, 1, leader)
    changes = (
        Change(1, 0.0, "up", "web", "a", one),
        Change(2, 0.0, "down", "web", "a", why=evil),
        Change(3, 0.0, "metadata", "web", "", metadata=Metadata(evil, 1)),
    )
    shown = [
        show_instances(Listing("web", (one,), True, (), status)),
        show_instances(Listing("web", (), True, (), status)),
        show_instance(one),
        show_service(info),
        show_overview(Overview((info,), (ServerInfo(evil, "i"),), status)),
        show_leader(LeaderNews("web", leader, status)),
        show_diff(Diff(1, 3, changes)),
        show_explanation(Explanation("web", "a", True, (evil,), one, evil, False, changes)),
        *map(show_change, changes),
    ]
    for text in shown:
        assert text.replace("\n", "").isprintable()
        assert "\n10:00" not in text
    told = show_json(one)
    assert told.isprintable()
    assert json.loads(told)["note"] == evil
