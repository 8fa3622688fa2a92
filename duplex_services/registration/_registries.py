"""Registrator's own registries, by its URLs."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duplex
from duplex_services._shared._http_client import Endpoint, HttpClient
from duplex_services.registration._ledger import Ledger
from duplex_services.registration._model import Service
from duplex_services.registration._rules._layouts import (
    Address,
    key_of,
    read_url,
    skydns_prefix,
    skydns_value,
    zookeeper_key,
    zookeeper_value,
)
from duplex_services.registration._target import Target
from duplex_services.registration._targets._consul import ConsulKeys, ConsulTarget
from duplex_services.registration._targets._etcd import EtcdKeys
from duplex_services.registration._targets._keys import KeyTarget
from duplex_services.registration._targets._zookeeper import ZooKeeperKeys
from duplex_services.store.consul import ConsulApi

#: Ports of those who are not told another.
_CONSUL: Final = 8500
_ETCD: Final = 2379
_ZOOKEEPER: Final = 2181


def open_registry(
    text: str, owner: str, state: Path, ttl: float, environment: Mapping[str, str] = os.environ
) -> Target:
    """Return a registry.

    Args:
        text: its URL; the scheme is one of ``consul``, ``consul-unix``, ``consul-tls``, ``consulkv``, ``consulkv-unix``,
            ``etcd``, ``skydns2`` and ``zookeeper``.
        owner: whose entries are kept there.
        state: the state folder.
        ttl: seconds that entries stay without this process; 0 for as long as nobody deletes them.
        environment: has Consul's own variables.

    Raises:
        ConfigurationError: the URL makes no sense, or a certificate cannot be read.
    """
    scheme = text.partition(":")[0]
    try:
        if scheme in ("consul", "consul-unix", "consul-tls"):
            tls = _consul_tls(environment) if scheme == "consul-tls" else None
            return ConsulTarget(text, _consul(read_url(text, _CONSUL), tls, environment), owner)
        if scheme in ("consulkv", "consulkv-unix"):
            where = read_url(text, _CONSUL)
            keys = ConsulKeys(_consul(where, None, environment))
            return KeyTarget(text, keys, where.path, key_of, _address, owner, Ledger(state, text))
        if scheme == "zookeeper":
            where = read_url(text, _ZOOKEEPER)
            nodes = ZooKeeperKeys(f"{where.host}:{where.port}")
            ledger = Ledger(state, text)
            return KeyTarget(text, nodes, where.path, zookeeper_key, zookeeper_value, owner, ledger)
        where = read_url(text, _ETCD)
        etcd = EtcdKeys(Endpoint(where.host, where.port), ttl)
        if scheme == "skydns2":
            prefix = skydns_prefix(where.path)
            return KeyTarget(text, etcd, prefix, key_of, skydns_value, owner, Ledger(state, text))
        return KeyTarget(text, etcd, where.path, key_of, _address, owner, Ledger(state, text))
    except ValueError as error:
        raise duplex.ConfigurationError(str(error)) from error


def _address(service: Service) -> str:
    return service.address


def _consul(where: Address, tls: ssl.SSLContext | None, environment: Mapping[str, str]) -> ConsulApi:
    socket = Path(where.socket) if where.socket else None
    token = environment.get("CONSUL_HTTP_TOKEN", "")
    return ConsulApi(HttpClient([Endpoint(where.host, where.port, tls, socket)]), token=token)


def _consul_tls(environment: Mapping[str, str]) -> ssl.SSLContext:
    names = ("CONSUL_CACERT", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY")
    authority, certificate, key = (environment.get(name) or None for name in names)
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{', '.join(names)}: {error}") from error
    return context
