"""A registry with versions that nobody trained: real rows and files, in milliseconds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from lyra_adapters_server.registry import pointer as pointers
from lyra_adapters_server.registry.layout import ADAPTER_FILE, Layout, link_flat, sync_tree, write_pointer
from lyra_adapters_server.registry.pointer import Asked
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database, now_us
from lyra_adapters_server.storage.jobs import JobState
from sqlalchemy import Connection

SAMPLE = {"id": "row", "premise": "p", "hypothesis": "h", "correct_label": "SUPPORTS"}


class MadeRegistry:
    """A home with a database."""

    def __init__(self, home: Path) -> None:
        self.layout = Layout(home)
        self.layout.prepare()
        self.database = Database(self.layout.database)
        self.database.migrate()

    def add_job(self, adapter: str = "a", *, ended: bool = True, **fields: Any) -> str:
        """A job, with one row unless `rows` says otherwise."""
        samples = fields.pop("rows", [SAMPLE])
        job_id = fields.pop("job_id", "") or hashlib.sha256(str(now_us()).encode()).hexdigest()[:12]

        def work(connection: Connection) -> None:
            values: dict[str, Any] = {
                **dict.fromkeys(("task_id", "actor", "domain", "continue_from", "request_digest"), ""),
                "job_id": job_id,
                "principal": "p",
                "request_id": None,
                "adapter": adapter,
                "base_model": "tiny",
                "activation": "GATED",
                "lora": {},
                "training": {},
                "samples": len(samples),
                "create_time": now_us(),
                **fields,
            }
            jobs.insert_job(connection, values, samples, [])
            jobs.record(connection, job_id, 0, now_us(), [("queued", {"position": 1})])
            if ended:
                jobs.record(connection, job_id, 0, now_us(), [("succeeded", {})], state=JobState.SUCCEEDED)

        self.database.write_now(work)
        return job_id

    def add_version(self, adapter: str = "a", *, activate: bool = True, job_id: str = "") -> int:
        """A published version, in force unless said otherwise."""
        job_id = job_id or self.add_job(adapter)

        def work(connection: Connection) -> int:
            number = store.take_number(connection, adapter)
            directory = self.layout.version(adapter, number)
            directory.mkdir()
            (directory / ADAPTER_FILE).write_bytes(f"weights {adapter} {number}".encode())
            (directory / "adapter_config.json").write_text("{}")
            sync_tree(directory)
            files = [
                {
                    "path": path.name,
                    "size_bytes": path.stat().st_size,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                }
                for path in sorted(directory.iterdir())
            ]
            values = {
                **dict.fromkeys(("task_id", "domain", "actor", "continued_from"), ""),
                "adapter": adapter,
                "number": number,
                "job_id": job_id,
                "create_time": now_us(),
                "base_model": "tiny",
                "base_identity": {"id": "tiny"},
                "lora": {},
                "metrics_before": None,
                "metrics_after": None,
                "verdict": {"outcome": "VERDICT_OUTCOME_BETTER"},
                "training_samples": 1,
                "validation_samples": 0,
                "files": files,
                "sha256": files[1]["sha256"],
                "size_bytes": sum(file["size_bytes"] for file in files),
            }
            store.insert_version(connection, values)
            if activate:
                pointer = store.find_pointer(connection, adapter)
                assert pointer
                pointers.publish(connection, pointer, number, Asked(principal="p", job_id=job_id))
            pointer = store.find_pointer(connection, adapter)
            assert pointer
            link_flat(self.layout, adapter, number)
            write_pointer(self.layout, pointer)
            return number

        return self.database.write_now(work)

    def rollback(self, adapter: str = "a", to_version: str = "") -> str:
        """Steps back; returns what is in force, as a number or `None`."""

        def work(connection: Connection) -> str:
            return str(pointers.rollback(connection, adapter, to_version, "", Asked(principal="p")).change.active)

        return self.database.write_now(work)
