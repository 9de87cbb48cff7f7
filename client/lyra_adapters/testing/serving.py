"""The fake server's answers to hosts that serve the model: WatchAdapter and Download."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from lyra_adapters import convert
from lyra_adapters.testing.fault import Fault
from lyra_adapters.v1 import adapter_service_pb2 as pb

if TYPE_CHECKING:
    from lyra_adapters.testing.server import FakeAdapterServer

Context = grpc.ServicerContext

CHUNK_BYTES = 1000
HEARTBEAT_S = 1.0


def watch_adapter(
    fake: FakeAdapterServer, request: pb.WatchAdapterRequest, context: Context
) -> Iterator[pb.PointerChange]:
    """The changes of a pointer, and heartbeats."""
    known = [version.adapter for version in fake.versions] + [change.adapter for change in fake.pointers.changes]
    if request.adapter not in known and not request.wait_for_adapter:
        _abort(context, "NOT_FOUND", "ADAPTER_NOT_FOUND", f"There is no adapter {request.adapter}.")
    if not 0 <= request.after_revision <= len(fake.pointers.history(request.adapter)):
        _abort(context, "INVALID_ARGUMENT", "INVALID_FIELD", "after_revision is beyond the last change.")
    seen, quiet_since = request.after_revision, time.monotonic()
    while context.is_active():
        for change in fake.pointers.history(request.adapter)[seen:]:
            seen, quiet_since = change.pointer_revision, time.monotonic()
            yield convert.encode(change)
        if time.monotonic() - quiet_since >= HEARTBEAT_S:
            quiet_since = time.monotonic()
            yield pb.PointerChange(adapter=request.adapter, heartbeat=True)
        time.sleep(0.02)


def download(fake: FakeAdapterServer, request: pb.DownloadRequest, context: Context) -> Iterator[pb.DownloadResponse]:
    """The files of `fake.files`, whole or from an offset on; breaks where `fake.download_breaks` says."""
    name = f"{request.adapter}_{request.version}" if request.version else fake.pointers.active(request.adapter)
    if name == "base":
        _abort(context, "FAILED_PRECONDITION", "BASE_HAS_NO_FILES", "The bare base model is in force.")
    if name not in fake.files:
        _abort(context, "NOT_FOUND", "VERSION_NOT_FOUND", f"There is no version {name}.")
    if request.format not in (pb.ADAPTER_FORMAT_UNSPECIFIED, pb.ADAPTER_FORMAT_PEFT):
        _abort(context, "FAILED_PRECONDITION", "FORMAT_NOT_AVAILABLE", "The fake server has PEFT alone.")
    files = fake.files[name]
    sent = {f"{name}.tar": _archive(name, files)} if request.archive else files
    if request.file:
        sent = {path: data for path, data in files.items() if path == request.file}
        if not sent:
            _abort(context, "NOT_FOUND", "FILE_NOT_FOUND", f"{name} has no file {request.file}.")
    yield pb.DownloadResponse(
        contents=pb.DownloadContents(
            adapter=request.adapter,
            version=name.removeprefix(f"{request.adapter}_"),
            format=pb.ADAPTER_FORMAT_PEFT,
            files=[_info(fake, path, data) for path, data in files.items()],
            archive=_info(fake, *next(iter(sent.items()))) if request.archive else None,
        )
    )
    if request.contents_only:
        return
    left = fake.download_breaks.popleft() if fake.download_breaks else None
    for path, data in sent.items():
        file: pb.FileInfo | None = _info(fake, path, data)
        for start in range(request.offset, max(len(data), request.offset + 1), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            if left is not None and len(chunk) > left:
                # No details: what a client sees of a connection that broke.
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            left = None if left is None else left - len(chunk)
            yield pb.DownloadResponse(file=file, offset=start, data=chunk)
            file = None


def _info(fake: FakeAdapterServer, path: str, data: bytes) -> pb.FileInfo:
    digest = fake.digests.get(path) or hashlib.sha256(data).hexdigest()
    return pb.FileInfo(path=path, size_bytes=len(data), sha256=digest)


def _archive(name: str, files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _abort(context: Context, code: str, reason: str, message: str) -> None:
    Fault(code=grpc.StatusCode[code], reason=reason, message=message).abort(context)
