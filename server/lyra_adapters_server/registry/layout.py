"""Where things lie under the registry's home, and the files that follow from the rows: links and pointer files."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from lyra_adapters_server import failpoints
from lyra_adapters_server.registry.names import full_name, is_adapter_name, parse_full_name
from lyra_adapters_server.storage.private import close_to_others, private_directory
from lyra_adapters_server.storage.reserve import RESERVE_FILE
from lyra_adapters_server.storage.versions import PointerRecord

ADAPTER_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Layout:
    """The paths under a home."""

    home: Path

    @property
    def database(self) -> Path:
        """The registry's database."""
        return self.home / "registry.db"

    @property
    def staging(self) -> Path:
        """Half-made directories, on the same file system as the finished ones, so that a rename suffices."""
        return self.home / ".staging"

    @property
    def servers(self) -> Path:
        """A locked file of each server that lives."""
        return self.home / ".servers"

    def work(self, job_id: str) -> Path:
        """What the attempts at a job leave for the next one, while it lives."""
        return self.staging / job_id

    def version(self, adapter: str, number: int) -> Path:
        """A version's directory."""
        return self.home / full_name(adapter, number)

    @property
    def formats(self) -> Path:
        """Versions in other forms, beside the published directories, which never change. No adapter has such a name."""
        return self.home / ".formats"

    def format(self, adapter: str, number: int, form: str) -> Path:
        """A version's files in another form, such as `.formats/user_feedback_v3/gguf`."""
        return self.formats_of(adapter, number) / form.lower()

    def formats_of(self, adapter: str, number: int) -> Path:
        """Where a version's other forms lie."""
        return self.formats / full_name(adapter, number)

    def flat(self, adapter: str, number: int) -> Path:
        """A version's weights under the flat name: a hard link to the file in its directory."""
        return self.home / f"{full_name(adapter, number)}.safetensors"

    def link(self, adapter: str) -> Path:
        """The link to the version in force."""
        return self.home / adapter

    def pointer_file(self, adapter: str) -> Path:
        """The pointer in words."""
        return self.home / f"{adapter}.json"

    def prepare(self) -> None:
        """Makes the home for its owner alone."""
        private_directory(self.home)
        self.staging.mkdir(mode=0o700, exist_ok=True)
        self.servers.mkdir(mode=0o700, exist_ok=True)
        # A restored backup may have other permissions. What is not the registry's is left alone.
        for path in self.home.iterdir():
            if path in (self.staging, self.servers, self.formats) or _is_ours(path.name):
                close_to_others(path)


def _is_ours(name: str) -> bool:
    """Whether a name in the home is one that this module gives."""
    stem, _, suffix = name.partition(".")
    if name.startswith("registry.db") or name == RESERVE_FILE:
        return True
    if suffix == "json":
        return is_adapter_name(stem)
    return suffix in ("", "safetensors") and parse_full_name(stem) is not None


def write_pointer(layout: Layout, pointer: PointerRecord) -> None:
    """Makes the link and the pointer file say what the row says, durably. Harmless to repeat."""
    link = layout.link(pointer.adapter)
    active = full_name(pointer.adapter, pointer.active)
    with failpoints.step("link.pointer"):
        if pointer.active is None:
            link.unlink(missing_ok=True)
        elif not (link.is_symlink() and str(link.readlink()) == active):
            fresh = layout.staging / f"link-{uuid.uuid4().hex}"
            fresh.symlink_to(active)
            fresh.replace(link)
    with failpoints.step("link.file"):
        write_durably(layout.pointer_file(pointer.adapter), pointer_words(pointer), layout.staging)
    sync_directory(layout.home)


def pointer_words(pointer: PointerRecord) -> bytes:
    """What the pointer file says."""
    active = full_name(pointer.adapter, pointer.active)
    content = {"adapter": pointer.adapter, "active": active, "pointer_revision": pointer.pointer_revision}
    return json.dumps(content).encode() + b"\n"


def pointer_agrees(layout: Layout, pointer: PointerRecord) -> bool:
    """Whether the link and the pointer file say what the row says."""
    link, file = layout.link(pointer.adapter), layout.pointer_file(pointer.adapter)
    target = str(link.readlink()) if link.is_symlink() else None
    if target != (None if pointer.active is None else full_name(pointer.adapter, pointer.active)):
        return False
    return file.is_file() and file.read_bytes() == pointer_words(pointer)


def link_flat(layout: Layout, adapter: str, number: int) -> None:
    """Makes the hard link under the flat name, unless it is there. Harmless to repeat."""
    weights = layout.version(adapter, number) / ADAPTER_FILE
    flat = layout.flat(adapter, number)
    if not flat_agrees(layout, adapter, number):
        with failpoints.step("link.flat"):
            fresh = layout.staging / f"flat-{uuid.uuid4().hex}"
            fresh.hardlink_to(weights)
            fresh.replace(flat)
        sync_directory(layout.home)


def flat_agrees(layout: Layout, adapter: str, number: int) -> bool:
    """Whether the flat name is the version's weights."""
    weights, flat = layout.version(adapter, number) / ADAPTER_FILE, layout.flat(adapter, number)
    return flat.exists() and weights.exists() and flat.samefile(weights)


def write_durably(path: Path, content: bytes, staging: Path) -> None:
    """Replaces a file so that after a power cut either the old or the new content is there."""
    fresh = staging / f"file-{uuid.uuid4().hex}"
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        with failpoints.step("fsync.file"):
            os.fsync(file.fileno())
    fresh.replace(path)


def sync_tree(directory: Path) -> None:
    """Waits until every file below a directory, and the directory itself, are on disk."""
    for path in directory.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            with path.open("rb") as file, failpoints.step("fsync.file"):
                os.fsync(file.fileno())
        else:
            sync_directory(path)
    directory.chmod(0o700)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Waits until a directory's entries are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with failpoints.step("fsync.directory"):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_away(layout: Layout, path: Path) -> None:
    """Removes a directory or file so that at no time a part of it is there under its name."""
    if path.exists() or path.is_symlink():
        away = layout.staging / f"removed-{uuid.uuid4().hex}"
        path.rename(away)
        remove_tree(away)


def remove_tree(path: Path) -> None:
    """Removes a directory or file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
