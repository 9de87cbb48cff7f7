"""Whatever the Dockerfile, the compose file, the Kubernetes example and the systemd unit name exists in the project."""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from lyra_adapters.cli.app import app
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters_server.config import ENV_PREFIX, Settings, load_settings
from lyra_adapters_server.service.auth.exposure import check_exposure, is_loopback
from lyra_adapters_server.service.auth.tokens import TOO_OPEN

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PYPROJECT["project"]["version"]
SERVICE = pb.DESCRIPTOR.services_by_name["AdapterService"].full_name
PORT = str(Settings.model_fields["listen"].default).rpartition(":")[2]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    found = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, re.sub(r"\s+", " ", rest).strip()) for name, _, rest in found]


DOCKERFILE = instructions()


def of(instruction: str) -> list[str]:
    return [rest for name, rest in DOCKERFILE if name == instruction]


def environment() -> dict[str, str]:
    """What the image's ENV sets in the last stage."""
    last = max(index for index, (name, _) in enumerate(DOCKERFILE) if name == "FROM")
    pairs = [word for name, rest in DOCKERFILE[last:] if name == "ENV" for word in shlex.split(rest)]
    return dict(pair.split("=", 1) for pair in pairs)


def check_serve(words: list[str]) -> None:
    """`serve` and flags that this server takes."""
    assert words[0] == "serve"
    flags = {f"--{name.replace('_', '-')}" for name in Settings.model_fields} | {"--config"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= flags
    rest = [word for word in words[1:] if "--config" not in words]
    if rest:
        Settings(_cli_parse_args=rest)  # type: ignore[call-arg]


def copied() -> dict[str, str]:
    """What COPY takes from the checkout: where it goes by where it comes from."""
    found = {}
    for rest in of("COPY"):
        *sources, target = rest.split()
        if not sources[0].startswith("--from"):
            for source in sources:
                found[source] = target
    return found


def test_images_are_pinned_and_the_server_is_not_root() -> None:
    bases = [rest.split()[0] for rest in of("FROM")]
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-[a-z]+", base) for base in bases)
    python = bases[0].partition(":")[2].partition("-")[0]
    assert tuple(map(int, python.split("."))) >= (3, 11)
    (user,) = of("USER")
    uid = re.search(rf"useradd --uid (\d+) .*\b{user}\b", " ".join(of("RUN")))
    assert uid
    assert int(uid[1]) > 0
    names = [name for name, _ in DOCKERFILE]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert set(copied()) == let_in
    assert all((ROOT / source).exists() for source in copied())
    # What the wheel's build reads.
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = [PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"], "pyproject.toml", *wheel]
    for path in needed:
        assert any(path == source or path.startswith(source + "/") for source in let_in), path
        assert not any(fnmatch.fnmatch(path, line.removeprefix("**/")) for line in lines[1:] if line[0] != "!")


def test_what_is_installed_is_named_in_the_project() -> None:
    run = " ".join(of("RUN"))
    extras = {extra for group in re.findall(r"'\.\[([\w,]+)\]'", run) for extra in group.split(",")}
    assert extras == {"server"}
    assert extras <= set(PYPROJECT["project"]["optional-dependencies"])
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (torch,) = [rest.partition("=")[2] for rest in of("ARG") if rest.startswith("TORCH=")]
    assert f"torch=={torch}" in constraints
    assert f"torch=={torch} --index-url https://download.pytorch.org/whl/cpu" in (ROOT / "README.md").read_text("utf-8")
    (demo,) = re.findall(r"--no-deps --constraint constraints\.txt (\S+)", run)
    assert any(line.startswith(f"{demo}==") for line in constraints)
    # Each stage says it anew.
    (choice,) = {rest.partition("=")[2] for rest in of("ARG") if rest.startswith("DEVICE=")}
    assert re.findall(r"(\w+)\) /opt", run) == ["cpu", "cuda"]
    assert choice == "cpu"


def test_settings_paths_and_commands_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    image = environment()
    volumes = json.loads(of("VOLUME")[0])
    own = {name: value for name, value in image.items() if name.startswith(ENV_PREFIX)}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    settings = load_settings([])
    check_exposure(settings)
    assert settings.listen.endswith(f":{PORT}")
    assert str(settings.home) in volumes
    assert str(settings.cache_dir.parent) in volumes
    assert str(Path(image["HF_HOME"]).parent) in volumes
    assert all(volume in " ".join(of("RUN")) for volume in volumes)
    (entry,) = json.loads(of("ENTRYPOINT")[0])
    assert PYPROJECT["project"]["scripts"][entry] == "lyra_adapters.cli:main"
    check_serve(json.loads(of("CMD")[0]))
    assert "serve" in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    (venv,) = re.findall(r"python -m venv (\S+)", " ".join(of("RUN")))
    assert f"--from=build {venv} {venv}" in of("COPY")
    assert image["PATH"].startswith(f"{venv}/bin:")


def health_script() -> list[str]:
    (check,) = of("HEALTHCHECK")
    return list(json.loads(check.partition("CMD ")[2]))


def test_health_check_of_the_image() -> None:
    program, script = health_script()
    assert program == "python"
    assert copied()["docker/healthcheck.py"] == script
    text = (ROOT / "docker" / "healthcheck.py").read_text(encoding="utf-8")
    assert f'"{SERVICE}"' in text
    timeout = re.search(r"--timeout=(\d+)s", of("HEALTHCHECK")[0])
    within = re.search(r"^TIMEOUT_S = ([\d.]+)$", text, re.MULTILINE)
    assert timeout
    assert within
    assert float(within[1]) < float(timeout[1])


def test_compose_is_safe_as_it_stands() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = compose["services"].values()
    # Loopback of the host, and no published port: the server refuses to listen elsewhere.
    assert service["network_mode"] == "host"
    assert "ports" not in service
    assert "environment" not in service
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["stop_grace_period"] == "30s"
    assert service["image"].endswith(f":{VERSION}")
    assert (ROOT / service["build"]["context"] / "Dockerfile").is_file()
    assert set(service["build"]["args"]) <= {rest.partition("=")[0] for rest in of("ARG")}
    check_serve(service["command"])
    mounted = dict(volume.split(":") for volume in service["volumes"])
    assert set(mounted) == set(compose["volumes"])
    assert sorted(mounted.values()) == sorted(json.loads(of("VOLUME")[0]))


def test_kubernetes_example() -> None:
    found = yaml.safe_load_all((ROOT / "examples" / "kubernetes.yaml").read_text(encoding="utf-8"))
    claim, service, deployment = found
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"]["type"] == "Recreate"
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    pod: dict[str, Any] = template["spec"]
    assert pod["terminationGracePeriodSeconds"] == 30
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"--uid {pod['securityContext']['runAsUser']} " in " ".join(of("RUN"))
    (container,) = pod["containers"]
    assert container["image"].endswith(f":{VERSION}")
    check_serve(container["args"])
    # Beyond loopback with TLS and tokens, from Secrets that the server's group alone can read.
    settings = Settings(_cli_parse_args=container["args"][1:])  # type: ignore[call-arg]
    assert not is_loopback(settings.listen.rpartition(":")[0])
    assert not settings.insecure
    check_exposure(settings)
    (port,) = container["ports"]
    assert settings.listen.endswith(f":{port['containerPort']}")
    assert [one["targetPort"] for one in service["spec"]["ports"]] == [port["name"]]
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert settings.health_listen == f"0.0.0.0:{container[probe]['grpc']['port']}"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    secrets = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    assert {str(path.parent) for path in (settings.tls_cert, settings.tls_key, settings.tokens_file) if path} == {
        mounts[name] for name in secrets
    }
    assert all(not secret["defaultMode"] & TOO_OPEN for secret in secrets.values())
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert {*json.loads(of("VOLUME")[0]), "/tmp"} == {mounts[name] for name in set(mounts) - set(secrets)}
    (persistent,) = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert persistent["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert mounts[persistent["name"]] == environment()["LYRA_ADAPTERS_HOME"]


def test_systemd_unit_and_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "examples" / "lyra-adapters.service", encoding="utf-8")
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name in PYPROJECT["project"]["scripts"]
    check_serve(words)
    assert service["TimeoutStopSec"] == "30"
    file = ROOT / "examples" / "lyra-adapters.toml"
    assert Path(words[words.index("--config") + 1]).name == file.name
    # load_settings writes this variable; setting it first has it restored.
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", str(file))
    settings = load_settings(["--config", str(file)])
    assert settings.home == Path("/var/lib") / service["StateDirectory"]
    assert settings.cache_dir == Path("/var/cache") / service["CacheDirectory"]
    assert Path(service["Environment"].partition("=")[2]).is_relative_to(settings.cache_dir)
    check_exposure(settings)
