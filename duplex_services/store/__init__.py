"""Coordination below everything: keys with revisions, transactions, leases, watches, elections.

One contract over memory, a file, Consul, etcd and ZooKeeper. They differ in speed and in what they survive, never in
meaning.
"""

from __future__ import annotations

from duplex_services.store._leases import Lease as Lease
from duplex_services.store._model import Condition as Condition
from duplex_services.store._model import Conflict as Conflict
from duplex_services.store._model import Denied as Denied
from duplex_services.store._model import Entry as Entry
from duplex_services.store._model import Exists as Exists
from duplex_services.store._model import LastWriterWins as LastWriterWins
from duplex_services.store._model import LeaseLost as LeaseLost
from duplex_services.store._model import Missing as Missing
from duplex_services.store._model import OpenError as OpenError
from duplex_services.store._model import Refused as Refused
from duplex_services.store._model import Snapshot as Snapshot
from duplex_services.store._model import StoreError as StoreError
from duplex_services.store._model import StoreStatistics as StoreStatistics
from duplex_services.store._model import TooLarge as TooLarge
from duplex_services.store._model import Unavailable as Unavailable
from duplex_services.store._model import Unchanged as Unchanged
from duplex_services.store._model import Unknown as Unknown
from duplex_services.store._model import Update as Update
from duplex_services.store._model import exists as exists
from duplex_services.store._model import last_writer_wins as last_writer_wins
from duplex_services.store._model import missing as missing
from duplex_services.store._model import unchanged as unchanged
from duplex_services.store._open import check_url as check_url
from duplex_services.store._open import open_store as open_store
from duplex_services.store._service import store_service as store_service
from duplex_services.store._store import Store as Store
from duplex_services.store._store import Term as Term
from duplex_services.store._store import Watch as Watch
