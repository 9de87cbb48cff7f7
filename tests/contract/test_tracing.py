"""Traces: OpenTelemetry's variables switch them on, and a collector gets a span for each call."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters_server.service.tracing import exporter_wanted
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from server_process import ServerProcess
from train_requests import train_request

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans over OTLP as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[Span]:
        resources = [resource for request in self.requests for resource in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        import gzip

        body = self.rfile.read(int(self.headers["content-length"]))
        body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_collector_gets_a_span_for_each_call(
    collector: Collector, quick_server: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    server = quick_server()
    stub = server.stub()
    assert [event.WhichOneof("event") for event in stub.Train(train_request("traced", epochs=2))][-1] == "succeeded"
    stub.Status(pb.StatusRequest(), metadata=[("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")])
    with pytest.raises(grpc.RpcError):
        stub.Status(pb.StatusRequest(job_id="nobody"))
    assert server.stop() == 0
    (name,) = {
        attribute.value.string_value
        for request in collector.requests
        for resource in request.resource_spans
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
    }
    assert name == "lyra-adapters"
    spans = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert [span.name.rpartition("/")[2] for span in spans] == ["Train", "Status", "Status"]
    codes = [
        {attribute.key: attribute.value.int_value for attribute in span.attributes}["rpc.grpc.status_code"]
        for span in spans
    ]
    assert codes == [0, 0, grpc.StatusCode.NOT_FOUND.value[0]]
    assert spans[1].trace_id.hex() == TRACE
    # The stream's span lasts as long as the stream, and no row's text is in any.
    assert spans[0].end_time_unix_nano > spans[0].start_time_unix_nano
    assert b"premise number" not in b"".join(span.SerializeToString() for span in spans)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, ""),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, ""),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, "otlp"),
    ],
)
def test_off_unless_asked_for(environment: dict[str, str], wanted: str) -> None:
    assert exporter_wanted(environment) == wanted


def test_an_exporter_that_is_not_there_is_told_and_the_server_serves(
    quick_server: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "no_such")
    server = quick_server()
    assert "OTEL_TRACES_EXPORTER" in server.logged("traces_off")[0]["message"]
    assert server.stub().Status(pb.StatusRequest()).service.version
