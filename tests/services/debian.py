"""Programs of Debian's that tests talk to, unpacked into a folder of the user's: nothing of the machine changes.

apt finds the packages and checks their signatures, but on lists of its own: it needs no root, waits for no other
apt, minds no repository of the machine that is away, and starts no service. The mirror is the machine's. What
was unpacked stays for the next run; workers of one run wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: Releases that are asked beside the machine's own, where they have something that it lacks, such as Consul.
_OLDER: Final = ("bullseye",)
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCES: Final = Path("/etc/apt")
#: A line such as ``deb [options] http://mirror/debian bookworm main``.
_LINE: Final = re.compile(r"^deb\s+(?:\[[^]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<parts>.+)$")
#: Seconds that one command of apt's may take.
_WITHIN: Final = 120


class CannotInstallError(Exception):
    """The packages cannot be had, and why."""


def unpacked(name: str, package: str, *, only: str = "") -> Path:
    """Return the folder that holds a package, and what it needs, as they would lie in ``/``.

    Args:
        name: what to call the folder.
        package: the package to unpack.
        only: a pattern; packages that it needs are unpacked too where it matches their names. Without it
            none is.

    Raises:
        CannotInstallError: this is not Debian, or no mirror has it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duplex-test-programs"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{_codename()}-{name}"
    with locked(cache / "lock"):
        if not folder.exists():
            apt = _Apt(cache / "apt", _mirror(_codename()))
            with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as scratch:
                apt.unpack(package, only, Path(scratch))
                # In one step, so that a run that is interrupted leaves nothing that looks complete.
                (Path(scratch) / "tree").rename(folder)
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of this machine's wait for."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Apt:
    """An apt whose every file lies below one folder, which keeps the lists for the next package."""

    def __init__(self, folder: Path, mirror: str) -> None:
        for name in ("lists/partial", "cache/archives/partial", "none"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        signed = f"[signed-by={_KEYRING}]"
        releases = dict.fromkeys((_codename(), *_OLDER))
        sources = "".join(f"deb {signed} {mirror} {release} main\n" for release in releases)
        (folder / "sources.list").write_text(sources)
        # Nothing is installed here, whatever this machine has.
        (folder / "status").touch()
        options = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": folder / "none",
            "Dir::Etc::Preferences": folder / "none" / "none",
            "Dir::Etc::PreferencesParts": folder / "none",
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "1",
        }
        # The machine's own settings come before these: its proxies count, but nothing is run of what it has run.
        hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
        lines = [f"#clear {hook};" for hook in hooks] + [
            f'{name} "{value}";' for name, value in options.items()
        ]
        self._configuration = folder / "apt.conf"
        self._configuration.write_text("\n".join([*lines, ""]))

    def unpack(self, package: str, only: str, folder: Path) -> None:
        """Unpack a package, and of those that it needs the ones that match, into ``tree`` of a folder."""
        try:
            self._download(package, only, folder)
        except CannotInstallError:
            # There are no lists yet, or they are old and name what the mirror has replaced since.
            self._run("apt-get", "update")
            self._download(package, only, folder)
        for deb in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", deb, folder / "tree"], check=True)

    def _download(self, package: str, only: str, folder: Path) -> None:
        names = {package}
        if only:
            # What it depends on is indented; what that is, in turn, begins a line.
            needed = self._run("apt-cache", "depends", "--recurse", "--important", package)
            names.update(
                name for name in needed.splitlines() if re.match(r"[a-z]", name) and re.search(only, name)
            )
        self._run("apt-get", "download", *sorted(names), folder=folder)

    def _run(self, program: str, *words: str, folder: Path | None = None) -> str:
        command = [program, "-q", "-c", str(self._configuration), *words]
        problem = ""
        for last in (False, False, True):
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_WITHIN,
                )
            except subprocess.TimeoutExpired:
                problem = f"took more than {_WITHIN} s"
                continue
            if done.returncode == 0:
                return done.stdout
            problem = done.stderr.strip()
            if last or "Unable to locate" in problem or "No packages found" in problem:
                break
            # A mirror that is being renewed is well again a moment later.
            time.sleep(1)
        raise CannotInstallError(f"{program} {' '.join(words)}: {problem}")


@functools.cache
def _codename() -> str:
    """The name of this machine's release of Debian."""
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))) or not _KEYRING.exists():
        raise CannotInstallError("this is not Debian")
    found = re.search(r"^VERSION_CODENAME=(\S+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None:
        raise CannotInstallError("this release of Debian has no name")
    return found[1]


def _mirror(codename: str, sources: Path = _SOURCES) -> str:
    """Return where this machine has its release from; its lists need not be there."""
    for path in [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]:
        if path.suffix not in {".list", ".sources"} or not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = _of_lines(text) if path.suffix == ".list" else _of_paragraphs(text)
        for uri, suites, components in found:
            if codename in suites and "main" in components:
                return uri
    raise CannotInstallError(f"no source of packages of {codename} is configured")


def _of_lines(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    for line in text.splitlines():
        if match := _LINE.match(line.strip()):
            yield match["uri"], [match["suite"]], match["parts"].split()


def _of_paragraphs(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        unfolded = re.sub(r"\n[ \t]+", " ", paragraph)
        fields = {
            name.strip().lower(): value.split()
            for name, colon, value in (line.partition(":") for line in unfolded.splitlines())
            if colon
        }
        if "deb" in fields.get("types", ()):
            for uri in fields.get("uris", ()):
                yield uri, fields.get("suites", []), fields.get("components", [])
