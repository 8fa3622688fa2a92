"""A real Docker engine in namespaces of its own, and containers in it.

::

    with DockerEngine() as engine:
        id = engine.run("web.1", ports={"80/tcp": "8000"})

Its network, mounts and processes are in namespaces that end with it, so nothing of it is left on the machine, and no engine of the
machine's is touched. Everything here blocks, for a fixture or for a thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

from tests import machine
from tests.services.debian import CannotInstallError, unpacked

#: Seconds that the engine may take until it answers, on a quiet machine.
_READY_WITHIN: Final = 30.0

_CLONE_NEWNET: Final = 0x40000000

#: What an image has: one program, which is a shell and all else.
IMAGE: Final = "example/web:1"

_EXPOSES_81: Final = "exposes-81"

#: What Docker is made of at Debian's.
_NEEDED: Final = r"^(containerd|runc|tini)$"


@functools.cache
def _programs() -> tuple[Path, Path]:
    """The folder with Docker, and busybox."""
    if os.geteuid() != 0:
        machine.missing("only root starts a Docker engine")
    for program in ("unshare", "nsenter", "setpriv", "ip"):
        if shutil.which(program) is None:
            machine.missing(f"{program} is not installed")
    try:
        docker = unpacked("docker", "docker.io", only=_NEEDED)
        busybox = unpacked("busybox", "busybox-static") / "bin" / "busybox"
    except CannotInstallError as error:
        machine.missing(f"Docker is not installed, and cannot be: {error}")
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, text=True
    )
    if done.returncode != 0:
        machine.missing(f"namespaces cannot be made here: {done.stderr.strip()}")
    return docker, busybox


class EngineFailed(Exception):
    """The engine did not start, or refused something."""


@final
class DockerEngine:
    """An engine. Enter it to start it; all of it is gone when the block is left.

    Args:
        options: more words of ``dockerd``'s.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._stack = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._init = 0
        self.folder = Path()

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "docker.sock"

    @property
    def url(self) -> str:
        """The same, as a registrator is told it."""
        return f"unix://{self.socket}"

    def __enter__(self) -> Self:
        docker, busybox = _programs()
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="docker-")))
            self._enter_namespaces()
            self._stack.callback(self._end)
            self._environment = {
                **os.environ,
                "PATH": f"{docker}/usr/bin:{docker}/usr/sbin:{docker}/sbin:{os.environ['PATH']}",
            }
            self.start()
            self._make_image(busybox)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _enter_namespaces(self) -> None:
        # Its first process is the one that all others end with; it ends with us.
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
        ]
        script = "ip link set lo up && echo ready && exec sleep infinity"
        process = subprocess.Popen(
            [*command, "--mount-proc", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        self._processes["unshare"] = process
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise EngineFailed("its namespaces cannot be made")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self._init = int(children[0])

    def enter(self, *command: str) -> list[str]:
        """The words of a command that runs another one in the engine's namespaces."""
        return ["nsenter", "--target", str(self._init), "--net", "--mount", "--pid", *command]

    def _launch(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self.enter(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def start(self) -> None:
        """Start the engine, and return when it answers."""
        if "containerd" not in self._processes:
            # One of its own: an engine that is killed and started again may trust the one that is dying.
            config = self.folder / "containerd.toml"
            config.write_text(
                "version = 2\n"
                f'root = "{self.folder}/containerd"\nstate = "{self.folder}/containerd-state"\n'
                f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self.folder}/containerd.sock"\n'
            )
            self._launch("containerd", "containerd", "--config", str(config))
            self._wait(lambda: (self.folder / "containerd.sock").is_socket(), "containerd")
        (self.folder / "docker.pid").unlink(missing_ok=True)
        self._launch(
            "dockerd",
            "dockerd",
            *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
            *("--pidfile", f"{self.folder}/docker.pid", "--host", self.url),
            *("--containerd", f"{self.folder}/containerd.sock", "--iptables=false", "--ip6tables=false"),
            *("--cgroup-parent", f"/{self.folder.name}"),
            *self._options,
        )
        self._wait(lambda: self.ask("GET", "/_ping") is not None, "dockerd")

    def _wait(self, is_ready: Any, name: str) -> None:
        until = time.monotonic() + machine.within(_READY_WITHIN)
        while True:
            with contextlib.suppress(OSError, EngineFailed, http.client.HTTPException):
                if is_ready():
                    return
            if time.monotonic() > until or self._processes[name].poll() is not None:
                raise EngineFailed(f"{name} does not start:\n{self.said(name)}")
            # It has no other way to say that it is ready.
            time.sleep(0.02)

    def said(self, name: str = "dockerd", lines: int = 15) -> str:
        """The last lines of a log."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the engine, and wait until it is gone; containers go on if it was started with ``--live-restore``."""
        # Our child is nsenter, which waits for it.
        os.kill(self._pid("dockerd"), number)
        self._processes.pop("dockerd").wait(machine.within(60.0))

    def _pid(self, name: str) -> int:
        parent = self._processes[name].pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(children[0])

    def _end(self) -> None:
        if "dockerd" in self._processes:
            # It unmounts what it has mounted; the rest goes with the namespace.
            with contextlib.suppress(OSError, IndexError, subprocess.TimeoutExpired):
                for id in self.ids():
                    self.remove(id)
        first = self._processes.pop("unshare")
        os.kill(self._init, signal.SIGKILL)
        first.wait()
        assert first.stdout is not None
        first.stdout.close()
        for process in self._processes.values():
            process.wait()
        # Control groups are the machine's, and stay when their processes are gone.
        for group in Path("/sys/fs/cgroup").glob(f"*/{self.folder.name}"):
            for path in sorted(group.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()

    # -- the API, as a user of Docker has it -------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None, *, within: float = 60.0) -> Any:
        """Make a request and return what it answers.

        Raises:
            EngineFailed: it refuses.
        """
        connection = http.client.HTTPConnection("docker", timeout=machine.within(within))
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(machine.within(within))
        try:
            connection.sock.connect(str(self.socket))
            data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
            connection.request(method, path, data, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise EngineFailed(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        try:
            return json.loads(text)
        except ValueError:
            return text

    def _make_image(self, busybox: Path) -> None:
        with io.BytesIO() as data:
            with tarfile.open(fileobj=data, mode="w") as tar:
                tar.add(busybox, "bin/busybox")
                for name in ("sh", "sleep", "test", "touch", "rm", "httpd", "wget"):
                    link = tarfile.TarInfo(f"bin/{name}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    tar.addfile(link)
            name, _, tag = IMAGE.partition(":")
            self.ask("POST", f"/images/create?fromSrc=-&repo={name}&tag={tag}", data.getvalue())
            # What a container in another one's network exposes is what its image does.
            changed = f"&tag={_EXPOSES_81}&changes=EXPOSE%2081"
            self.ask("POST", f"/images/create?fromSrc=-&repo={name}{changed}", data.getvalue())

    def run(
        self,
        name: str,
        *,
        ports: dict[str, Any] | None = None,
        command: str = "while true; do sleep 1; done",
        labels: dict[str, str] | None = None,
        network: str = "bridge",
        exposed: tuple[str, ...] = (),
        shares: bool = False,
        **config: Any,
    ) -> str:
        """Start a container, and return its id. It ends at once when it is asked to.

        Args:
            name: its name.
            ports: where each is published: a host port, or ``ADDRESS:PORT``, or a list of them; empty for a free one.
            command: of a shell.
            labels: its labels.
            network: its network mode.
            exposed: ports that are not published.
            shares: it is in another container's network, where only images say what is exposed: this one port 81.
            config: more of what the API takes; ``HostConfig`` is merged.
        """
        bindings = {port: _bindings(where) for port, where in (ports or {}).items()}
        host = {"PortBindings": bindings, "NetworkMode": network, "Init": True} | config.pop("HostConfig", {})
        body = {
            "Image": f"{IMAGE.partition(':')[0]}:{_EXPOSES_81}" if shares else IMAGE,
            "Cmd": ["sh", "-c", command],
            "Env": ["PATH=/bin"],
            "Labels": labels or {},
            "ExposedPorts": {key: {} for key in [*bindings, *exposed]},
            "HostConfig": host,
        } | config
        id = str(self.ask("POST", f"/containers/create?name={name}", body)["Id"])
        self.ask("POST", f"/containers/{id}/start")
        return id

    def execute(self, id: str, *command: str) -> None:
        """Run a command in a container, and wait until it has ended."""
        made = self.ask("POST", f"/containers/{id}/exec", {"Cmd": list(command), "AttachStdout": True})
        self.ask("POST", f"/exec/{made['Id']}/start", {"Detach": False})

    def make_network(self, name: str, subnet: str, six: str = "") -> None:
        """Make a network."""
        config = [{"Subnet": one} for one in (subnet, six) if one]
        self.ask(
            "POST", "/networks/create", {"Name": name, "EnableIPv6": bool(six), "IPAM": {"Config": config}}
        )

    def connect(self, network: str, id: str) -> None:
        """Attach a container to a network."""
        self.ask("POST", f"/networks/{network}/connect", {"Container": id})

    def disconnect(self, network: str, id: str) -> None:
        """Take a container out of a network."""
        self.ask("POST", f"/networks/{network}/disconnect", {"Container": id})

    def kill_inside(self, pid: int) -> None:
        """Kill a process of the engine's namespace."""
        subprocess.run(self.enter("kill", "-KILL", str(pid)), check=True)

    def can_connect(self, address: str, port: int) -> bool:
        """Whether somebody accepts a connection there, tried from the engine's network."""
        found: list[bool] = []

        def attempt() -> None:
            with open(f"/proc/{self._init}/ns/net") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            try:
                socket.create_connection((address, port), machine.within(5.0)).close()
            except ConnectionRefusedError:
                found.append(False)
            else:
                found.append(True)

        # A thread of its own: it stays in that network as long as it lives.
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return found == [True]

    def do(self, id: str, verb: str, **query: Any) -> None:
        """Do something to a container: ``stop``, ``kill``, ``pause``, ``rename`` and the like."""
        words = "&".join(f"{key}={value}" for key, value in query.items())
        self.ask("POST", f"/containers/{id}/{verb}?{words}")

    def remove(self, id: str) -> None:
        """Kill a container, and remove it."""
        self.ask("DELETE", f"/containers/{id}?force=1")

    def inspect(self, id: str) -> dict[str, Any]:
        """All that the engine knows of a container."""
        found: dict[str, Any] = self.ask("GET", f"/containers/{id}/json")
        return found

    def ids(self) -> list[str]:
        """All containers, whether they run or not."""
        return [one["Id"] for one in self.ask("GET", "/containers/json?all=1")]

    def clear(self) -> None:
        """Remove all containers, and networks that tests have made."""
        for id in self.ids():
            self.remove(id)
        for network in self.ask("GET", "/networks"):
            if network["Name"] not in ("bridge", "host", "none"):
                self.ask("DELETE", f"/networks/{network['Id']}")


def _bindings(where: Any) -> list[dict[str, str]]:
    found = []
    for one in where if isinstance(where, list) else [where]:
        address, _, port = str(one).rpartition(":")
        found.append({"HostIp": address.strip("[]"), "HostPort": port})
    return found
