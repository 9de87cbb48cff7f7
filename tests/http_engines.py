"""Small HTTP servers that keep adapters as vLLM and llama-server do, and one that takes anything."""

from __future__ import annotations

import json
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class HttpServer:
    """Listens on a free port; a context manager. `answer` says what each call gets."""

    def __init__(self, key: str = "") -> None:
        self.calls: list[tuple[str, str, Any]] = []
        # Status to answer the next calls with, whatever they ask.
        self.failing: int | None = None
        self._key = key
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._handle(self, None)

            def do_POST(self) -> None:
                outer._handle(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and body."""
        return 200, {}

    def posted(self, path: str = "") -> list[Any]:
        """Bodies of the POSTs to a path."""
        return [body for method, where, body in self.calls if method == "POST" and path in where]

    def heard(self, headers: Message) -> None:
        """Called with the headers of each call."""

    def _handle(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        method = handler.command
        self.heard(handler.headers)
        self.calls.append((method, handler.path, body))
        if self._key and handler.headers["Authorization"] != f"Bearer {self._key}":
            status, answer = 401, {"error": "Unauthorized"}
        elif self.failing:
            status, answer = self.failing, {"error": {"message": "out of order"}}
        else:
            status, answer = self.answer(method, handler.path, body)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class VllmServer(HttpServer):
    """Loads and unloads adapters; refuses a path without adapter_config.json, a name twice, and an unknown one."""

    def __init__(self, key: str = "") -> None:
        super().__init__(key)
        self.loaded: dict[str, str] = {"someone_elses": "/elsewhere"}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if (method, path) == ("GET", "/v1/models"):
            models = [{"id": "tiny", "object": "model"}, *({"id": name, "parent": "tiny"} for name in self.loaded)]
            return 200, {"object": "list", "data": models}
        name = body["lora_name"]
        if path == "/v1/load_lora_adapter":
            if name in self.loaded:
                return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}
            if not (Path(body["lora_path"]) / "adapter_config.json").is_file():
                return 404, {"error": {"message": f"Loading lora {name} failed: No adapter found"}}
            self.loaded[name] = body["lora_path"]
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        if path == "/v1/unload_lora_adapter":
            if self.loaded.pop(name, None) is None:
                return 404, {"error": {"message": f"The lora adapter '{name}' cannot be found."}}
            return 200, f"Success: LoRA adapter '{name}' removed successfully."
        return 404, {"detail": "Not Found"}


class LlamaCppServer(HttpServer):
    """Has the adapters it was started with; their scales can be set, those left out get 0."""

    def __init__(self, *paths: str) -> None:
        super().__init__()
        self.adapters = [{"id": number, "path": path, "scale": 1.0} for number, path in enumerate(paths)]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path != "/lora-adapters":
            return 404, {"error": {"message": "File Not Found"}}
        if method == "POST":
            scales = {entry["id"]: entry["scale"] for entry in body}
            for adapter in self.adapters:
                adapter["scale"] = scales.get(adapter["id"], 0.0)
            return 200, {"success": True}
        return 200, self.adapters

    @property
    def scales(self) -> list[Any]:
        """The scales in order."""
        return [adapter["scale"] for adapter in self.adapters]
