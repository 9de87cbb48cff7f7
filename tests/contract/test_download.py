"""Download: files and archives with their digests, from any byte on, of any version."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from published import Registry
from server_process import ServerProcess
from test_grpcurl import GRPCURL, SERVICE, objects
from unpacking import unpack

# More than one chunk of the server's.
WEIGHTS = 1_300_000


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """`user_feedback` with v2 in force after v1, and v3 rejected."""
    registry = Registry(tmp_path_factory.mktemp("download") / "home")
    for version in ("v1", "v2"):
        assert registry.publish(weights=WEIGHTS) == version
        registry.activate(version)
    registry.publish(outcome="WORSE")
    return registry


@pytest.fixture(scope="module")
def server(registry: Registry, tiny_base: Path) -> Iterator[ServerProcess]:
    home = registry.layout.home
    process = ServerProcess(home, f"tiny={tiny_base}", home.parent / "cache", "--heartbeat-s", "0.3")
    yield process
    process.stop()


def pieces(server: ServerProcess, **request: Any) -> list[pb.DownloadResponse]:
    return list(server.stub().Download(pb.DownloadRequest(adapter="user_feedback", **request)))


def received(answers: list[pb.DownloadResponse]) -> dict[str, tuple[pb.FileInfo, bytes]]:
    """The files of a download, put together as they came."""
    files: dict[str, tuple[pb.FileInfo, bytes]] = {}
    current, begins = "", 0
    for answer in answers[1:]:
        assert len(answer.data) <= 2**20
        if answer.HasField("file"):
            current, begins = answer.file.path, answer.offset
            files[current] = (answer.file, b"")
        info, data = files[current]
        assert answer.offset == begins + len(data)
        files[current] = (info, data + answer.data)
    return files


@pytest.mark.parametrize(("asked", "version"), [("", "v2"), ("v1", "v1"), ("user_feedback_v3", "v3")])
def test_all_files_with_their_digests(server: ServerProcess, registry: Registry, asked: str, version: str) -> None:
    answers = pieces(server, version=asked)
    contents = answers[0].contents
    assert (contents.adapter, contents.version) == ("user_feedback", version)
    assert contents.format == pb.ADAPTER_FORMAT_PEFT
    files = received(answers)
    assert [info for info, _ in files.values()] == list(contents.files)
    on_disk = {path.name: path.read_bytes() for path in registry.directory(version).iterdir()}
    assert {path: data for path, (_, data) in files.items()} == on_disk
    for info, data in files.values():
        assert (info.size_bytes, info.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("offset", [0, 1, 600_000, WEIGHTS - 1, WEIGHTS])
def test_one_file_from_any_byte_on(server: ServerProcess, registry: Registry, offset: int) -> None:
    answers = pieces(server, version="v1", file="adapter_model.safetensors", offset=offset)
    ((info, data),) = received(answers).values()
    whole = (registry.directory("v1") / "adapter_model.safetensors").read_bytes()
    assert data == whole[offset:]
    assert info.sha256 == hashlib.sha256(whole).hexdigest()
    assert len(answers[0].contents.files) == 4


def test_an_archive_is_the_same_at_every_call_and_from_every_byte_on(server: ServerProcess, registry: Registry) -> None:
    ((info, data),) = received(pieces(server, version="v1", archive=True)).values()
    assert info.path == "user_feedback_v1.tar"
    assert (info.size_bytes, info.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    for offset in (0, 100, 512, 700_001, len(data) - 1, len(data)):
        ((again, rest),) = received(pieces(server, version="v1", archive=True, offset=offset)).values()
        assert (again, rest) == (info, data[offset:])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        unpacked = {member.name: archive.extractfile(member) for member in archive}
        assert {name: file.read() for name, file in unpacked.items() if file} == {
            f"user_feedback_v1/{path.name}": path.read_bytes() for path in registry.directory("v1").iterdir()
        }


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        ({"adapter": "nobody"}, "NOT_FOUND", "no adapter 'nobody'"),
        ({"adapter": "../etc"}, "INVALID_ARGUMENT", "adapter"),
        ({"version": "v9"}, "NOT_FOUND", "'v9'"),
        ({"version": "../../x"}, "NOT_FOUND", "no version"),
        ({"version": "base"}, "FAILED_PRECONDITION", "no adapter to download"),
        ({"file": "../v1/README.md"}, "NOT_FOUND", "README.md"),
        ({"file": "README.md", "offset": 10_000}, "INVALID_ARGUMENT", "bytes"),
        ({"file": "README.md", "offset": -1}, "INVALID_ARGUMENT", "0 or more"),
        ({"offset": 1}, "INVALID_ARGUMENT", "file or archive"),
        ({"file": "README.md", "archive": True}, "INVALID_ARGUMENT", "one of the two"),
        ({"format": 77}, "INVALID_ARGUMENT", "ADAPTER_FORMAT_GGUF"),
    ],
)
def test_what_is_refused(server: ServerProcess, request_: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(server.stub().Download(pb.DownloadRequest(**{"adapter": "user_feedback", **request_})))
    assert refused.value.code().name == code
    assert says in refused.value.details()


def test_base_in_force_has_no_files(server: ServerProcess, registry: Registry) -> None:
    registry.publish("never_active")
    with pytest.raises(grpc.RpcError) as refused:
        list(server.stub().Download(pb.DownloadRequest(adapter="never_active")))
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "is in force" in refused.value.details()


def test_a_damaged_version_is_said_to_be_damaged(server: ServerProcess, registry: Registry) -> None:
    registry.publish("damaged")
    directory = registry.directory("v1", "damaged")
    weights = directory / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    for archive in (False, True):
        with pytest.raises(grpc.RpcError) as refused:
            list(server.stub().Download(pb.DownloadRequest(adapter="damaged", version="v1", archive=archive)))
        assert refused.value.code() == grpc.StatusCode.DATA_LOSS
        assert "damaged_v1/adapter_model.safetensors" in refused.value.details()
        assert str(directory) not in refused.value.details()


def test_what_there_is_can_be_asked_for_without_its_bytes(server: ServerProcess) -> None:
    (whole,) = pieces(server, version="v1", archive=True, contents_only=True)
    ((info, _),) = received(pieces(server, version="v1", archive=True)).values()
    assert whole.contents.archive == info
    assert [file.path for file in whole.contents.files] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "empty.txt",
    ]


@pytest.mark.parametrize("archive", [False, True])
def test_the_client_downloads_from_the_real_server(
    server: ServerProcess, registry: Registry, tmp_path: Path, archive: bool
) -> None:
    done = server.client.download("user_feedback", tmp_path / "v2", archive=archive)
    assert (done.version, done.format) == ("v2", "PEFT")
    if archive:
        with tarfile.open(tmp_path / "v2" / "user_feedback_v2.tar") as unpacked:
            unpack(unpacked, tmp_path)
    there = tmp_path / ("user_feedback_v2" if archive else "v2")
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        path.name: path.read_bytes() for path in registry.directory("v2").iterdir()
    }


def test_grpcurl_downloads(server: ServerProcess, registry: Registry) -> None:
    def call(request: dict[str, Any]) -> list[dict[str, Any]]:
        done = subprocess.run(
            [str(GRPCURL), "-plaintext", "-d", json.dumps(request), server.address, f"{SERVICE}/Download"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return objects(done.stdout)

    first, piece = call({"adapter": "user_feedback", "file": "README.md"})
    assert first["contents"]["version"] == "v2"
    whole = base64.b64decode(piece["data"])
    assert whole == (registry.directory("v2") / "README.md").read_bytes()
    assert piece["file"]["sha256"] == hashlib.sha256(whole).hexdigest()
    _, rest = call({"adapter": "user_feedback", "file": "README.md", "offset": 5})
    assert base64.b64decode(rest["data"]) == whole[5:]


def test_grpcurl_watches_the_pointer(server: ServerProcess) -> None:
    request = json.dumps({"adapter": "user_feedback"})
    done = subprocess.run(
        [
            *(str(GRPCURL), "-plaintext", "-max-time", "1", "-d", request),
            *(server.address, f"{SERVICE}/WatchAdapter"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "DeadlineExceeded" in done.stderr
    found = objects(done.stdout)
    assert [change["active"] for change in found[:2]] == ["user_feedback_v1", "user_feedback_v2"]
    assert all(change["heartbeat"] for change in found[2:])
    assert len(found) > 2
