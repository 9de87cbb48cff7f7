"""Points in time between messages and microseconds."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from lyra_adapters_server.service.fields import Findings

# The years 1 to 9999, which is what google.protobuf.Timestamp allows.
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799


def read_time(field: str, message: Timestamp, findings: Findings) -> int:
    """Microseconds since the epoch; 0 and a finding for what is no time."""
    if not FIRST_SECOND <= message.seconds <= LAST_SECOND or not 0 <= message.nanos < 1_000_000_000:
        findings.add(field, "is no point in time; must lie in the years 1 to 9999, with nanos from 0 to 999,999,999")
        return 0
    return message.seconds * 1_000_000 + message.nanos // 1000
