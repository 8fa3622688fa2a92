"""The serving side: from Python functions to methods that can be called, and their description."""

from __future__ import annotations

from duplex.service._arguments import Parameter as Parameter
from duplex.service._method import MethodSpec as MethodSpec
from duplex.service._method import RpcOptions as RpcOptions
from duplex.service._schema import MethodDescription as MethodDescription
from duplex.service._schema import ParameterDescription as ParameterDescription
from duplex.service._schema import ServiceDescription as ServiceDescription
from duplex.service._schema import TypeDescription as TypeDescription
from duplex.service._schema import describe_method as describe_method
from duplex.service._schema import describe_service as describe_service
from duplex.service._secret import Secret as Secret
from duplex.service._service import Service as Service
from duplex.service._service import rpc as rpc
from duplex.service._service import services_of as services_of
from duplex.service._signature import callback_spec as callback_spec
from duplex.service._topic import Topic as Topic

__all__ = (
    "MethodDescription",
    "MethodSpec",
    "Parameter",
    "ParameterDescription",
    "RpcOptions",
    "Secret",
    "Service",
    "ServiceDescription",
    "Topic",
    "TypeDescription",
    "callback_spec",
    "describe_method",
    "describe_service",
    "rpc",
    "services_of",
)
