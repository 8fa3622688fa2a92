"""Discovery: services find each other.

Instances register and are found by name, followed live, and one of them leads. All of it is kept in a store, and answered
from memory.
"""

from __future__ import annotations

from duplex_services.discovery._model import Batch as Batch
from duplex_services.discovery._model import Change as Change
from duplex_services.discovery._model import Check as Check
from duplex_services.discovery._model import Explanation as Explanation
from duplex_services.discovery._model import Instance as Instance
from duplex_services.discovery._model import Leader as Leader
from duplex_services.discovery._model import Listing as Listing
from duplex_services.discovery._model import Position as Position
from duplex_services.discovery._model import Registration as Registration
from duplex_services.discovery._model import ServiceConfig as ServiceConfig
from duplex_services.discovery._model import ServiceInfo as ServiceInfo
from duplex_services.discovery._model import Status as Status
from duplex_services.discovery._reading import Reading as Reading
from duplex_services.discovery._reading import Watching as Watching
from duplex_services.discovery._rules._selecting import Filter as Filter
