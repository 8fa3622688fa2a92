"""All that ``duplex`` exports; the package takes it from here when a name of it is first asked for."""

from __future__ import annotations

from inspect import get_annotations as _get_annotations

from duplex._authentication import Authenticator as Authenticator
from duplex._authentication import Handshake as Handshake
from duplex._balancing import ConsistentHash as ConsistentHash
from duplex._config import Advertise as Advertise
from duplex._config import Idempotency as Idempotency
from duplex._config import Keepalive as Keepalive
from duplex._config import Limits as Limits
from duplex._config import Reconnect as Reconnect
from duplex._errors import Aborted as Aborted
from duplex._errors import AlreadyExists as AlreadyExists
from duplex._errors import BindError as BindError
from duplex._errors import CallCancelled as CallCancelled
from duplex._errors import CodecError as CodecError
from duplex._errors import ConfigurationError as ConfigurationError
from duplex._errors import ConnectError as ConnectError
from duplex._errors import DataLoss as DataLoss
from duplex._errors import DeadlineExceeded as DeadlineExceeded
from duplex._errors import DecodeError as DecodeError
from duplex._errors import DuplexError as DuplexError
from duplex._errors import EncodeError as EncodeError
from duplex._errors import FailedPrecondition as FailedPrecondition
from duplex._errors import HandshakeError as HandshakeError
from duplex._errors import Internal as Internal
from duplex._errors import InvalidArgument as InvalidArgument
from duplex._errors import LocalProtocolError as LocalProtocolError
from duplex._errors import MessageTooLarge as MessageTooLarge
from duplex._errors import NoPeers as NoPeers
from duplex._errors import NotFound as NotFound
from duplex._errors import OutOfRange as OutOfRange
from duplex._errors import PeerLost as PeerLost
from duplex._errors import PermissionDenied as PermissionDenied
from duplex._errors import ProtocolError as ProtocolError
from duplex._errors import RemoteProtocolError as RemoteProtocolError
from duplex._errors import ResourceExhausted as ResourceExhausted
from duplex._errors import RPCError as RPCError
from duplex._errors import Unauthenticated as Unauthenticated
from duplex._errors import Unavailable as Unavailable
from duplex._errors import Unimplemented as Unimplemented
from duplex._errors import Unknown as Unknown
from duplex._identity import Identity as Identity
from duplex._metadata import Metadata as Metadata
from duplex._open import open_peer as open_peer
from duplex._peer import Link as Link
from duplex._peer import Peer as Peer
from duplex._policies import CircuitBreaker as CircuitBreaker
from duplex._policies import HedgingPolicy as HedgingPolicy
from duplex._policies import OutlierDetection as OutlierDetection
from duplex._policies import RetryPolicy as RetryPolicy
from duplex._status import StatusCode as StatusCode
from duplex.client import MethodProxy as MethodProxy
from duplex.client import ServiceProxy as ServiceProxy
from duplex.client._middleware import CallingMiddleware as CallingMiddleware
from duplex.client._middleware import MadeCall as MadeCall
from duplex.client._middleware import NextCall as NextCall
from duplex.client._open import OpenCall as OpenCall
from duplex.client.following import FollowedService as FollowedService
from duplex.engine._counting import MethodStatistics as MethodStatistics
from duplex.engine._handler import Kind as Kind
from duplex.engine._peer_info import PeerInfo as PeerInfo
from duplex.engine._statistics import LinkStatistics as LinkStatistics
from duplex.engine._statistics import PeerStatistics as PeerStatistics
from duplex.engine.calling import CallOptions as CallOptions
from duplex.engine.calling import Gathering as Gathering
from duplex.engine.calling import Outcome as Outcome
from duplex.engine.calling import OutgoingCall as OutgoingCall
from duplex.engine.calling import Streaming as Streaming
from duplex.engine.calling import Unary as Unary
from duplex.engine.channels import Callback as Callback
from duplex.engine.channels import Channel as Channel
from duplex.engine.channels import ChannelStatistics as ChannelStatistics
from duplex.engine.channels import ReceiveChannel as ReceiveChannel
from duplex.engine.channels import ResumableStream as ResumableStream
from duplex.engine.channels import SendChannel as SendChannel
from duplex.engine.channels import Tracked as Tracked
from duplex.engine.links import CallInfo as CallInfo
from duplex.engine.serving import AskedCall as AskedCall
from duplex.engine.serving import CallContext as CallContext
from duplex.engine.serving import Next as Next
from duplex.engine.serving import ServedCall as ServedCall
from duplex.engine.serving import ServingMiddleware as ServingMiddleware
from duplex.engine.serving import UnservedCall as UnservedCall
from duplex.engine.serving import current_call as current_call
from duplex.engine.threads import detached as detached
from duplex.resolvers import Endpoint as Endpoint
from duplex.resolvers import Resolver as Resolver
from duplex.service import Secret as Secret
from duplex.service import Service as Service
from duplex.service import Topic as Topic
from duplex.service import rpc as rpc
from duplex.service import services_of as services_of
from duplex.transports._tls import TLS as TLS

_values = [value for name, value in globals().items() if not name.startswith("_")]
# What the annotations of a class name is found in the module where it was written, so they are looked up before
# its classes say that they live here; ``help(duplex)`` evaluates them.
for _value in _values:
    if isinstance(_value, type) and _value.__module__.startswith("duplex."):
        _value.__annotations__ = _get_annotations(_value, eval_str=True)
for _value in _values:
    # Tracebacks and documentation show where users find a thing, not where it is written.
    if getattr(_value, "__module__", "").startswith("duplex."):
        _value.__module__ = "duplex"
del _values, _value
