"""Where services are: what says so, and goes on saying so when it changes.

Whatever has a method ``resolve(service)``, which gives one set of endpoints after the other, is a :class:`Resolver`. There are
some here, each with a scheme of its own, so that a place to look can be written as a text::

    tcp://10.0.0.1:7700                  that endpoint, and so for every scheme that can be connected
    file:///etc/calc.json                what the file lists, whenever it changes
    host://calc.internal:7700            the addresses of a host as the system knows them
    dns:///calc.internal:7700            those that name servers give, for as long as they say; an extra, ``duplex-rpc[dns]``
    dns:///_calc._tcp.internal           the same of SRV records, which have ports and weights
    dns://10.0.0.53:53/...               asks that name server
    discovery://calc                     the instances of a service that are registered and serve, by servers of discovery

A package adds a scheme by an entry point of the group ``duplex.resolvers``: its name is the scheme, and what it names is called
with the text and returns a resolver.
"""

from __future__ import annotations

from duplex.resolvers._directory import Directory as Directory
from duplex.resolvers._directory import Linking as Linking
from duplex.resolvers._directory import Offer as Offer
from duplex.resolvers._directory import open_directory as open_directory
from duplex.resolvers._dns import DnsResolver as DnsResolver
from duplex.resolvers._endpoint import Endpoint as Endpoint
from duplex.resolvers._file import FileResolver as FileResolver
from duplex.resolvers._host import HostResolver as HostResolver
from duplex.resolvers._resolver import Known as Known
from duplex.resolvers._resolver import Resolver as Resolver
from duplex.resolvers._schemes import check_linkable as check_linkable
from duplex.resolvers._schemes import is_looked_up as is_looked_up
from duplex.resolvers._schemes import resolver_for as resolver_for
from duplex.resolvers._static import StaticResolver as StaticResolver

__all__ = (
    "Directory",
    "DnsResolver",
    "Endpoint",
    "FileResolver",
    "HostResolver",
    "Known",
    "Linking",
    "Offer",
    "Resolver",
    "StaticResolver",
    "check_linkable",
    "is_looked_up",
    "open_directory",
    "resolver_for",
)
