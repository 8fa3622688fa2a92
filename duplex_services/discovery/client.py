"""Discovery, for callers: the methods that a server of it has, and how to stay registered and informed over any failure.

::

    async with open_client("tcp://discovery-1:7710", "tcp://discovery-2:7710") as peer:
        async with keep_registered(peer, "calc", Registration("calc-1", endpoint=endpoint)):
            ...
        async with follow(peer, "calc") as calc:
            async for news in calc:
                print(calc.instances)
"""

from __future__ import annotations

from duplex_services.discovery._following import Following as Following
from duplex_services.discovery._following import News as News
from duplex_services.discovery._following import follow as follow
from duplex_services.discovery._model import DEFAULT_TTL as DEFAULT_TTL
from duplex_services.discovery._model import Batch as Batch
from duplex_services.discovery._model import Change as Change
from duplex_services.discovery._model import Check as Check
from duplex_services.discovery._model import Explanation as Explanation
from duplex_services.discovery._model import Health as Health
from duplex_services.discovery._model import Instance as Instance
from duplex_services.discovery._model import Leader as Leader
from duplex_services.discovery._model import Listing as Listing
from duplex_services.discovery._model import Position as Position
from duplex_services.discovery._model import Registration as Registration
from duplex_services.discovery._model import ServerInfo as ServerInfo
from duplex_services.discovery._model import ServiceConfig as ServiceConfig
from duplex_services.discovery._model import ServiceInfo as ServiceInfo
from duplex_services.discovery._model import Status as Status
from duplex_services.discovery._protocol import DiscoveryService as DiscoveryService
from duplex_services.discovery._registering import Registered as Registered
from duplex_services.discovery._registering import keep_registered as keep_registered
from duplex_services.discovery._rules._selecting import Filter as Filter
from duplex_services.discovery._serving import open_client as open_client
from duplex_services.discovery._wire import OPERATE as OPERATE
from duplex_services.discovery._wire import REGISTER as REGISTER
from duplex_services.discovery._wire import SERVICE as SERVICE
from duplex_services.discovery._wire import Diff as Diff
from duplex_services.discovery._wire import Granted as Granted
from duplex_services.discovery._wire import LeaderNews as LeaderNews
from duplex_services.discovery._wire import Overview as Overview
from duplex_services.discovery._wire import Report as Report
