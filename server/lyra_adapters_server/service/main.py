"""The server process: settings, start-up in order, and an orderly end. `lyra-adapters serve` calls main()."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import signal
import sys
from collections.abc import Sequence

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc

from lyra_adapters_server import failpoints, logs
from lyra_adapters_server.config import ConfigError, Settings, load_settings
from lyra_adapters_server.executors.local import LocalWorker
from lyra_adapters_server.jobs.log import EventLog
from lyra_adapters_server.jobs.supervisor import Rules, Supervisor
from lyra_adapters_server.registry.formats import Formats
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.presence import Presence
from lyra_adapters_server.registry.repair import repair
from lyra_adapters_server.service.context import ClassifyLimits, Service
from lyra_adapters_server.service.interceptor import RpcInterceptor
from lyra_adapters_server.service.reflection import serve_reflection
from lyra_adapters_server.service.servicer import AdapterServicer
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.trouble import SchemaTooNew, StorageFailed
from lyra_adapters_server.trainer.spec import WorkerConfig

log = structlog.get_logger()

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["AdapterService"].full_name
# How long streams and calls may take to end once the server stops.
GRACE_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the server until a signal ends it; returns the exit status."""
    try:
        settings = load_settings(sys.argv[1:] if argv is None else argv)
        logs.configure(settings.log_format, settings.log_level)
        failpoints.arm_from_environment()
        if points := failpoints.armed():
            log.warning("failpoints_armed", points=points)
        asyncio.run(serve(settings))
    except (ConfigError, failpoints.FailpointError, SchemaTooNew, StorageFailed) as error:
        print(f"lyra-adapters serve: {error}", file=sys.stderr)
        return 2
    return 0


async def serve(settings: Settings) -> None:
    """Starts everything, serves until SIGTERM or SIGINT, and stops everything. Raises ConfigError."""
    _check_listen(settings.listen)
    layout = Layout(settings.home)
    layout.prepare()
    settings.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(layout.database)
    database.migrate()
    repair(layout, database)

    with Presence(layout.servers) as presence:
        await _serve(settings, layout, database, presence)


async def _serve(settings: Settings, layout: Layout, database: Database, presence: Presence) -> None:
    worker = LocalWorker(
        WorkerConfig(
            bases=settings.bases,
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            nice=settings.nice,
            max_loaded_bases=settings.max_loaded_bases,
            cache_dir=str(settings.cache_dir),
            log_format=settings.log_format,
            log_level=settings.log_level,
        )
    )
    event_log = EventLog(database)
    rules = Rules(settings.max_attempts, settings.lease_s, settings.progress_interval_s)
    supervisor = Supervisor(database, event_log, worker, layout, rules, presence.owner)
    server = _make_server(settings)
    service = Service(
        database=database,
        layout=layout,
        formats=Formats(layout),
        log=event_log,
        executor=worker,
        supervisor=supervisor,
        bases=settings.bases,
        heartbeat_s=settings.heartbeat_s,
        classify_limits=ClassifyLimits(settings.classify_waiting, settings.classify_wait_s),
        start_time=now_us(),
        version=importlib.metadata.version("lyra-adapters"),
    )
    pb_grpc.add_AdapterServiceServicer_to_server(AdapterServicer(service), server)
    servicing = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicing, server)
    if settings.reflection:
        serve_reflection(server, (SERVICE_NAME, health.SERVICE_NAME))
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError:
        raise ConfigError(f"listen: can't listen on {settings.listen}; is another server running there?") from None
    probes = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicing, probes)
    probe_port = _bind_probes(probes, settings.health_listen)

    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    worker.start()
    supervisor.start()
    await server.start()
    await probes.start()
    await _set_health(servicing, health_pb2.HealthCheckResponse.SERVING)
    host = settings.listen.rpartition(":")[0]
    log.info("serving", address=f"{host}:{port}", home=str(settings.home), bases=[b.alias for b in settings.bases])
    if probe_port:
        log.info("serving_health", address=f"{settings.health_listen.rpartition(':')[0]}:{probe_port}")
    try:
        await stop.wait()
    finally:
        log.info("stopping")
        await _set_health(servicing, health_pb2.HealthCheckResponse.NOT_SERVING)
        await server.stop(GRACE_S)
        await supervisor.stop()
        await worker.stop()
        await probes.stop(None)
        database.close()
        log.info("stopped")


def _make_server(settings: Settings) -> grpc.aio.Server:
    size = settings.max_message_mib * 1024 * 1024
    return grpc.aio.server(
        interceptors=[RpcInterceptor()],
        options=[
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            # A second server on the port must fail, not share it.
            ("grpc.so_reuseport", 0),
            # Clients ping quiet connections every minute; the default would answer that with too_many_pings.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
    )


def _bind_probes(probes: grpc.aio.Server, address: str) -> int:
    """Binds the server that serves health alone; returns its port, 0 for none. Raises ConfigError."""
    if not address:
        return 0
    _split_address("health_listen", address)
    try:
        return int(probes.add_insecure_port(address))
    except RuntimeError:
        raise ConfigError(f"health_listen: can't listen on {address}; is another server running there?") from None


async def _set_health(
    servicing: health.aio.HealthServicer, status: health_pb2.HealthCheckResponse.ServingStatus
) -> None:
    for name in ("", SERVICE_NAME):
        await servicing.set(name, status)


def _check_listen(listen: str) -> None:
    """Raises ConfigError unless the address is loopback: whoever reaches the port may train and roll back."""
    host = _split_address("listen", listen)
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host.strip("[]")).is_loopback:
            return
    if host != "localhost":
        raise ConfigError(
            f"listen: {host} is not a loopback address, and whoever reaches the port may train and roll back. Listen "
            "on 127.0.0.1 and put a proxy that checks callers in front."
        )


def _split_address(setting: str, address: str) -> str:
    """The host of a HOST:PORT. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise ConfigError(f"{setting}: {address!r} is no HOST:PORT")
    return host


if __name__ == "__main__":
    sys.exit(main())
