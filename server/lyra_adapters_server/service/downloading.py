"""Download: which files of which version are sent, and from where on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal, Violation, invalid
from lyra_adapters_server.registry.formats import Format, FormatFiles, StoredFile
from lyra_adapters_server.registry.names import BASE, full_name, version_of
from lyra_adapters_server.registry.pieces import Source, archive_source, file_source
from lyra_adapters_server.registry.pointer import unknown_adapter, unknown_version, whole_version
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.versions import VersionRecord

FORMATS = {
    pb.ADAPTER_FORMAT_UNSPECIFIED: Format.PEFT,
    **{pb.AdapterFormat.Value(f"ADAPTER_FORMAT_{form}"): form for form in Format},
}


async def download(service: Service, request: pb.DownloadRequest) -> AsyncGenerator[pb.DownloadResponse]:
    """Streams what is asked for. Raises Refusal."""
    _check(request)
    version = await service.database.read(lambda connection: _version(connection, request))
    form = FORMATS[request.format]
    found = await service.formats.find(version, form)
    sources = await _sources(found, version, form, request)
    if request.offset > sources[0].file.size_bytes:
        size = sources[0].file.size_bytes
        raise invalid([Violation("offset", f"is {request.offset}; {sources[0].file.path} has {size} bytes")])
    yield pb.DownloadResponse(
        contents=pb.DownloadContents(
            adapter=version.adapter,
            version=f"v{version.number}",
            format=f"ADAPTER_FORMAT_{form}",
            files=[_file_info(file) for file in found.files],
            archive=_file_info(sources[0].file) if request.archive else None,
        )
    )
    if request.contents_only:
        return
    for source in sources:
        async with contextlib.aclosing(_pieces(source, request.offset)) as pieces:
            async for piece in pieces:
                yield piece


async def _pieces(source: Source, offset: int) -> AsyncGenerator[pb.DownloadResponse]:
    """A file or archive from an offset on; its name, size and digest in the first piece."""
    file: pb.FileInfo | None = _file_info(source.file)
    async with contextlib.aclosing(source.read(offset)) as chunks:
        async for chunk in chunks:
            yield pb.DownloadResponse(file=file, offset=offset, data=chunk)
            offset, file = offset + len(chunk), None
    if file is not None:
        yield pb.DownloadResponse(file=file, offset=offset)


def _check(request: pb.DownloadRequest) -> None:
    findings = Findings()
    findings.adapter("adapter", request.adapter)
    findings.known("format", request.format, FORMATS, ", ".join(pb.AdapterFormat.keys()[1:]))
    if request.archive and request.file:
        findings.add("file", "is one file, and archive asks for all of them; give one of the two")
    if request.offset < 0:
        findings.add("offset", f"is {request.offset}; must be 0 or more")
    elif request.offset and not (request.archive or request.file):
        findings.add("offset", "counts from the beginning of one file or of the archive; give file or archive")
    findings.raise_if_any()
    check_adapter(request.adapter)


def _version(connection: Connection, request: pb.DownloadRequest) -> VersionRecord:
    """The version asked for, in any state. Raises Refusal."""
    adapter = request.adapter
    pointer = store.find_pointer(connection, adapter)
    if pointer is None:
        raise unknown_adapter(adapter)
    number = version_of(adapter, request.version) if request.version else pointer.active
    if request.version == BASE or (not request.version and number is None):
        what = "is in force" if not request.version else "was asked for"
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "BASE_HAS_NO_FILES",
            f"The bare base model {what} under {adapter}; there is no adapter to download. Name a version; List shows "
            "those there are.",
        )
    if number is None:
        raise unknown_version(adapter, request.version[:80])
    return whole_version(connection, adapter, f"v{number}")


async def _sources(
    found: FormatFiles, version: VersionRecord, form: Format, request: pb.DownloadRequest
) -> list[Source]:
    """One file, the archive, or each file. Raises Refusal."""
    if request.archive:
        suffix = "" if form is Format.PEFT else f"-{form.lower()}"
        name = full_name(version.adapter, version.number)
        return [await archive_source(found, name, suffix, version.create_time // 1_000_000)]
    sources = [file_source(found, file) for file in found.files if request.file in ("", file.path)]
    if not sources:
        raise Refusal(
            Kind.NOT_FOUND,
            "FILE_NOT_FOUND",
            f"{full_name(version.adapter, version.number)} has no file {request.file[:200]!r} as {form}; there are "
            f"{', '.join(file.path for file in found.files)}.",
        )
    return sources


def _file_info(file: StoredFile) -> pb.FileInfo:
    return pb.FileInfo(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256)
