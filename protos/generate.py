"""Regenerates the committed stubs in client/lyra_adapters/v1 from the proto.

Runs in an environment of its own with the oldest toolchain that is supported, because stubs refuse to be imported
under a protobuf or grpcio older than the one that made them. `--check` exits 1 if the committed stubs differ.

    python protos/generate.py [--check]
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = "lyra_adapters/v1/adapter_service.proto"
STUBS = ROOT / "client" / "lyra_adapters" / "v1"
# grpcio-tools 1.71.2 writes stubs for protobuf >= 5.29 and grpcio >= 1.71.2, the lower bounds in pyproject.toml.
# setuptools: its protoc module imports pkg_resources, which newer ones lack. mypy-protobuf types the gRPC stubs.
TOOLS = ["grpcio-tools==1.71.2", "protobuf==5.29.5", "setuptools==75.8.0", "mypy-protobuf==3.6.0"]


def toolchain() -> Path:
    """Path of a Python that has exactly TOOLS, made on first use under build/."""
    home = ROOT / "build" / "protoc"
    python = home / "bin" / "python"
    stamp = home / "tools.txt"
    if not stamp.exists() or stamp.read_text() != "\n".join(TOOLS):
        venv.create(home, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *TOOLS], check=True)
        stamp.write_text("\n".join(TOOLS))
    return python


def generate(out: Path) -> list[Path]:
    """Writes the stubs below `out` and returns their paths."""
    python = toolchain()
    command = [
        str(python),
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={ROOT / 'protos'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--plugin=protoc-gen-mypy_grpc={python.parent / 'protoc-gen-mypy_grpc'}",
        f"--mypy_grpc_out=quiet:{out}",
        PROTO,
    ]
    subprocess.run(command, check=True)
    return sorted((out / "lyra_adapters" / "v1").glob("adapter_service_pb2*"))


def main() -> int:
    """Writes or checks the stubs; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the committed stubs differ")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        different = []
        for made in generate(Path(folder)):
            committed = STUBS / made.name
            if not committed.exists() or not filecmp.cmp(made, committed, shallow=False):
                different.append(made.name)
                if not check:
                    committed.parent.mkdir(parents=True, exist_ok=True)
                    committed.write_bytes(made.read_bytes())
    if check and different:
        print(f"stubs differ from the proto: {', '.join(different)}; run: python protos/generate.py", file=sys.stderr)
        return 1
    print("stubs match the proto" if not different else f"wrote {', '.join(different)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
