"""The server process: settings, start-up in order, and an orderly end. `lyra-adapters serve` calls main()."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import os
import sys
from collections.abc import Sequence

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc

from lyra_adapters_server import failpoints, logs
from lyra_adapters_server.config import ConfigError, Settings, load_settings
from lyra_adapters_server.executors.watch import HangLimits
from lyra_adapters_server.jobs.formats import FormatMaker
from lyra_adapters_server.jobs.limits import QueueLimits
from lyra_adapters_server.jobs.log import EventLog
from lyra_adapters_server.jobs.retention import Keep, Retention
from lyra_adapters_server.jobs.stopping import Stopping
from lyra_adapters_server.jobs.supervisor import Rules, Supervisor
from lyra_adapters_server.registry.formats import Format, Formats
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.presence import Presence
from lyra_adapters_server.registry.repair import repair
from lyra_adapters_server.service.auth.authority import Authority
from lyra_adapters_server.service.auth.exposure import check_exposure, is_loopback, split_address
from lyra_adapters_server.service.auth.gate import Gate
from lyra_adapters_server.service.auth.tls import TlsError, TlsFiles, TlsKeeper
from lyra_adapters_server.service.auth.tokens import TokensFileError
from lyra_adapters_server.service.context import ClassifyLimits, Service
from lyra_adapters_server.service.decoding import DecodingInterceptor
from lyra_adapters_server.service.general_rows import general_rows
from lyra_adapters_server.service.interceptor import PREFIX, RpcInterceptor
from lyra_adapters_server.service.measured_worker import MeasuredWorker
from lyra_adapters_server.service.metrics import Metrics
from lyra_adapters_server.service.metrics_server import MetricsServer
from lyra_adapters_server.service.reflection import serve_reflection
from lyra_adapters_server.service.servicer import AdapterServicer
from lyra_adapters_server.service.signals import on_signals
from lyra_adapters_server.service.stored_metrics import StoredMetrics
from lyra_adapters_server.service.streams import StreamGate, StreamLimits
from lyra_adapters_server.service.tracing import Tracing
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.private import private_directory
from lyra_adapters_server.storage.trouble import SchemaTooNew, StorageFailed
from lyra_adapters_server.trainer.spec import WorkerConfig

log = structlog.get_logger()

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["AdapterService"].full_name
KEEPALIVE: tuple[tuple[str, int], ...] = (
    # Clients ping quiet connections every minute; the default would answer that with too_many_pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Pings go on while a reader takes nothing; the default stops after two.
    ("grpc.http2.max_pings_without_data", 0),
)
# A client's certificate is looked at when it connects. So connections are not kept for ever: after ten minutes new
# calls need a new one, and an hour later the streams that are left on the old one end with UNAVAILABLE.
CLIENT_CERTIFICATES: tuple[tuple[str, int], ...] = (
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
)
# How long calls may take to end once the server stops.
GRACE_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the server until a signal ends it; returns the exit status."""
    try:
        settings = load_settings(sys.argv[1:] if argv is None else argv)
        logs.configure(settings.log_format, settings.log_level)
        # Whatever is written is the server's user's alone, whoever writes it: this process, the trainer, a library.
        os.umask(0o077)
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
    check_exposure(settings)
    gate = _gate(settings)
    layout = Layout(settings.home)
    layout.prepare()
    private_directory(settings.cache_dir)
    database = Database(layout.database)
    database.migrate()
    repair(layout, database)

    with Presence(layout.servers) as presence:
        await _serve(settings, gate, layout, database, presence)


async def _serve(settings: Settings, gate: Gate, layout: Layout, database: Database, presence: Presence) -> None:
    general = general_rows(settings)
    metrics = Metrics()
    worker = MeasuredWorker(
        metrics,
        WorkerConfig(
            bases=settings.bases,
            device=settings.device,
            dtype=settings.dtype,
            classify_dtype=settings.classify_dtype,
            compiled_kernels=settings.compiled_kernels,
            threads=settings.threads,
            nice=settings.nice,
            max_loaded_bases=settings.max_loaded_bases,
            cache_dir=str(settings.cache_dir),
            log_format=settings.log_format,
            log_level=settings.log_level,
        ),
        HangLimits(settings.hang_s, settings.hang_loading_s),
    )
    stopping = Stopping()
    stopping.on_begin(lambda: database.wakers.end(stopping.refuse))
    rules = Rules(
        max_attempts=settings.max_attempts,
        lease_s=settings.lease_s,
        progress_interval_s=settings.progress_interval_s,
        checkpoint_steps=settings.checkpoint_steps,
        checkpoint_seconds=settings.checkpoint_seconds,
    )
    event_log = EventLog(database)
    at_publication = [Format(form.upper()) for form in settings.formats]
    maker = FormatMaker(database, layout, worker, at_publication, settings.ollama_models)
    supervisor = Supervisor(database, event_log, worker, layout, rules, maker, presence.owner, general)
    retention = Retention(database, layout, Keep(settings.keep_versions, settings.keep_job_days))
    tracing = Tracing()
    server = _make_server(settings, gate, metrics, tracing)
    service = Service(
        database=database,
        layout=layout,
        formats=Formats(layout, maker.makers()),
        log=event_log,
        executor=worker,
        supervisor=supervisor,
        stopping=stopping,
        bases=settings.bases,
        general=general,
        heartbeat_s=settings.heartbeat_s,
        classify_limits=ClassifyLimits(settings.classify_waiting, settings.classify_wait_s),
        queue_limits=QueueLimits(settings.max_queued_jobs, settings.max_queued_jobs_per_principal),
        metrics=metrics,
        start_time=now_us(),
        version=importlib.metadata.version("lyra-adapters"),
    )
    pb_grpc.add_AdapterServiceServicer_to_server(AdapterServicer(service), server)
    servicing = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicing, server)
    if settings.reflection:
        serve_reflection(server, (SERVICE_NAME, health.SERVICE_NAME))
    port = _bind(server, settings)
    probes = grpc.aio.server(interceptors=[DecodingInterceptor(PREFIX)], options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicing, probes)
    probe_port = _bind_probes(probes, settings.health_listen)
    metrics.registry.register(StoredMetrics(database, lambda: worker.pid))
    exposition = _serve_metrics(metrics, settings.metrics_listen)

    stop = on_signals(worker.kill)
    worker.start()
    supervisor.start()
    retention.start()
    await server.start()
    await probes.start()
    # What has been imported stays: a look through all of it for cycles takes a tenth of a second, in which no call is
    # answered, and a thousand new streams are reason enough for several.
    gc.collect()
    gc.freeze()
    await _set_health(servicing, health_pb2.HealthCheckResponse.SERVING)
    host = settings.listen.rpartition(":")[0]
    log.info("serving", address=f"{host}:{port}", home=str(settings.home), bases=[b.alias for b in settings.bases])
    if settings.insecure and not is_loopback(host):
        log.warning("insecure", message="listening beyond loopback as told: see that strangers are kept out")
    if probe_port:
        log.info("serving_health", address=f"{settings.health_listen.rpartition(':')[0]}:{probe_port}")
    if exposition:
        log.info("serving_metrics", address=f"{settings.metrics_listen.rpartition(':')[0]}:{exposition.port}")
    try:
        await stop.wait()
    finally:
        log.info("stopping")
        await _set_health(servicing, health_pb2.HealthCheckResponse.NOT_SERVING)
        # Streams end and trainings are refused with a hint when to come back; other calls are answered meanwhile.
        stopping.begin()
        await retention.stop()
        await supervisor.stop()
        await maker.stop()
        await server.stop(GRACE_S)
        await worker.stop()
        await probes.stop(None)
        if exposition:
            await asyncio.to_thread(exposition.close)
        await asyncio.to_thread(tracing.close)
        database.close()
        log.info("stopped")


def _make_server(settings: Settings, gate: Gate, metrics: Metrics, tracing: Tracing) -> grpc.aio.Server:
    streams = StreamGate(StreamLimits(settings.max_streams, settings.max_streams_per_principal), metrics)
    return grpc.aio.server(
        interceptors=[
            *tracing.interceptors,
            RpcInterceptor(gate, streams, metrics),
            DecodingInterceptor(PREFIX),
        ],
        options=connection_options(settings),
    )


def connection_options(settings: Settings) -> list[tuple[str, int]]:
    """How gRPC treats connections."""
    size = settings.max_message_mib * 1024 * 1024
    return [
        ("grpc.max_receive_message_length", size),
        ("grpc.max_send_message_length", size),
        # A second server on the port must fail, not share it.
        ("grpc.so_reuseport", 0),
        *KEEPALIVE,
        *(CLIENT_CERTIFICATES if settings.tls_client_ca else ()),
    ]


def _bind_probes(probes: grpc.aio.Server, address: str) -> int:
    """Binds the server that serves health alone; returns its port, 0 for none. Raises ConfigError."""
    if not address:
        return 0
    split_address("health_listen", address)
    try:
        return int(probes.add_insecure_port(address))
    except RuntimeError:
        raise ConfigError(f"health_listen: can't listen on {address}; is another server running there?") from None


def _serve_metrics(metrics: Metrics, address: str) -> MetricsServer | None:
    """Serves the metrics at an address; None for an empty one. Raises ConfigError."""
    if not address:
        return None
    host = split_address("metrics_listen", address)
    try:
        return MetricsServer(metrics.registry, host.strip("[]"), int(address.rpartition(":")[2]))
    except OSError as error:
        raise ConfigError(f"metrics_listen: can't listen on {address}: {error.strerror or error}") from None


async def _set_health(
    servicing: health.aio.HealthServicer, status: health_pb2.HealthCheckResponse.ServingStatus
) -> None:
    for name in ("", SERVICE_NAME):
        await servicing.set(name, status)


def _gate(settings: Settings) -> Gate:
    """What stands before every RPC. Raises ConfigError."""
    try:
        return Gate(Authority(settings.tokens_file, certificates=settings.tls_client_ca is not None))
    except TokensFileError as error:
        raise ConfigError(f"tokens_file: {error}") from None


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    """Binds the server to its address; returns the port. Raises ConfigError."""
    try:
        if settings.tls_cert and settings.tls_key:
            keeper = TlsKeeper(TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca))
            return int(server.add_secure_port(settings.listen, keeper.credentials()))
        return int(server.add_insecure_port(settings.listen))
    except TlsError as error:
        raise ConfigError(str(error)) from None
    except RuntimeError:
        raise ConfigError(f"listen: can't listen on {settings.listen}; is another server running there?") from None


if __name__ == "__main__":
    sys.exit(main())
