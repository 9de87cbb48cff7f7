"""A download as both clients carry it out: what there is, then the bytes of each file. No I/O; see `resume`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from lyra_adapters import convert
from lyra_adapters.errors import DataLoss, DeadlineExceeded
from lyra_adapters.files import Downloaded, PartFile
from lyra_adapters.models.versions import AdapterFormat, FileInfo
from lyra_adapters.resume import ReconnectPolicy, StreamPlan
from lyra_adapters.v1 import adapter_service_pb2 as pb


class ContentsPlan(StreamPlan[pb.DownloadContents]):
    """What a download would bring."""

    def __init__(self, request: pb.DownloadRequest, policy: ReconnectPolicy, **options: Any) -> None:
        super().__init__(policy, **options)
        self._request = pb.DownloadRequest()
        self._request.CopyFrom(request)
        self._request.contents_only = True

    def next_call(self) -> tuple[str, Any]:
        """Download, for its first message alone."""
        return "Download", self._request

    def _accept(self, message: pb.DownloadResponse) -> pb.DownloadContents | None:
        if not message.HasField("contents"):
            raise DataLoss("The server did not say what the download holds.", reason="PIECE_LOST")
        self.finished = True
        return message.contents


class BytesPlan(StreamPlan[bytes]):
    """The bytes of one file, or of an archive, from an offset to its end, each once and in order.

    Args:
        request: Names the version, the file or the archive, and the offset.
        size: Bytes of the whole.
        policy: How to take the stream up again.
        **options: As StreamPlan.
    """

    def __init__(self, request: pb.DownloadRequest, size: int, policy: ReconnectPolicy, **options: Any) -> None:
        super().__init__(policy, **options)
        self._request = request
        self._offset = request.offset
        self._size = size

    def next_call(self) -> tuple[str, Any]:
        """Download from the first byte that is missing."""
        request = pb.DownloadRequest()
        request.CopyFrom(self._request)
        request.offset = self._offset
        return "Download", request

    def feed(self, message: pb.DownloadResponse) -> bytes | None:
        """As StreamPlan's; but a server that breaks before each byte is not tried for ever."""
        if message.HasField("contents"):
            self._reached = True
            return None
        return super().feed(message)

    def _accept(self, message: pb.DownloadResponse) -> bytes | None:
        end = message.offset + len(message.data)
        if message.offset != self._offset or end > self._size:
            raise DataLoss(
                f"Bytes {message.offset} to {end} came after {self._offset} of {self._size}.", reason="PIECE_LOST"
            )
        self._offset = end
        self.finished = end == self._size
        return bytes(message.data)


class Offer:
    """What a server offers to send of what was asked for.

    Args:
        request: What was asked for.
        contents: What the server has.
        on_progress: Called with the bytes that have come and those of the whole.

    Raises:
        DataLoss: The server does not offer what was asked for.
    """

    def __init__(
        self,
        request: pb.DownloadRequest,
        contents: pb.DownloadContents,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._request = request
        self._contents = contents
        self._on_progress = on_progress
        offered = [contents.archive] if request.archive else contents.files
        self.files = tuple(
            convert.decode(FileInfo, file) for file in offered if request.file in ("", file.path) and file.path
        )
        self._size = sum(file.size_bytes for file in self.files)
        self._before = 0

    def plan(self, part: PartFile, policy: ReconnectPolicy, **options: Any) -> BytesPlan:
        """The stream of what a file still lacks, of the version that was offered, whatever is in force by now."""
        request = pb.DownloadRequest(
            adapter=self._contents.adapter,
            version=self._contents.version,
            format=self._contents.format,
            archive=self._request.archive,
            file="" if self._request.archive else part.file.path,
            offset=part.offset,
        )
        return BytesPlan(request, part.file.size_bytes, policy, **options)

    def progress(self, part: PartFile) -> None:
        """Tells how much has come."""
        if self._on_progress is not None:
            self._on_progress(self._before + part.offset, self._size)

    def done(self, part: PartFile) -> None:
        """Notes that a file is complete."""
        self.progress(part)
        self._before += part.file.size_bytes

    def downloaded(self, to: str | os.PathLike[str]) -> Downloaded:
        """What the download brought."""
        return Downloaded(
            directory=os.fspath(to),
            files=self.files,
            adapter=self._contents.adapter,
            version=self._contents.version,
            format=AdapterFormat(pb.AdapterFormat.Name(self._contents.format)),
        )


class Deadline:
    """A time limit that several streams share.

    Args:
        seconds: None: no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._ends = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float | None:
        """Seconds left; None: no limit. Raises DeadlineExceeded."""
        if self._ends is None:
            return None
        left = self._ends - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("The download's time is up.")
        return left
