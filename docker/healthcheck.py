"""Asks the server in this container whether it serves (grpc.health.v1); exits 0 if it does, else 1.

The address is the server's own setting: LYRA_ADAPTERS_HEALTH_LISTEN, which has no TLS, else LYRA_ADAPTERS_LISTEN.
SERVING means that calls are answered; whether a base model is loaded yet is in Status.
"""

from __future__ import annotations

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "lyra_adapters.v1.AdapterService"
TIMEOUT_S = 4.0


def main() -> int:
    """Asks once; returns the exit status."""
    address = os.environ.get("LYRA_ADAPTERS_HEALTH_LISTEN") or os.environ.get("LYRA_ADAPTERS_LISTEN", "127.0.0.1:50051")
    # A proxy for model downloads must not be asked about loopback.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            print(f"{address}: {error.code().name}", file=sys.stderr)
            return 1
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
