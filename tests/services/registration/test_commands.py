"""``duplex registrator …``, as a process."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

import duplex
from duplex_services.registration._model import Options
from duplex_services.registration._open import Settings, open_sources, open_target
from duplex_services.registration._running import check_options, look
from tests.services.registration.fake_engine import FakeEngine, inspected
from tests.services.registration.running import listing
from tests.services.shell import Shell

pytestmark = pytest.mark.slow


async def run(shell: Shell, *words: str, **environment: str) -> tuple[int, str, str]:
    return await trio.to_thread.run_sync(lambda: shell.run(*words, **environment))


async def test_from_a_shell(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1), inspected(2, State={"Status": "exited", "FinishedAt": "2026-01-02T03:04:05Z"}))
    given = ("--docker", fake.url, "--advertise", "192.0.2.1")
    async with fake.serve(), listing() as listed:
        with Shell(tmp_path, "registrator", discovery=listed.endpoint) as shell:
            code, out, err = await run(shell, "ls", *given)
            assert code == 0, err
            assert out.splitlines()[0].split() == ["SERVICE", "ID", "ADDRESS", "STATE", "CONTAINER", "TAGS"]
            assert out.splitlines()[1].split()[:1] == ["web"]
            assert out.splitlines()[1].split()[2:] == ["192.0.2.1:20001", "passing", "web.1"]
            code, out, _ = await run(shell, "ls", *given, "-o", "json", "--tags", "a")
            assert json.loads(out)[0]["tags"] == ["a"]
            code, out, _ = await run(shell, "ls", *given, "--explicit")
            assert (code, out) == (1, "nothing is to be listed; `duplex registrator explain` says why\n")

            code, out, _ = await run(shell, "explain", "web.2", *given)
            assert code == 1
            assert "- all of it is not listed: exited 0 at 2026-01-02T03:04:05Z" in out
            code, out, _ = await run(shell, "explain", *given)
            assert code == 0
            assert "- 80/tcp is listed as web " in out
            code, out, _ = await run(shell, "explain", "web.1", *given, "-o", "json")
            assert json.loads(out)[0]["service"] == "web"
            code, _, err = await run(shell, "explain", "nothing", *given)
            assert code == 1
            assert "there is no container nothing" in err

            code, out, _ = await run(shell, "plan", *given)
            assert code == 0
            assert out.startswith("discovery: 1 to do\n- put web/")
            assert listed.all == []
            process = await trio.to_thread.run_sync(lambda: shell.start("run", *given, "--ttl", "300"))
            await listed.until(lambda: len(listed.serving()) == 1, 20.0)
            process.send_signal(signal.SIGTERM)
            out, err = await trio.to_thread.run_sync(process.communicate)
            assert (process.returncode, out, err) == (0, "discovery\n", "")
            # What runs is listed still, and what is to be done is to go on with it.
            assert len(listed.serving()) == 1
            code, out, _ = await run(shell, "plan", *given)
            assert out.startswith("discovery: 1 to do\n- change web/")
            code, out, _ = await run(shell, "plan", *given, "-o", "json", "--explicit")
            assert [list(action) for action in json.loads(out)["actions"]] == [["entry", "why"]]


async def test_options_in_any_order_and_none_that_is_not_known(tmp_path: Path) -> None:
    """R-10: an option behind the target counts, and what is not understood is an error."""
    fake = FakeEngine(tmp_path / "s")
    fake.add(inspected(1))
    async with fake.serve(), listing() as listed:
        with Shell(tmp_path, "registrator") as shell:
            words = (
                f"discovery://{listed.endpoint.removeprefix('tcp://')}",
                "--ttl",
                "3",
                "--docker",
                fake.url,
            )
            await trio.to_thread.run_sync(lambda: shell.start("run", *words, "--advertise", "192.0.2.1"))
            await listed.until(lambda: [one.ttl for one in listed.all] == [3.0], 20.0)
            for wrong, message in (
                (("run", "discovery:", "--nothing"), "No such option"),
                (("run", "-ttl", "3"), "No such option"),
                (("ls", "web"), "unexpected extra argument"),
                (("run", "--ttl", "soon"), "not a valid float"),
                (("run", "--compat", "something"), "is not"),
            ):
                code, _, err = await run(shell, *wrong)
                assert code == 2, wrong
                assert message in err


async def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with Shell(tmp_path, "registrator") as shell:
        for words, message in (
            (("run", "redis://x"), "unrecognized adapter: redis://x"),
            (("run", "--no-docker"), "there is nothing to list"),
            (("run", "--docker", "docker"), "no address of a container engine"),
            (("run", "--tags", "{{"), "--tags: the template"),
            (("run", "--advertise", "no-such-interface"), "there is no such address here"),
            (("ls", "--docker", f"unix://{tmp_path}/none"), "No such file"),
        ):
            code, _, err = await run(shell, *words)
            assert code != 0, words
            assert message in err
        (tmp_path / "files").mkdir()
        code, _, err = await run(shell, "plan", "--no-docker", "--files", str(tmp_path / "files"))
        assert code == 1
        assert "no server of discovery answers at ipc://" in err


async def test_options_of_a_file_and_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.toml").write_text("[web]\nports = [80]\n")
    folder = tmp_path / ".config" / "duplex"
    folder.mkdir(parents=True)
    (folder / "registrator.toml").write_text(
        f'no_docker = true\nfiles = ["{tmp_path}/files"]\nadvertise = ["192.0.2.1"]\ntags = "x"\n'
    )
    with Shell(tmp_path, "registrator") as shell:
        code, out, err = await run(shell, "ls", XDG_CONFIG_HOME="")
        assert code == 0, err
        assert out.splitlines()[1].split()[-1] == "x"
        _, out, _ = await run(shell, "ls", DUPLEX_REGISTRATOR_TAGS="y", XDG_CONFIG_HOME="")
        assert out.splitlines()[1].split()[-1] == "y"


# -- in this process -------------------------------------------------------------------------------------


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(
        state=tmp_path, **({"docker": None, "files": (tmp_path,), "advertise": ("192.0.2.1",)} | given)
    )


def test_sources_have_names_of_their_own(tmp_path: Path) -> None:
    given = settings(tmp_path, docker="unix:///run/docker.sock", files=(tmp_path, tmp_path / "b"))
    assert [source.name for source in open_sources(given, "me")] == ["docker", "files", "files-2"]


def test_targets(tmp_path: Path) -> None:
    for text, servers in (
        ("discovery:", ("tcp://a:1", "ipc:///b")),
        ("discovery://h:1,h:2", ("tcp://h:1", "tcp://h:2")),
    ):
        target = open_target(text, settings(tmp_path, discovery=("a:1,ipc:///b",)), "me")
        assert target._servers == servers  # type: ignore[attr-defined]
    with pytest.raises(duplex.ConfigurationError, match=r"unrecognized adapter: x: a target is discovery:"):
        open_target("x", settings(tmp_path), "me")
    assert open_target("consul://h", settings(tmp_path), "me").name == "consul://h"


async def test_a_look_fetches_what_tags_ask_for(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[web]\nports = [80]\n")
    given = settings(tmp_path, options=Options(tags='a{{httpGet "http://127.0.0.1:1/"}}'))
    _, found = await look(given)
    assert [service.tags for service in found.services] == [("a",)]


def test_template_is_read_before_anything_is_begun(tmp_path: Path) -> None:
    with pytest.raises(duplex.ConfigurationError, match="--tags"):
        check_options(settings(tmp_path, options=Options(tags="{{end}}")))
