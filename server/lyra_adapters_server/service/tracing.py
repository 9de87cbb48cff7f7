"""OpenTelemetry traces of the RPCs: an optional extra, set up by OpenTelemetry's own variables and off without them.

A span has the method, the code, the caller's address and a refusal's message; no field of a request.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points, version
from typing import Any

import grpc
import structlog

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# What OTEL_TRACES_EXPORTER calls the exporter that the extra brings.
NAMES = {"otlp": "otlp_proto_http"}
SERVICE = "lyra-adapters"


def exporter_wanted(environment: Mapping[str, str]) -> str:
    """The exporter that the variables ask for; empty: none.

    `OTEL_TRACES_EXPORTER` names it (`otlp`, `console`, `none`); an OTLP endpoint alone asks for `otlp`.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    asked = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if asked == "none":
        return ""
    return asked or ("otlp" if any(environment.get(name) for name in ENDPOINTS) else "")


class Tracing:
    """Traces of one server."""

    def __init__(self) -> None:
        self.interceptors: list[grpc.aio.ServerInterceptor] = []
        self._shutdown: Callable[[], Any] | None = None
        if wanted := exporter_wanted(os.environ):
            self._begin(wanted)

    def close(self) -> None:
        """Sends the spans that are left."""
        if self._shutdown:
            self._shutdown()

    def _begin(self, wanted: str) -> None:
        try:
            from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters
            from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            log.warning("traces_off", message="variables ask for traces; they need: pip install 'lyra-adapters[otel]'")
            return
        found = entry_points(group="opentelemetry_traces_exporter", name=NAMES.get(wanted, wanted))
        if not found:
            log.warning("traces_off", message="OTEL_TRACES_EXPORTER names no exporter that is installed")
            return
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what is said here.
        known = {SERVICE_VERSION: version("lyra-adapters")}
        provider = TracerProvider(resource=Resource.create(known if _is_named() else {SERVICE_NAME: SERVICE, **known}))
        (exporter,) = {entry.value: entry.load() for entry in found}.values()
        provider.add_span_processor(BatchSpanProcessor(exporter()))
        self.interceptors = [
            aio_server_interceptor(tracer_provider=provider, filter_=filters.negate(filters.health_check()))
        ]
        self._shutdown = provider.shutdown
        log.info("traces_on", exporter=wanted)


def _is_named() -> bool:
    return bool(os.environ.get("OTEL_SERVICE_NAME")) or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
