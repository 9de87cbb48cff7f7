"""The base wheel in an empty environment brings gRPC and protobuf and nothing heavier."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# typing-extensions comes with newer gRPC.
ALLOWED = {"lyra-adapters", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}
PROBE = """
import json, sys
import lyra_adapters, lyra_adapters.testing
from lyra_adapters import AdapterClient, AsyncAdapterClient
with lyra_adapters.testing.FakeAdapterServer() as fake, AdapterClient(fake.target) as client:
    sample = {"premise": "p", "hypothesis": "h", "label": "supports"}
    name = client.train([sample]).result().name
print(json.dumps({"version": lyra_adapters.__version__, "name": name, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("thin")
    wheels = home / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, timeout=100)
    (wheel,) = wheels.glob("lyra_adapters-*.whl")
    venv.create(home / "env", with_pip=True)
    python = home / "env" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=100)
    return python


def run(python: Path, *args: str) -> subprocess.CompletedProcess[str]:
    # From elsewhere than the checkout, without its paths: what is imported is what was installed.
    command = [str(python), "-I", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=python.parent)


def test_nothing_heavier_comes(python: Path) -> None:
    done = run(python, "-m", "pip", "list", "--format", "json")
    names = {package["name"].lower().replace("_", "-") for package in json.loads(done.stdout)}
    assert names - {"pip", "setuptools", "wheel"} <= ALLOWED


def test_the_client_works_without_them(python: Path) -> None:
    done = run(python, "-c", PROBE)
    assert done.returncode == 0, done.stderr
    probe = json.loads(done.stdout)
    assert probe["name"] == "user_feedback_v1"
    assert probe["version"][0].isdigit()
    heavy = {"torch", "pydantic", "typer", "rich", "numpy", "sqlalchemy", "lyra_adapters_server"}
    assert not heavy & {name.partition(".")[0] for name in probe["modules"]}


@pytest.mark.parametrize(("args", "extra"), [(["status"], "cli"), (["--help"], "cli"), (["serve"], "server")])
def test_the_command_says_what_is_missing(python: Path, args: list[str], extra: str) -> None:
    command = [str(python.parent / "lyra-adapters"), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=python.parent)
    assert done.returncode == 2
    assert f"pip install 'lyra-adapters[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_package_is_typed(python: Path) -> None:
    done = run(python, "-c", "import lyra_adapters, pathlib; print(pathlib.Path(lyra_adapters.__file__).parent)")
    assert (Path(done.stdout.strip()) / "py.typed").exists()
