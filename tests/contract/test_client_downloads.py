"""The client's downloads over a real socket: whole or nothing, whatever breaks, and never outside the directory."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters import (
    AdapterClient,
    AdapterError,
    AlreadyExists,
    AsyncAdapterClient,
    DataLoss,
    Downloaded,
    FailedPrecondition,
    ReconnectPolicy,
    Unavailable,
)
from lyra_adapters.files import lock_directory, safe_path
from lyra_adapters.testing import FakeAdapterServer
from unpacking import unpack

FILES = {"adapter_config.json": b"{}", "sub/weights.bin": bytes(range(256)) * 40, "empty": b""}
QUICK = ReconnectPolicy(initial=0.01, maximum=0.02, connect_within=0.3, give_up_after=0.3)


@pytest.fixture
def fake() -> Iterator[FakeAdapterServer]:
    with FakeAdapterServer() as server:
        server.files["user_feedback_v1"] = dict(FILES)
        yield server


def fetch(fake: FakeAdapterServer, kind: str, to: Path, **options: Any) -> Downloaded:
    """With the synchronous or the asyncio client."""
    options = {"version": "v1", **options}
    if kind == "sync":
        with AdapterClient(fake.target, reconnect=QUICK) as client:
            return client.download("user_feedback", to, **options)

    async def get() -> Downloaded:
        async with AsyncAdapterClient(fake.target, reconnect=QUICK) as client:
            return await client.download("user_feedback", to, **options)

    return asyncio.run(get())


def tree(directory: Path) -> dict[str, bytes]:
    """All files below a directory, hidden ones too."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def byte_calls(fake: FakeAdapterServer) -> list[tuple[str, int]]:
    """Which file was asked for, from where on."""
    return [(call.file, call.offset) for call in fake.requests("Download") if not call.contents_only]


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_directory_appears_with_all_its_files(fake: FakeAdapterServer, tmp_path: Path, kind: str) -> None:
    told: list[tuple[int, int]] = []
    done = fetch(fake, kind, tmp_path / "out", on_progress=lambda have, all_: told.append((have, all_)))
    assert tree(tmp_path) == {f"out/{path}": data for path, data in FILES.items()}
    assert (done.directory, done.version, done.format) == (str(tmp_path / "out"), "v1", "PEFT")
    assert [file.path for file in done.files] == list(FILES)
    assert told == sorted(told)
    assert told[-1] == (10_242, 10_242)


def test_a_broken_download_goes_on_where_it_broke(fake: FakeAdapterServer, tmp_path: Path, kind: str) -> None:
    fake.download_breaks.extend([100, 3000, 2000])
    fetch(fake, kind, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    asked = byte_calls(fake)
    assert asked == [("adapter_config.json", 0), *(("sub/weights.bin", start) for start in (0, 3000, 5000))]


def test_another_version_in_force_meanwhile_does_not_mix_in(fake: FakeAdapterServer, tmp_path: Path) -> None:
    with AdapterClient(fake.target) as client:
        client.train([{"premise": "p", "hypothesis": "h", "correct_label": "SUPPORTS"}]).result()

        def change(have: int, _all: int) -> None:
            if fake.pointers.active("user_feedback") == "user_feedback_v1":
                client.rollback("user_feedback")

        done = client.download("user_feedback", tmp_path / "out", on_progress=change)
    assert done.version == "v1"
    assert tree(tmp_path / "out") == FILES


def test_nothing_stays_of_a_download_that_fails(fake: FakeAdapterServer, tmp_path: Path, kind: str) -> None:
    fake.download_breaks.extend([100, 5000] + [0] * 1000)
    with pytest.raises(Unavailable):
        fetch(fake, kind, tmp_path / "deep" / "out")
    assert tree(tmp_path) == {}
    assert not list(tmp_path.rglob("*.part"))


def test_what_came_can_be_kept_and_gone_on_from(fake: FakeAdapterServer, tmp_path: Path, kind: str) -> None:
    fake.download_breaks.extend([100, 5000] + [0] * 1000)
    with pytest.raises(Unavailable):
        fetch(fake, kind, tmp_path / "out", keep_partial=True)
    assert not (tmp_path / "out").exists()
    fake.download_breaks.clear()
    fake.received.clear()
    fetch(fake, kind, tmp_path / "out")
    ((path, offset),) = byte_calls(fake)
    # The last bytes before the end may be lost with the connection.
    assert path == "sub/weights.bin"
    assert offset >= 3000
    assert tree(tmp_path) == {f"out/{path}": data for path, data in FILES.items()}


def test_a_bad_beginning_is_fetched_again(fake: FakeAdapterServer, tmp_path: Path, kind: str) -> None:
    part = tmp_path / ".out.part" / "sub" / "weights.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 5000)
    (tmp_path / ".out.part" / "of another version").write_bytes(b"x")
    fetch(fake, kind, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


@pytest.mark.parametrize("archive", [False, True])
def test_a_file_with_another_digest_is_not_kept(
    fake: FakeAdapterServer, tmp_path: Path, kind: str, archive: bool
) -> None:
    fake.digests.update({"empty": "0" * 64, "user_feedback_v1.tar": "0" * 64})
    with pytest.raises(DataLoss, match="another digest"):
        fetch(fake, kind, tmp_path / "out", archive=archive)
    assert tree(tmp_path) == {}


def test_one_file_and_the_archive(fake: FakeAdapterServer, tmp_path: Path, kind: str) -> None:
    done = fetch(fake, kind, tmp_path / "one", file="sub/weights.bin")
    assert tree(tmp_path / "one") == {"sub/weights.bin": FILES["sub/weights.bin"]}
    assert [file.path for file in done.files] == ["sub/weights.bin"]
    fake.download_breaks.extend([4000])
    fetch(fake, kind, tmp_path / "one", archive=True)
    with tarfile.open(tmp_path / "one" / "user_feedback_v1.tar") as archive:
        unpack(archive, tmp_path / "unpacked")
    assert tree(tmp_path / "unpacked") == {f"user_feedback_v1/{path}": data for path, data in FILES.items()}


def test_what_is_there_is_not_fetched_again_nor_overwritten(fake: FakeAdapterServer, tmp_path: Path) -> None:
    fetch(fake, "sync", tmp_path / "out")
    fake.received.clear()
    fetch(fake, "sync", tmp_path / "out")
    assert byte_calls(fake) == []
    (tmp_path / "out" / "adapter_config.json").write_bytes(b"my own")
    (tmp_path / "out" / "notes").write_bytes(b"mine too")
    with pytest.raises(AlreadyExists, match="with other content"):
        fetch(fake, "sync", tmp_path / "out")
    assert tree(tmp_path / "out") == {**FILES, "adapter_config.json": b"my own", "notes": b"mine too"}
    fetch(fake, "sync", tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == {**FILES, "notes": b"mine too"}
    assert byte_calls(fake) == [("adapter_config.json", 0)]


@pytest.mark.parametrize(
    "path",
    ["../escape", "/etc/escape", "a/../../escape", "..", "", "a\\..\\escape", "C:escape", "a\0b", "a\nb", "x" * 300],
)
def test_a_path_that_leads_out_is_refused(fake: FakeAdapterServer, tmp_path: Path, path: str) -> None:
    fake.files["user_feedback_v1"] = {"adapter_config.json": b"{}", path: b"evil"}
    if path:
        with pytest.raises(DataLoss, match="with the path"):
            safe_path(path)
        with pytest.raises(AdapterError):
            fetch(fake, "sync", tmp_path / "in" / "out")
        assert tree(tmp_path) == {}
    else:
        with pytest.raises(DataLoss):
            safe_path(path)


def test_links_are_not_followed(fake: FakeAdapterServer, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights.bin").write_bytes(b"precious")
    # Planted where the download would write.
    (tmp_path / ".out.part").symlink_to(outside)
    fetch(fake, "sync", tmp_path / "out")
    assert tree(outside) == {"weights.bin": b"precious"}
    shutil.rmtree(tmp_path / "out")
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "sub").symlink_to(outside)
    fetch(fake, "sync", tmp_path / "out")
    assert tree(outside) == {"weights.bin": b"precious"}
    shutil.rmtree(tmp_path / "out" / "sub")
    (tmp_path / "out" / "sub").symlink_to(outside)
    with pytest.raises(AlreadyExists):
        fetch(fake, "sync", tmp_path / "out", overwrite=True)
    assert tree(outside) == {"weights.bin": b"precious"}
    assert not list(tmp_path.rglob("*.part"))


def test_two_downloads_to_one_place_do_not_mix(fake: FakeAdapterServer, tmp_path: Path) -> None:
    held = lock_directory(tmp_path / ".out.part")
    with pytest.raises(FailedPrecondition, match="under way"):
        fetch(fake, "sync", tmp_path / "out")
    os.close(held)
    fetch(fake, "sync", tmp_path / "out")


def test_a_full_disk_is_said_before_anything_is_written(
    fake: FakeAdapterServer, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 50, 50))  # type: ignore[attr-defined] # how CPython makes it
    with pytest.raises(OSError, match="10,242 bytes are needed and 50 are free") as full:
        fetch(fake, kind, tmp_path / "out", keep_partial=True)
    assert full.value.errno == errno.ENOSPC
    assert tree(tmp_path) == {}
    assert not list(tmp_path.rglob("*.part"))


def test_a_disk_that_takes_no_more_leaves_nothing_half_written(fake: FakeAdapterServer, tmp_path: Path) -> None:
    # A limit on the size of files is the nearest thing to a full disk that needs no rights.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lyra_adapters.cli", "download", "user_feedback", "v1"),
            *("--to", str(tmp_path / "out"), "--server", fake.target),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(tmp_path) == {}
    assert not list(tmp_path.rglob("*.part"))
