"""Makes a version's files in another form, on a thread, so that a training goes on meanwhile."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

from safetensors import SafetensorError

from lyra_adapters_server import failpoints
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.describe import Description
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import FormatMade, TrainerEvent
from lyra_adapters_server.trainer.formats.gguf import write_gguf
from lyra_adapters_server.trainer.formats.merged import write_merged
from lyra_adapters_server.trainer.formats.ollama import MODELFILE, check_specials, modelfile
from lyra_adapters_server.trainer.formats.source import NOT_AVAILABLE, PROMPT_FILE, read_published
from lyra_adapters_server.trainer.spec import FormatSpec

# How long a turn waits for the thread, so that other work gets its turn.
_WAIT_S = 0.01


def make_format(spec: FormatSpec, bases: Bases) -> Iterator[TrainerEvent | None]:
    """Makes the files. Yields None while it works, then FormatMade.

    Raises:
        TrainerError: FORMAT_NOT_AVAILABLE, with what the engine can't take; DISK_FULL; ADAPTER_LOAD_FAILED; and what
            describing a base raises.
    """
    description = yield from bases.description(spec.subject.base_alias)
    found = description.card.identity.digest
    if found != spec.base_digest:
        raise TrainerError(
            NOT_AVAILABLE,
            f"what this server has as base model {description.card.alias} now are other weights (digest {found[:12]}…) "
            f"than those it was trained on ({spec.base_digest[:12]}…)",
        )
    yield from _on_thread(spec, description)
    yield FormatMade()


def write_format(spec: FormatSpec, description: Description) -> None:
    """Writes the files into the output directory, and waits for it. Raises as make_format."""
    published, target, name = read_published(Path(spec.subject.directory)), Path(spec.output_dir), spec.subject.name
    try:
        with failpoints.step("format.write"):
            if spec.form == "MERGED":
                write_merged(published, description, target, name)
                return
            gguf = f"{name}.gguf"
            write_gguf(published, description.settings, target / gguf)
            if spec.form == "OLLAMA":
                check_specials(published.prompt, description.tokenizer)
                source = spec.ollama_model or f"./{Path(description.card.identity.id).name}-F16.gguf"
                text = modelfile(published.prompt, name=name, source=source, adapter=gguf)
                (target / MODELFILE).write_text(text, encoding="utf-8")
            shutil.copyfile(published.directory / PROMPT_FILE, target / PROMPT_FILE)
    except (OSError, SafetensorError) as error:
        if _is_full(error):
            raise TrainerError("DISK_FULL", "the server's disk is full; free space there, then ask again") from None
        raise


def _on_thread(spec: FormatSpec, description: Description) -> Generator[None, None, None]:
    failure: list[Exception] = []

    def write() -> None:
        try:
            write_format(spec, description)
        except Exception as error:
            failure.append(error)

    # A daemon: the process may end in the middle of it.
    thread = threading.Thread(target=write, name=f"format-{spec.form}", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_WAIT_S)
        yield
    if failure:
        raise failure[0]


def _is_full(error: Exception) -> bool:
    # safetensors writes its own files and passes the system's number on in words.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error)
