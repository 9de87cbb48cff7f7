"""Thin client of lyra-adapters: trains, versions and rolls back LoRA adapters for an NLI model, over gRPC."""

from importlib.metadata import PackageNotFoundError, version

from lyra_adapters.aio import AsyncAdapterClient
from lyra_adapters.aio_streams import AsyncChangeStream, AsyncEventStream
from lyra_adapters.client import AdapterClient
from lyra_adapters.errors import (
    Aborted,
    AdapterError,
    AlreadyExists,
    CallCancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotDue,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    ServerFault,
    TrainingCancelled,
    TrainingFailed,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from lyra_adapters.files import Downloaded
from lyra_adapters.models import *  # noqa: F403
from lyra_adapters.models import __all__ as _models
from lyra_adapters.resume import Reconnect, ReconnectPolicy
from lyra_adapters.streams import ChangeStream, EventStream

try:
    __version__ = version("lyra-adapters")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "Aborted",
    "AdapterClient",
    "AdapterError",
    "AlreadyExists",
    "AsyncAdapterClient",
    "AsyncChangeStream",
    "AsyncEventStream",
    "CallCancelled",
    "ChangeStream",
    "DataLoss",
    "DeadlineExceeded",
    "Downloaded",
    "EventStream",
    "FailedPrecondition",
    "FieldViolation",
    "InvalidArgument",
    "NotDue",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Reconnect",
    "ReconnectPolicy",
    "ResourceExhausted",
    "ServerFault",
    "TrainingCancelled",
    "TrainingFailed",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "__version__",
    *_models,
]
