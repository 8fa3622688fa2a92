"""Where a check goes: what it says, or the instance's own address."""

from __future__ import annotations

from duplex_services.discovery._model import Check, Registration


def target_of(check: Check, registration: Registration) -> str:
    """Return the target: ``host:port``, a URL, an endpoint or a command line.

    Raises:
        ValueError: there is none.
    """
    if check.kind == "command":
        return check.target
    host = f"[{registration.host}]" if ":" in registration.host else registration.host
    own = f"{host}:{registration.port}" if registration.port else ""
    if check.kind == "duplex":
        target = check.target or registration.endpoint or (f"tcp://{own}" if own else "")
    elif check.kind == "http":
        target = check.target or (f"http://{own}/" if own else "")
        if target.startswith("/"):
            target = f"http://{own}{target}" if own else ""
    else:
        target = check.target or own
    if not target:
        raise ValueError(f"the {check.kind} check has no target, and the instance no address")
    return target


def split_address(target: str) -> tuple[str, int]:
    """Return the host and the port of ``host:port``.

    Raises:
        ValueError: it is none.
    """
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{target!r} is no HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
