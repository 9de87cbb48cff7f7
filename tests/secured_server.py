"""A real server that asks for certificates and tokens, with two teams' adapters, and those who call it.

Only its trainer pretends (quick_server.py), so that hundreds of calls take seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from certificates import Certificates
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from lyra_adapters import AdapterClient
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from lyra_adapters_server.service.auth.tokens import digest_of
from quick_server import COMMAND, seed
from server_process import ServerProcess
from tiny_base import rows

# Name -> role, adapters, expires. The token of each is `lyra_NAME`; principals are the names before a dot.
TOKENS: dict[str, tuple[str, list[str], str]] = {
    "root": ("operate", ["*"], ""),
    "a.read": ("read", ["team_a_*"], ""),
    "a.train": ("train", ["team_a_*"], ""),
    "a.operate": ("operate", ["team_a_*"], ""),
    "b.operate": ("operate", ["team_b_*"], ""),
    "late": ("operate", ["*"], "2026-01-01T00:00:00Z"),
}
CERTIFIED = "machine.team-a.example"
OURS, THEIRS = "team_a_x", "team_b_x"
SHARED_TASK = "shared-task"


def token(name: str) -> str:
    return f"lyra_{name}"


def tokens_file(path: Path) -> Path:
    text = ""
    for name, (role, adapters, expires) in TOKENS.items():
        text += f'[[token]]\nprincipal = "{name.partition(".")[0]}"\nrole = "{role}"\nadapters = {adapters}\n'
        text += f'sha256 = "{digest_of(token(name))}"\n' + (f"expires = {expires}\n" if expires else "")
    text += f'[[certificate]]\nprincipal = "a"\nrole = "operate"\nadapters = ["team_a_*"]\nname = "{CERTIFIED}"\n'
    path.touch(mode=0o600)
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    code: str
    reason: str
    message: str
    response: Any


class SecuredServer:
    """The server, its certificates, and what two teams have trained on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates = Certificates(folder / "tls")
        cert, key = self.certificates.issue("server")
        self.certificates.issue("client", "client.example")
        self.certificates.issue("expired", "client.example", expired=True)
        self.certificates.issue("certified", CERTIFIED)
        self.tokens_file = tokens_file(folder / "tokens.toml")
        self.process = ServerProcess(
            folder / "home",
            "tiny",
            folder / "cache",
            *("--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(self.certificates.ca)),
            *("--tokens-file", str(self.tokens_file), "--log-level", "debug"),
            command=COMMAND,
        )
        self._channels: dict[str | None, grpc.Channel] = {}
        self._lock = threading.Lock()
        self.jobs: dict[str, str] = {}
        with self.client("root") as client:
            for adapter in (OURS, THEIRS):
                stream = client.train(
                    rows(60),
                    adapter=adapter,
                    task_id=SHARED_TASK,
                    training={"epochs": 1, "seed": seed(700)},
                    activation="ALWAYS",
                    trigger={"force": True},
                )
                assert stream.result().name == f"{adapter}_v1"
                self.jobs[adapter] = stream.job_id

    def client(self, name: str) -> AdapterClient:
        """A client with a token."""
        cert, key = self.pair("client")
        return AdapterClient(self.process.address, token=token(name), ca=self.certificates.ca, cert=cert, key=key)

    def pair(self, name: str) -> tuple[Path, Path]:
        folder = self.certificates.folder
        return folder / f"{name}.pem", folder / f"{name}.key"

    def channel(self, certificate: str | None = "client") -> grpc.Channel:
        """A channel with a client's certificate; None: without one."""
        with self._lock:
            if certificate not in self._channels:
                chain, key = (path.read_bytes() for path in self.pair(certificate)) if certificate else (None, None)
                credentials = grpc.ssl_channel_credentials(self.certificates.ca.read_bytes(), key, chain)
                self._channels[certificate] = grpc.secure_channel(self.process.address, credentials)
            return self._channels[certificate]

    def ask(self, rpc: str, request: Any, bearer: str | None, certificate: str | None = "client") -> Answer:
        """One call, of a stream its first message."""
        call = getattr(pb_grpc.AdapterServiceStub(self.channel(certificate)), rpc)
        metadata = [("authorization", f"Bearer {bearer}")] if bearer is not None else []
        try:
            response = call(request, metadata=metadata, timeout=20)
            if isinstance(response, Iterator):
                stream, response = response, next(response, None)
                stream.cancel()
        except grpc.RpcError as error:
            return refused(error)
        return Answer("OK", "", "", response)

    def audit(self) -> list[dict[str, Any]]:
        """The audit lines so far."""
        return self.process.logged("audit")

    def stop(self) -> None:
        for channel in self._channels.values():
            channel.close()
        assert self.process.stop() == 0


def refused(error: Any) -> Answer:
    """A refusal with its reason."""
    reason = ""
    if status := rpc_status.from_call(error):
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                reason = info.reason
    return Answer(error.code().name, reason, error.details() or "", None)


__all__ = ["CERTIFIED", "OURS", "SHARED_TASK", "THEIRS", "TOKENS", "Answer", "SecuredServer", "pb", "refused", "token"]
