"""Discovery: services find each other.

Instances register and are found by name, followed live, and one of them leads. All of it is kept in a store, and answered
from memory.
"""

from __future__ import annotations

from duplex_services.discovery._directory import Directory as Directory
from duplex_services.discovery._dns._options import DnsOptions as DnsOptions
from duplex_services.discovery._dns._options import DnsStatistics as DnsStatistics
from duplex_services.discovery._errors import AlreadyThere as AlreadyThere
from duplex_services.discovery._errors import BadRequest as BadRequest
from duplex_services.discovery._errors import DirectoryError as DirectoryError
from duplex_services.discovery._errors import NotAllowed as NotAllowed
from duplex_services.discovery._errors import NotThere as NotThere
from duplex_services.discovery._errors import StoreAway as StoreAway
from duplex_services.discovery._errors import Superseded as Superseded
from duplex_services.discovery._fronts import open_dns as open_dns
from duplex_services.discovery._fronts import open_http as open_http
from duplex_services.discovery._http._options import HttpOptions as HttpOptions
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
from duplex_services.discovery._opening import open_directory as open_directory
from duplex_services.discovery._reading import Reading as Reading
from duplex_services.discovery._reading import Watching as Watching
from duplex_services.discovery._registrations import Session as Session
from duplex_services.discovery._rules._selecting import Filter as Filter
from duplex_services.discovery._service import discovery_service as discovery_service
from duplex_services.discovery._serving import open_server as open_server
