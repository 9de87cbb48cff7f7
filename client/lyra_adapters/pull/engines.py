"""Engines that are told over HTTP which adapter to serve. They look first, so they may be asked again at any time."""

from __future__ import annotations

import threading
from pathlib import Path, PurePosixPath
from typing import Any

from lyra_adapters.pull.hooks import Hook, HookFailed, Situation
from lyra_adapters.pull.names import BASE, is_version
from lyra_adapters.pull.web import Web, WebError


class Vllm(Hook):
    """Loads the version in force into vLLM under its full name, then unloads the adapter's other versions.

    A unique name per version, since vLLM may go on with the old weights of a name that is loaded again. The server must
    run with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and see the directory.
    https://docs.vllm.ai/en/stable/features/lora.html#dynamically-serving-lora-adapters

    Args:
        url: The server, http://127.0.0.1:8000.
        directory: The directory as the engine sees it; None: as this process does.
        key: The server's API key.
        timeout: Seconds for a call.

    Raises:
        ValueError: The URL is not one of HTTP.
    """

    looks_again = True

    def __init__(self, url: str, *, directory: Path | None = None, key: str = "", timeout: float = 60.0) -> None:
        self._web = Web(url.removesuffix("/").removesuffix("/v1"), key=key, timeout=timeout)
        self._directory = directory
        self.name = f"vllm {self._web.shown}"

    def apply(self, now: Situation, stop: threading.Event) -> bool:
        """Makes vLLM serve what is in force, and nothing else of the adapter."""
        loaded = self._loaded(now.adapter)
        if now.path is not None and now.active not in loaded:
            there = self._directory / now.active if self._directory else now.path
            self._ask("load", {"lora_name": now.active, "lora_path": str(there)}, done="already been loaded")
        for name in loaded:
            if name != now.active:
                self._ask("unload", {"lora_name": name}, done="cannot be found")
        return loaded != ([] if now.path is None else [now.active])

    def _loaded(self, adapter: str) -> list[str]:
        try:
            models = self._web.call("/v1/models")
            return [model["id"] for model in models["data"] if is_version(adapter, str(model["id"]))]
        except WebError as error:
            raise HookFailed(str(error)) from None
        except (KeyError, TypeError):
            raise HookFailed(f"{self._web.shown}/v1/models does not answer like vLLM") from None

    def _ask(self, what: str, body: dict[str, str], *, done: str) -> None:
        try:
            self._web.call(f"/v1/{what}_lora_adapter", body)
        except WebError as error:
            # Somebody else did it in between.
            if error.status in (400, 404) and done in error.text:
                return
            hint = ""
            if error.status == 404 and what == "load" and "lora" not in error.text.lower():
                hint = "; vLLM must run with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
            raise HookFailed(f"{error}{hint}") from None


class LlamaServer(Hook):
    """Sets the scales of llama-server's adapters: 1 for the version in force, 0 for the adapter's others.

    llama-server loads adapters when it starts (`--lora FILE`, once for each) and no others later; what can change while
    it runs is their scales. A version that it was not started with needs a new start; until then the old one stays in
    force there, and this hook stays pending.
    https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md#post-lora-adapters-set-list-of-lora-adapters

    Args:
        url: The server, http://127.0.0.1:8080.
        directory: The directory as the engine sees it, for what is said to do; None: as this process does.
        key: The server's API key.
        timeout: Seconds for a call.

    Raises:
        ValueError: The URL is not one of HTTP.
    """

    looks_again = True

    def __init__(self, url: str, *, directory: Path | None = None, key: str = "", timeout: float = 60.0) -> None:
        self._web = Web(url, key=key, timeout=timeout)
        self._directory = directory
        self.name = f"llama-server {self._web.shown}"

    def apply(self, now: Situation, stop: threading.Event) -> bool:
        """Makes llama-server apply what is in force, and nothing else of the adapter."""
        try:
            scales: dict[int, float] = {}
            wanted = dict(scales)
            versions: dict[int, str] = {}
            for adapter in self._adapters():
                number, path = int(adapter["id"]), PurePosixPath(str(adapter["path"]))
                scales[number] = wanted[number] = float(adapter["scale"])
                if name := _version_in(path, now.adapter):
                    versions[number] = name
                elif now.adapter in path.parts:
                    raise HookFailed(
                        f"{self._web.shown} was started with {path}, through the link {now.adapter}: nobody can tell "
                        f"which version it holds. Start it with the version's own path, like {now.active}/…"
                    )
            if now.active != BASE and now.active not in versions.values():
                there = self._directory / now.active if self._directory else now.path
                raise HookFailed(
                    f"{self._web.shown} was started without {now.active}, and llama-server can't load an adapter while "
                    f"it runs. Start it again with --lora and the GGUF file in {there}"
                )
            wanted.update({number: 1.0 if name == now.active else 0.0 for number, name in versions.items()})
            if wanted != scales:
                # An adapter that is left out gets the scale 0, so the others are named too.
                self._web.call("/lora-adapters", [{"id": number, "scale": scale} for number, scale in wanted.items()])
            return wanted != scales
        except WebError as error:
            raise HookFailed(str(error)) from None

    def _adapters(self) -> list[dict[str, Any]]:
        found = self._web.call("/lora-adapters")
        if not isinstance(found, list) or not all({"id", "path", "scale"} <= set(adapter) for adapter in found):
            raise HookFailed(f"{self._web.shown}/lora-adapters does not answer like llama-server")
        return found


def _version_in(path: PurePosixPath, adapter: str) -> str:
    """The version that a file's name (`user_feedback_v3.gguf`) or one of its directories names; empty if none does."""
    names = (part.removesuffix(".gguf") for part in reversed(path.parts))
    return next((name for name in names if is_version(adapter, name)), "")
