"""Registration: what runs is what is listed.

A host's containers are watched, and registries are kept equal to what runs: which of their ports are services, under
which names and addresses, how they are, and when they go.
"""

from __future__ import annotations

from duplex_services.registration._model import Container as Container
from duplex_services.registration._model import Desired as Desired
from duplex_services.registration._model import Entry as Entry
from duplex_services.registration._model import Finding as Finding
from duplex_services.registration._model import Host as Host
from duplex_services.registration._model import Network as Network
from duplex_services.registration._model import Options as Options
from duplex_services.registration._model import Port as Port
from duplex_services.registration._model import Service as Service
from duplex_services.registration._rules._desired import desired as desired
from duplex_services.registration._rules._difference import Difference as Difference
from duplex_services.registration._rules._difference import difference as difference
