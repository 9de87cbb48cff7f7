"""Other forms of a version, asked of a real server: made once, durable, refused with the reason."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from gguf_base import write_base
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from llama_server import LlamaServer
from lyra_adapters.v1 import adapter_service_pb2 as pb
from server_process import ServerProcess
from test_grpcurl import GRPCURL, SERVICE, objects
from tiny_base import rows
from tiny_causal import reference_probabilities
from tiny_encoders import make_tiny_encoder
from train_requests import kinds, train_request
from vllm_rules import violations

# PEFT asks transformers for an attribute of an older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

GGUF, OLLAMA, MERGED = pb.ADAPTER_FORMAT_GGUF, pb.ADAPTER_FORMAT_OLLAMA, pb.ADAPTER_FORMAT_MERGED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[ServerProcess]:
    """A server with `sleep_v1`."""
    home = tmp_path_factory.mktemp("formats")
    process = ServerProcess(home / "home", f"tiny={tiny_base}", home / "cache", "--dtype", "float32").wait_ready()
    train(process, "sleep")
    yield process
    process.stop()


def train(server: ServerProcess, adapter: str, **fields: Any) -> list[pb.TrainEvent]:
    request = train_request(adapter, epochs=4, activation=pb.ACTIVATION_ALWAYS, **fields)
    events = list(server.stub().Train(request))
    assert kinds(events)[-1] == "succeeded"
    return events


def download(server: ServerProcess, form: int, adapter: str = "sleep") -> dict[str, bytes]:
    """The files of a form, each checked against its digest."""
    answers = list(server.stub().Download(pb.DownloadRequest(adapter=adapter, version="v1", format=form)))
    assert answers[0].contents.format == form
    data: dict[str, bytes] = {}
    current = ""
    for answer in answers[1:]:
        current = answer.file.path or current
        data[current] = data.get(current, b"") + answer.data
    for file in answers[0].contents.files:
        assert hashlib.sha256(data[file.path]).hexdigest() == file.sha256
        assert len(data[file.path]) == file.size_bytes
    return data


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and message of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    status: status_pb2.Status | None = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return caught.value.code(), info.reason, status.message  # type: ignore[attr-defined]


def ready(server: ServerProcess, adapter: str = "sleep") -> list[int]:
    """The forms that List says lie ready."""
    return list(server.stub().List(pb.ListRequest(adapter=adapter)).versions[-1].formats)


def half_made(home: Path) -> list[Path]:
    return [*(home / ".staging").glob("format-*")]


def test_gguf_of_a_trained_version_answers_in_llama_cpp_as_the_service_does(
    server: ServerProcess, tiny_base: Path, tmp_path: Path
) -> None:
    files = download(server, GGUF)
    assert set(files) == {"sleep_v1.gguf", "prompt.json"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    cases = rows(12)
    tokens, labels, expected = reference_probabilities(tiny_base, cases, server.home / "sleep_v1")
    pairs = [pb.Pair(premise=row["premise"], hypothesis=row["hypothesis"]) for row in cases]
    said = server.stub().Classify(pb.ClassifyRequest(adapter="sleep", version="v1", pairs=pairs)).results
    engine = LlamaServer(write_base(tiny_base, tmp_path / "base.gguf"), tmp_path / "sleep_v1.gguf", context=512)
    for ids, row, result in zip(tokens, expected, said, strict=True):
        found = engine.label_probabilities(ids, labels)
        service = [result.probabilities.supports, result.probabilities.refutes, result.probabilities.neutral]
        assert found == pytest.approx(row, abs=0.02)
        assert found == pytest.approx(service, abs=0.02)


def test_forms_lie_beside_the_published_directory_and_are_listed(server: ServerProcess) -> None:
    before = {path.name: path.read_bytes() for path in (server.home / "sleep_v1").iterdir()}
    ollama, merged = download(server, OLLAMA), download(server, MERGED)
    assert set(ollama) == {"sleep_v1.gguf", "Modelfile", "prompt.json"}
    assert ollama["sleep_v1.gguf"] == download(server, GGUF)["sleep_v1.gguf"]
    assert b"ADAPTER ./sleep_v1.gguf\n" in ollama["Modelfile"]
    assert {"model.safetensors", "config.json", "tokenizer.json", "prompt.json"} <= set(merged)
    assert ready(server) == [pb.ADAPTER_FORMAT_PEFT, GGUF, MERGED, OLLAMA]
    assert {path.name: path.read_bytes() for path in (server.home / "sleep_v1").iterdir()} == before
    home = server.home / ".formats" / "sleep_v1"
    assert {path.name for path in home.iterdir()} == {"gguf", "ollama", "merged"}
    assert {path.stat().st_mode & 0o777 for path in home.rglob("*") if path.is_file()} == {0o600}
    assert half_made(server.home) == []


def test_the_merged_model_answers_in_plain_transformers(server: ServerProcess, tiny_base: Path, tmp_path: Path) -> None:
    for name, data in download(server, MERGED).items():
        (tmp_path / name).write_bytes(data)
    _, _, expected = reference_probabilities(tiny_base, rows(6), server.home / "sleep_v1")
    _, _, found = reference_probabilities(tmp_path, rows(6), None, prompt_from=tmp_path)
    assert found == [pytest.approx(row, abs=1e-4) for row in expected]


def test_the_published_directory_is_what_vllm_asks_for(server: ServerProcess, tiny_base: Path, tmp_path: Path) -> None:
    directory = server.home / "sleep_v1"
    assert violations(directory, str(tiny_base), "sleep_v1") == []
    # The check itself finds what it should.
    assert violations(directory, "another/base", "sleep") != []
    config = json.loads((directory / "adapter_config.json").read_text())
    broken = tmp_path / "sleep_v1"
    broken.mkdir()
    (broken / "adapter_model.safetensors").symlink_to(directory / "adapter_model.safetensors")
    for change in ({"modules_to_save": ["lm_head"]}, {"use_dora": True}, {"bias": "all"}, {"r": 1000}):
        (broken / "adapter_config.json").write_text(json.dumps({**config, **change}))
        assert len(violations(broken, str(tiny_base), "sleep_v1")) == 1


def test_grpcurl_and_the_command_line_get_the_same_bytes(server: ServerProcess, tmp_path: Path) -> None:
    request = {"adapter": "sleep", "version": "v1", "format": "ADAPTER_FORMAT_GGUF", "archive": True}
    command = [str(GRPCURL), "-plaintext", "-d", json.dumps(request), server.address, f"{SERVICE}/Download"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    contents = objects(done.stdout)[0]["contents"]
    assert contents["format"] == "ADAPTER_FORMAT_GGUF"
    server.client.download("sleep", tmp_path / "client", version="v1", format="gguf")
    flags = ["download", "sleep", "v1", "--to", str(tmp_path / "shell"), "--format", "gguf", "--server", server.address]
    subprocess.run([sys.executable, "-m", "lyra_adapters.cli", *flags], timeout=60, check=True)
    for folder in ("client", "shell"):
        for file in contents["files"]:
            (found,) = (tmp_path / folder).rglob(file["path"])
            assert hashlib.sha256(found.read_bytes()).hexdigest() == file["sha256"]


def test_many_callers_at_once_get_what_is_made_once(server: ServerProcess) -> None:
    train(server, "crowd")
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: download(server, GGUF, "crowd"), range(12)))
    assert all(files == found[0] for files in found)
    assert len([line for line in server.logged("format_made") if line["version"] == "crowd_v1"]) == 1


@pytest.mark.slow
def test_a_form_is_made_beside_a_training(server: ServerProcess) -> None:
    events: list[str] = []
    request = train_request("beside", count=200, epochs=40, activation=pb.ACTIVATION_ALWAYS)
    request.training.patience = 100
    call = server.stub().Train(request)
    begun = threading.Event()

    def follow() -> None:
        for event in call:
            events.append(event.WhichOneof("event") or "")
            if events[-1] == "progress":
                begun.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(60)
    files = download(server, MERGED)
    assert "model.safetensors" in files
    assert "succeeded" not in events
    thread.join(90)
    assert events[-1] == "succeeded"


def test_an_encoder_with_its_own_head_is_refused_in_gguf_and_had_merged(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    base = make_tiny_encoder(tmp_path / "nli", "bert", ())
    server = start_server("--formats", "gguf", base=f"nli={base}").wait_ready()
    events = train(server, "headed")
    warning = next(event.warning for event in events if event.WhichOneof("event") == "warning")
    assert warning.reason == "FORMAT_NOT_AVAILABLE"
    for form in (GGUF, OLLAMA):
        code, reason, message = refusal(lambda form=form: download(server, form, "headed"))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FORMAT_NOT_AVAILABLE")
        assert "headed_v1 can't be had as" in message
        assert "classification head" in message
    assert "model.safetensors" in download(server, MERGED, "headed")
    assert half_made(server.home) == []


def test_forms_are_made_at_publication_and_mended_at_the_next_start(
    start_server: Callable[..., ServerProcess], tmp_path: Path, tiny_base: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('formats = ["gguf", "ollama"]\n[ollama_models]\ntiny = "tiny:f16"\n')
    first = start_server("--config", str(settings)).wait_ready()
    events = train(first, "sleep")
    published = next(event.published.version for event in events if event.WhichOneof("event") == "published")
    assert list(published.formats) == [pb.ADAPTER_FORMAT_PEFT, GGUF, OLLAMA]
    forms = first.home / ".formats" / "sleep_v1"
    assert "FROM tiny:f16\n" in (forms / "ollama" / "Modelfile").read_text()
    whole = {path.name: path.read_bytes() for path in (forms / "gguf").iterdir()}
    first.stop()

    (forms / "gguf" / "sleep_v1.gguf").write_bytes(b"cut")
    (forms / "merged").mkdir()
    (forms / "merged" / "model.safetensors").write_bytes(b"half of it")
    second = start_server().wait_ready()
    assert ready(second) == [pb.ADAPTER_FORMAT_PEFT, OLLAMA]
    assert {path.name for path in forms.iterdir()} == {"ollama"}
    assert download(second, GGUF) == whole
    # Also while it runs: what is cut or gone is made again, not sent.
    (forms / "gguf" / "sleep_v1.gguf").write_bytes(b"cut")
    assert download(second, GGUF) == whole


def test_a_killed_worker_leaves_nothing_half_made(start_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = start_server(environment=armed("format.write.after=kill", tmp_path)).wait_ready()
    train(server, "sleep")
    code, reason, _ = refusal(lambda: download(server, GGUF))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "TRAINER_RESTARTING")
    nothing_made(server)
    server.wait_for_log("base_loaded", 2)
    assert set(download(server, GGUF)) == {"sleep_v1.gguf", "prompt.json"}


@pytest.mark.slow
def test_a_full_disk_of_the_worker_leaves_nothing_half_made(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = start_server(environment=armed("format.write.after=raise:ENOSPC", tmp_path)).wait_ready()
    train(server, "sleep")
    code, reason, message = refusal(lambda: download(server, GGUF))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL")
    assert str(tmp_path) not in message
    nothing_made(server)
    assert set(download(server, GGUF)) == {"sleep_v1.gguf", "prompt.json"}


def test_a_full_disk_of_the_server_leaves_nothing_half_made(
    quick_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = quick_server(environment=armed("format.rename.before=raise:ENOSPC", tmp_path))
    train(server, "sleep")
    assert refusal(lambda: download(server, GGUF))[:2] == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL")
    nothing_made(server)
    assert set(download(server, GGUF)) == {"sleep_v1.gguf"}


@pytest.mark.parametrize(
    "point", ["format.rename.before", "format.rename.after", "format.commit.before", "format.commit.after"]
)
def test_a_server_killed_while_it_makes_a_form_leaves_a_whole_one_or_none(
    quick_server: Callable[..., ServerProcess], tmp_path: Path, point: str
) -> None:
    first = quick_server(environment=armed(f"{point}=kill", tmp_path))
    train(first, "sleep")
    with pytest.raises(grpc.RpcError):
        download(first, GGUF)
    assert first.stop() == -signal.SIGKILL
    second = quick_server()
    if point == "format.commit.after":
        assert ready(second) == [pb.ADAPTER_FORMAT_PEFT, GGUF]
        assert [path.name for path in (second.home / ".formats" / "sleep_v1").iterdir()] == ["gguf"]
    else:
        nothing_made(second)
    assert set(download(second, GGUF)) == {"sleep_v1.gguf"}


def nothing_made(server: ServerProcess) -> None:
    assert half_made(server.home) == []
    assert ready(server) == [pb.ADAPTER_FORMAT_PEFT]
    assert not list((server.home / ".formats").glob("*/*"))


def armed(failpoints: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a server with failpoints, each of which acts once."""
    return {"LYRA_ADAPTERS_FAILPOINTS": failpoints, "LYRA_ADAPTERS_FAILPOINTS_LOG": str(tmp_path / "acted")}
