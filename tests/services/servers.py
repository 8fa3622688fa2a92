"""Real etcd, Consul and ZooKeeper as child processes: one node or several, on loopback or in namespaces.

::

    with EtcdServers() as etcd:
        etcd.endpoints  # [("127.0.0.1", 23790)]
    with ConsulServers(loopback(3, peer_ports=2)) as consul:
        consul.leader().signal(signal.SIGSTOP)

Everything here blocks, for a test's fixture or for a thread. Nodes are started by the thread that will live as long
as they: the kernel ends them with it, so that a test run that is killed leaves none behind.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import json
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self, final

from tests import machine
from tests.services.debian import CannotInstallError, unpacked

#: Seconds that a node may take until it answers, on a quiet machine.
READY_WITHIN: Final = 30.0
#: How often servers are given other ports because somebody took theirs.
_TRIES: Final = 3
#: Below those that the kernel gives to clients, which would otherwise take one before the server has it.
_PORTS: Final = range(15_000, 32_000)
#: What a server says whose port somebody else has.
_TAKEN: Final = "ddress already in use"
_KILLED_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")


class NotReadyError(Exception):
    """A server did not start, with what it said."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a node runs.

    Attributes:
        host: where it listens for clients.
        port: at which port.
        peer: the address at which the other nodes find it.
        peer_ports: for what nodes say to each other.
        enter: the words of a command that runs another one in the right namespace; empty for our own.
        door: host and port at which a test reaches it, if that is not where it listens.
    """

    host: str
    port: int
    peer: str
    peer_ports: tuple[int, ...]
    enter: tuple[str, ...] = ()
    door: tuple[str, int] | None = None


def loopback(nodes: int = 1, *, peer_ports: int = 2) -> list[Place]:
    """Return places for some nodes on this machine, at ports that are free now."""
    ports = iter(_free_ports(nodes * (1 + peer_ports)))
    return [
        Place("127.0.0.1", next(ports), "127.0.0.1", tuple(next(ports) for _ in range(peer_ports)))
        for _ in range(nodes)
    ]


def _free_ports(count: int) -> list[int]:
    chance = random.SystemRandom()
    found: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = chance.choice(_PORTS)
            sock = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                found[port] = sock
    return list(found)


@final
class Node:
    """One server process, which may be harmed."""

    def __init__(self, name: str, place: Place, folder: Path, command: Sequence[str]) -> None:
        self.name = name
        self.place = place
        #: What it keeps; gone after :meth:`wipe`.
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._command = [*place.enter, *_dies_with_us(), *command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port for clients."""
        return self.place.door or (self.place.host, self.place.port)

    def start(self) -> None:
        """Start it; it answers some time later."""
        assert self._process is None, f"{self.name} is running"
        self.folder.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; after SIGKILL and SIGTERM wait until it is gone, after SIGSTOP until it stands still."""
        assert self._process is not None, f"{self.name} is not running"
        self._process.send_signal(number)
        while number == signal.SIGSTOP and not _stands_still(self._process.pid):
            # Each of its threads stops when it runs next.
            time.sleep(0.001)
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self._process.wait(machine.within(READY_WITHIN))
            self._process = None

    def kill(self) -> None:
        """End it at once, whatever state it is in; it may have ended by itself."""
        if self._process is not None:
            self.signal(signal.SIGKILL)

    def wipe(self) -> None:
        """Forget all that it kept. It must not be running."""
        assert self._process is None, f"{self.name} is running"
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def said(self, lines: int = 15) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def _stands_still(pid: int) -> bool:
    states = [
        path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(states) <= {"T", "Z"}


class Servers(abc.ABC):
    """The nodes of one store. Enter it to start them; they are gone when the block is left.

    Args:
        places: where the nodes run; ``None`` is one of them, on loopback.
    """

    #: Ports that a node needs for its peers.
    PEER_PORTS: ClassVar[int]

    def __init__(self, places: Sequence[Place] | None = None) -> None:
        self._wanted = places
        self._stack = contextlib.ExitStack()
        self.nodes: list[Node] = []
        self.folder = Path()

    @abc.abstractmethod
    def _command(self, index: int, places: Sequence[Place], folder: Path) -> list[str]:
        """Return what starts a node, and write what it reads."""

    @abc.abstractmethod
    def is_ready(self, node: Node) -> bool:
        """Whether a node serves; may raise ``OSError`` where it does not."""

    @abc.abstractmethod
    def _leads(self, node: Node) -> bool:
        """Whether a node leads; may raise ``OSError`` where it does not answer."""

    @property
    def endpoints(self) -> list[tuple[str, int]]:
        """Host and port of each node."""
        return [node.endpoint for node in self.nodes]

    @property
    def hosts(self) -> str:
        """The endpoints, as they stand in a URL."""
        return ",".join(f"{host}:{port}" for host, port in self.endpoints)

    def __enter__(self) -> Self:
        with self._stack:
            self.folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="duplex-servers-"))
            )
            self._stack.callback(self._kill)
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        for last in (*[False] * (_TRIES - 1), True):
            places = self._wanted or loopback(peer_ports=self.PEER_PORTS)
            self.nodes = []
            for index, place in enumerate(places):
                folder = self.folder / f"n{index}"
                folder.mkdir(exist_ok=True)
                command = self._command(index, places, folder)
                self.nodes.append(Node(folder.name, place, folder, command))
            try:
                for node in self.nodes:
                    node.start()
                self.wait_ready()
            except NotReadyError as error:
                if last or self._wanted is not None or _TAKEN not in str(error):
                    raise
                self._kill()
            else:
                return

    def _kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def wait_ready(self) -> None:
        """Wait until all nodes serve.

        Raises:
            NotReadyError: one has ended, or takes too long.
        """
        for node in self.nodes:
            self.wait(lambda node=node: self.is_ready(node), f"{node.name} is ready")  # type: ignore[misc]

    def wait(self, what: Callable[[], bool], name: str) -> None:
        """Wait until something holds; an ``OSError`` is a no.

        Raises:
            NotReadyError: it takes too long, or a node has ended meanwhile.
        """
        until = time.monotonic() + machine.within(READY_WITHIN)
        while True:
            with contextlib.suppress(OSError):
                if what():
                    return
            for node in self.nodes:
                if node.ended:
                    raise NotReadyError(f"{type(self).__name__}: {node.name} has ended: {node.said()}")
            if time.monotonic() > until:
                raise NotReadyError(
                    f"{type(self).__name__}: not {name}: "
                    + "; ".join(f"{node.name} says {node.said()}" for node in self.nodes)
                )
            # Servers tell nobody when they are ready.
            time.sleep(0.02)

    def leader(self) -> Node:
        """The node that leads, once one does."""
        found: list[Node] = []

        def look() -> bool:
            for node in self.nodes:
                with contextlib.suppress(OSError):
                    if self._leads(node):
                        found.append(node)
            return bool(found)

        self.wait(look, "led")
        return found[0]

    def follower(self) -> Node:
        """A node that does not lead, once another one does."""
        leader = self.leader()
        return next(node for node in self.nodes if node is not leader)

    def restart(self, *, wipe: bool = False) -> None:
        """Kill all nodes and start them; :meth:`wait_ready` is for when they serve.

        Args:
            wipe: whether they have forgotten all they kept.
        """
        self._kill()
        for node in self.nodes:
            if wipe:
                node.wipe()
        for node in self.nodes:
            node.start()


# ------------------------------------------------------------------------------------------------- etcd


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Files of TLS in PEM: an authority, a server's certificate with its key in one file, and a client's."""

    authority: Path
    server: Path
    client: Path


class EtcdServers(Servers):
    """etcd v3.

    Args:
        places: where its nodes run.
        certificates: for TLS; who has no certificate of the authority's is refused.
        options: further words of the command.
    """

    PEER_PORTS = 1

    def __init__(
        self,
        places: Sequence[Place] | None = None,
        *,
        certificates: Certificates | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(places)
        self._program = program("etcd", "etcd-server")
        self._certificates = certificates
        self._options = list(options)

    @property
    def scheme(self) -> str:
        return "http" if self._certificates is None else "https"

    def _command(self, index: int, places: Sequence[Place], folder: Path) -> list[str]:
        place = places[index]
        clients = f"{self.scheme}://{place.host}:{place.port}"
        peers = [f"http://{one.peer}:{one.peer_ports[0]}" for one in places]
        words = {
            "name": f"n{index}",
            "data-dir": folder / "data",
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peers[index],
            "initial-advertise-peer-urls": peers[index],
            "initial-cluster": ",".join(f"n{number}={peer}" for number, peer in enumerate(peers)),
            "initial-cluster-state": "new",
            "heartbeat-interval": 100,
            "election-timeout": 1000,
        }
        if (tls := self._certificates) is not None:
            words |= {"cert-file": tls.server, "key-file": tls.server, "trusted-ca-file": tls.authority}
            words["client-cert-auth"] = "true"
        return [self._program, *(f"--{name}={value}" for name, value in words.items()), *self._options]

    def is_ready(self, node: Node) -> bool:
        if self._certificates is not None:
            with socket.create_connection(node.endpoint, 1):
                return "ready to serve client requests" in node.log.read_text(errors="replace")
        return bool(self.ask(node, "/v3/maintenance/status", {}).get("leader"))

    def _leads(self, node: Node) -> bool:
        found = self.ask(node, "/v3/maintenance/status", {})
        return bool(found.get("leader") == found["header"]["member_id"])

    def ask(self, node: Node, path: str, body: Any, **headers: str) -> Any:
        """Send a request of the JSON gateway's to a node."""
        return fetch(node, path, body, method="POST", headers=headers)


# ----------------------------------------------------------------------------------------------- Consul


class ConsulServers(Servers):
    """Consul: servers, or with ``dev=True`` one agent that keeps nothing and has forgotten all after a restart.

    Args:
        places: where its nodes run.
        dev: see above.
        certificates: for TLS, on :attr:`secure_ports`; clients need a certificate of the authority's.
        configuration: further lines of a configuration file, in HCL.
    """

    PEER_PORTS = 2

    def __init__(
        self,
        places: Sequence[Place] | None = None,
        *,
        dev: bool = False,
        certificates: Certificates | None = None,
        configuration: str = "",
    ) -> None:
        super().__init__(places)
        self._program = program("consul", "consul")
        self._dev = dev
        self._certificates = certificates
        self._configuration = configuration
        #: Where each node listens for TLS.
        self.secure_ports: list[int] = []

    def _command(self, index: int, places: Sequence[Place], folder: Path) -> list[str]:
        place = places[index]
        server, gossip = place.peer_ports
        file = folder.with_suffix(".hcl")
        if self._certificates is not None:
            self.secure_ports = self.secure_ports[:index] + _free_ports(1)
        https = self.secure_ports[index] if self.secure_ports else -1
        lines = [
            f'node_name = "n{index}"',
            f'client_addr = "{place.host}"',
            f'bind_addr = "{place.peer}"',
            "disable_update_check = true",
            "leave_on_terminate = false",
            "performance { raft_multiplier = 1 }",
            f"ports {{ http = {place.port} https = {https} dns = -1 grpc = -1",
            f"server = {server} serf_lan = {gossip} serf_wan = -1 }}",
        ]
        if not self._dev:
            joins = [f'"{one.peer}:{one.peer_ports[1]}"' for one in places]
            lines += [
                "server = true",
                f"bootstrap_expect = {len(places)}",
                f'data_dir = "{folder / "data"}"',
                f"retry_join = [{', '.join(joins)}]",
                'retry_interval = "1s"',
                # Who was away for a moment would have no vote for ten seconds after it.
                "autopilot { cleanup_dead_servers = false }",
            ]
        if (tls := self._certificates) is not None:
            lines += [
                f'ca_file = "{tls.authority}"',
                f'cert_file = "{tls.server}"',
                f'key_file = "{tls.server}"',
                "verify_incoming_https = true",
            ]
        file.write_text("\n".join([*lines, self._configuration, ""]))
        return [
            self._program,
            "agent",
            *(["-dev"] if self._dev else []),
            "-log-level=warn",
            f"-config-file={file}",
        ]

    def is_ready(self, node: Node) -> bool:
        # A node may know of a leader that does not serve yet.
        return bool(fetch(node, "/v1/status/leader")) and self._answers(node)

    def _answers(self, node: Node) -> bool:
        try:
            fetch(node, "/v1/kv/none?consistent")
        except urllib.error.HTTPError as error:
            with error:
                return error.code in {403, 404}
        return True

    def _leads(self, node: Node) -> bool:
        leader = fetch(node, "/v1/status/leader")
        return bool(leader == f"{node.place.peer}:{node.place.peer_ports[0]}")


# -------------------------------------------------------------------------------------------- ZooKeeper


class ZooKeeperServers(Servers):
    """ZooKeeper, with ticks of half a second: sessions last 1 to 10 s.

    Args:
        places: where its nodes run.
        certificates: for TLS, on :attr:`secure_ports`; clients need a certificate of the authority's.
        configuration: further lines of the configuration file.
    """

    PEER_PORTS = 2

    def __init__(
        self,
        places: Sequence[Place] | None = None,
        *,
        certificates: Certificates | None = None,
        configuration: str = "",
    ) -> None:
        super().__init__(places)
        self._java = machine.require_program("java", package="default-jre-headless")
        self._jars = _jars()
        self._certificates = certificates
        self._configuration = configuration
        #: Where each node listens for TLS.
        self.secure_ports: list[int] = []

    def _command(self, index: int, places: Sequence[Place], folder: Path) -> list[str]:
        place = places[index]
        file = folder.with_suffix(".cfg")
        lines = [
            "tickTime=500",
            "initLimit=20",
            "syncLimit=4",
            f"dataDir={folder / 'data'}",
            f"clientPort={place.port}",
            f"clientPortAddress={place.host}",
            "admin.enableServer=false",
            "maxClientCnxns=0",
            "4lw.commands.whitelist=stat",
        ]
        if len(places) > 1:
            lines += [
                f"server.{number}={one.peer}:{one.peer_ports[0]}:{one.peer_ports[1]}"
                for number, one in enumerate(places, 1)
            ]
        if (tls := self._certificates) is not None:
            self.secure_ports = self.secure_ports[:index] + _free_ports(1)
            lines += [
                f"secureClientPort={self.secure_ports[index]}",
                f"secureClientPortAddress={place.host}",
                "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
                "authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider",
                f"ssl.keyStore.location={tls.server}",
                "ssl.keyStore.type=PEM",
                f"ssl.trustStore.location={tls.authority}",
                "ssl.trustStore.type=PEM",
                "ssl.clientAuth=need",
            ]
        file.write_text("\n".join([*lines, self._configuration, ""]))
        # The server reads its number from the folder of its data, which is anew each time that it is wiped.
        prepare = f"mkdir -p {folder / 'data'} && echo {index + 1} >{folder / 'data' / 'myid'} && exec"
        words = [self._java, "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", self._jars]
        words += ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(file)]
        return ["sh", "-c", f'{prepare} "$@"', "sh", *words]

    def is_ready(self, node: Node) -> bool:
        if (tls := self._certificates) is not None:
            # Its first handshake takes longer than clients are willing to wait.
            context = ssl.create_default_context(cafile=tls.authority)
            context.load_cert_chain(tls.client)
            address = node.place.host, self.secure_ports[self.nodes.index(node)]
            with socket.create_connection(address, READY_WITHIN) as sock:
                with context.wrap_socket(sock, server_hostname=node.place.host):
                    pass
        return _mode(node) is not None

    def _leads(self, node: Node) -> bool:
        return _mode(node) in {"leader", "standalone"}


def _mode(node: Node) -> str | None:
    """Ask a node of ZooKeeper's what it is: leader, follower or standalone; ``None`` while it is nothing yet."""
    with socket.create_connection(node.endpoint, 1) as sock:
        sock.sendall(b"stat")
        with sock.makefile(errors="replace") as lines:
            return next((line.split()[1] for line in lines if line.startswith("Mode:")), None)


# --------------------------------------------------------------------------------------------- programs


def program(name: str, package: str) -> str:
    """Return the path of a server's program, of the machine's or of Debian's; skip the test if there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(_folder(name, package) / "usr/bin"))
    if found is None:
        machine.missing(f"{package} has no {name}")
    return found


def _jars() -> str:
    """Return the classpath of ZooKeeper."""
    installed = Path("/usr/share/java")
    if (installed / "zookeeper.jar").exists():
        return f"{installed}/*"
    return f"{_folder('zookeeper', 'libzookeeper-java', only='-java$') / 'usr/share/java'}/*"


@functools.cache
def _folder(name: str, package: str, *, only: str = "") -> Path:
    try:
        return unpacked(name, package, only=only)
    except CannotInstallError as error:
        machine.missing(f"{name} is not installed, and cannot be: {error}")


@functools.cache
def _dies_with_us() -> tuple[str, ...]:
    return _KILLED_WITH_US if shutil.which(_KILLED_WITH_US[0]) else ()


def fetch(
    node: Node,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    """Send a request to a node over plain HTTP and return the JSON that it answers."""
    host, port = node.endpoint
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{host}:{port}{path}", data, headers or {}, method=method)
    with _without_proxies().open(request, timeout=machine.within(2)) as answer:
        return json.loads(answer.read() or b"null")


@functools.cache
def _without_proxies() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def paused(node: Node) -> Iterator[None]:
    """Stop a node with SIGSTOP for as long as the block takes: its connections stay, and nobody answers."""
    node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.signal(signal.SIGCONT)
