"""Quiet connections: pings as the client sends them are welcome, a flood of them is not."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from lyra_adapters import channel
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from lyra_adapters_server.service.main import KEEPALIVE
from quick_server import Script, seed
from server_process import ServerProcess
from train_requests import train_request

INTERVAL = "grpc.http2.min_ping_interval_without_data_ms"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
ENHANCE_YOUR_CALM = 11


def test_the_clients_pings_are_rarer_than_the_server_allows() -> None:
    ours, theirs = dict(KEEPALIVE), dict(channel.OPTIONS)
    allowed = ours[INTERVAL]
    # Twice as far apart: a timer that is early must not count as too many.
    assert theirs["grpc.keepalive_time_ms"] >= 2 * allowed
    assert theirs["grpc.http2.max_pings_without_data"] == ours["grpc.http2.max_pings_without_data"] == 0


def frame(kind: int, flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload


def frames(connection: socket.socket, seconds: float) -> list[tuple[int, int, bytes]]:
    """Kind, flags and payload of what comes within a time."""
    data, found = b"", []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            received = connection.recv(65536)
        except TimeoutError:
            break
        if not received:
            break
        data += received
        while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
            found.append((data[3], data[4], data[9 : 9 + size]))
            data = data[9 + size :]
    return found


def ping(port: int, pings: int, every_s: float) -> list[tuple[int, int, bytes]]:
    """What a server answers to so many pings."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0) + frame(SETTINGS, ACK))
        found = []
        for number in range(pings):
            connection.sendall(frame(PING, 0, number.to_bytes(8, "big")))
            found += frames(connection, every_s)
            # Whoever is sent away is read to the end, and sends nothing more.
            if any(kind == GOAWAY for kind, _, _ in found):
                break
        return found + frames(connection, 1.0)


def test_grpc_knows_the_servers_options_by_these_names() -> None:
    """With a hundredth of the interval that the server allows, so that the test takes a moment."""
    assert INTERVAL in dict(KEEPALIVE)
    server = grpc.server(ThreadPoolExecutor(1), options=[*(dict(KEEPALIVE) | {INTERVAL: 100}).items()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        found = ping(port, pings=5, every_s=0.25)
    finally:
        server.stop(None)
    assert [kind for kind, flags, _ in found if flags == ACK].count(PING) == 5
    assert all(kind != GOAWAY for kind, _, _ in found)


@pytest.mark.parametrize(("pings", "sent_away"), [(1, False), (8, True)])
def test_a_flood_of_pings_is_sent_away(quick_server: Callable[..., ServerProcess], pings: int, sent_away: bool) -> None:
    server = quick_server()
    found = ping(int(server.port), pings, every_s=0.2)
    assert any(kind == PING and flags == ACK for kind, flags, _ in found)
    away = [payload for kind, _, payload in found if kind == GOAWAY]
    assert bool(away) == sent_away
    if away:
        assert int.from_bytes(away[0][4:8], "big") == ENHANCE_YOUR_CALM
        assert away[0][8:] == b"too_many_pings"
    assert server.stub().Status(pb.StatusRequest()).service.version


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_quiet_stream_lives_on_the_clients_own_settings(quick_server: Callable[..., ServerProcess]) -> None:
    server = quick_server("--heartbeat-s", "600")
    request = train_request("quiet", epochs=1)
    request.training.seed = seed(500, Script.STAYS)
    busy = server.stub().Train(request)
    next(busy)
    # The second waits behind the first, and nothing happens to it: three of the client's pings and more.
    waiting = pb_grpc.AdapterServiceStub(grpc.insecure_channel(server.address, channel.OPTIONS)).Train(request)
    job_id = next(waiting).job_id
    busy.cancel()
    time.sleep(250)
    server.stub().Cancel(pb.CancelRequest(job_id=job_id))
    assert next(waiting).WhichOneof("event") == "cancelled"
