"""What the backends share that speak HTTP: where their servers are, who we are there, and what a failure means."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import duplex
from duplex_services._shared._http_client import Endpoint, HttpClient, HttpError, NotSent
from duplex_services.store._backend import ANSWER_WITHIN
from duplex_services.store._model import Unavailable, Unknown
from duplex_services.store._rules._keys import check_prefix
from duplex_services.store._url import StoreURL

#: Options of a URL that say how to speak with a server.
TLS_OPTIONS: Final = ("tls", "ca", "cert", "key")
#: The option that keeps a password or a token out of the URL, which shows in lists of processes.
SECRET_OPTION: Final = "password-file"

#: Bytes of a whole listing.
MAX_BODY: Final = 256 * 1024 * 1024
#: Where keys live if the URL does not say.
_ROOT: Final = "duplex"
#: Bytes that leave a key its 200 in every store.
_MAX_ROOT: Final = 100


def open_client(url: StoreURL, port: int) -> HttpClient:
    """Return a client for the hosts of a URL.

    Args:
        url: which hosts, and with which certificates.
        port: for hosts without one.

    Raises:
        ConfigurationError: what is wrong about the URL, or about a file that it names.
    """
    tls = tls_of(url)
    endpoints = [Endpoint(host, number, tls) for host, number in url.endpoints(port)]
    return HttpClient(endpoints, answer_within=ANSWER_WITHIN, max_body=MAX_BODY)


def tls_of(url: StoreURL) -> ssl.SSLContext | None:
    """Return how to check and show certificates; ``None`` if the connection is plain.

    Raises:
        ConfigurationError: an option is wrong, or a file.
    """
    options = url.options
    if options.get("tls", "true") not in ("true", "false"):
        raise duplex.ConfigurationError(f"tls={options['tls']} of {url.address} is neither true nor false")
    given = [name for name in TLS_OPTIONS[1:] if name in options]
    if options.get("tls", "true" if given else "false") == "false":
        if given:
            raise duplex.ConfigurationError(f"{url.address} has {given[0]}=, but tls=false")
        return None
    if "key" in options and "cert" not in options:
        raise duplex.ConfigurationError(f"{url.address} has key=, but no cert= that it belongs to")
    try:
        context = ssl.create_default_context(cafile=options.get("ca"))
        if "cert" in options:
            context.load_cert_chain(options["cert"], options.get("key"))
    except OSError as error:
        files = ", ".join(f"{name}={options[name]}" for name in given)
        raise duplex.ConfigurationError(f"the certificates of {url.address} ({files}): {error}") from error
    return context


def secret_of(url: StoreURL) -> str:
    """Return the password of a URL, or what is in the file that it names instead; empty if there is none.

    Raises:
        ConfigurationError: there are both, or the file cannot be read or is empty.
    """
    path = url.options.get(SECRET_OPTION)
    if path is None:
        return url.password
    if url.password:
        raise duplex.ConfigurationError(f"{url.address} has a password and {SECRET_OPTION}=")
    try:
        found = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise duplex.ConfigurationError(f"{SECRET_OPTION}={path} of {url.address}: {error}") from error
    if not found:
        raise duplex.ConfigurationError(f"{SECRET_OPTION}={path} of {url.address} is empty")
    return found


def root_of(url: StoreURL) -> str:
    """Return what comes before every key: the path of a URL, or ``duplex``, and a slash.

    Raises:
        ConfigurationError: it can be no part of a key.
    """
    root = url.path.strip("/") or _ROOT
    try:
        check_prefix(root)
    except (ValueError, duplex.DuplexError) as error:
        raise duplex.ConfigurationError(f"the path of {url.address}: {error}") from None
    if not all(root.split("/")) or len(root.encode()) > _MAX_ROOT:
        raise duplex.ConfigurationError(
            f"the path of {url.address} is parts between single slashes, of {_MAX_ROOT} bytes at most"
        )
    return f"{root}/"


def failure_of(error: HttpError, *, is_read: bool) -> Unavailable | Unknown:
    """Return what a request that was not answered means.

    Args:
        error: how it ended.
        is_read: whether it would have changed nothing.
    """
    if is_read or isinstance(error, NotSent):
        return Unavailable(str(error))
    return Unknown(str(error))
