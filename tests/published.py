"""Versions in a registry's home without any training: real rows and real files, whose bytes are random."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from lyra_adapters_server.registry import pointer as pointers
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.registry.pointer import Asked
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database


class Registry:
    """A home that versions can be published to, also beside a running server."""

    def __init__(self, home: Path) -> None:
        self.layout = Layout(home)
        self.layout.prepare()
        self.database = Database(self.layout.database)
        self.database.migrate()

    def publish(self, adapter: str = "user_feedback", *, weights: int = 3000, outcome: str = "BETTER") -> str:
        """Publishes a candidate with so many bytes of weights; returns its version, `v3`."""
        number = self.database.write_now(lambda connection: store.take_number(connection, adapter))
        directory = self.layout.version(adapter, number)
        directory.mkdir()
        contents = {
            "adapter_model.safetensors": random.Random(number).randbytes(weights),
            "adapter_config.json": json.dumps({"r": 8, "lora_alpha": 16, "version": number}).encode(),
            "README.md": f"# {adapter}_v{number}\n".encode(),
            "empty.txt": b"",
        }
        for name, content in contents.items():
            (directory / name).write_bytes(content)
        files = [
            {"path": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in sorted(contents.items())
        ]
        row = version_row(adapter, number, files, outcome)
        self.database.write_now(lambda connection: store.insert_version(connection, row))
        return f"v{number}"

    def activate(self, version: str, adapter: str = "user_feedback") -> int:
        """Puts a version in force as another server would; returns the pointer's revision."""
        asked = Asked(principal="test", actor="ada")
        moved = self.database.write_now(
            lambda connection: pointers.activate(connection, adapter, version, "", asked, allow_rejected=True)
        )
        return moved.change.revision

    def rollback(self, to: str = "", adapter: str = "user_feedback") -> int:
        """Takes back; returns the pointer's revision."""
        asked = Asked(principal="test", actor="ada")
        return self.database.write_now(
            lambda connection: pointers.rollback(connection, adapter, to, "", asked)
        ).change.revision

    def directory(self, version: str, adapter: str = "user_feedback") -> Path:
        """A version's directory."""
        return self.layout.version(adapter, int(version[1:]))


def version_row(adapter: str, number: int, files: list[dict[str, Any]], outcome: str) -> dict[str, Any]:
    """A row of `versions`."""
    return {
        "adapter": adapter,
        "number": number,
        "job_id": f"job-{adapter}-{number}",
        "task_id": "",
        "domain": "",
        "actor": "ada",
        "create_time": 1_700_000_000_000_000 + number,
        "base_model": "tiny",
        "base_identity": {"id": "tiny", "revision": "", "digest": "d"},
        "continued_from": "",
        "lora": {},
        "metrics_before": None,
        "metrics_after": None,
        "verdict": {"outcome": f"VERDICT_OUTCOME_{outcome}"},
        "training_samples": 1,
        "validation_samples": 1,
        "files": files,
        "sha256": next(file["sha256"] for file in files if file["path"].endswith(".safetensors")),
        "size_bytes": sum(file["size_bytes"] for file in files),
    }
