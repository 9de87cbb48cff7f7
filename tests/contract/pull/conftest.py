"""What every test of `pull` starts from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lyra_adapters.testing import FakeAdapterServer
from pulling import NAMES


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdapterServer]:
    """A server with four versions, none of them in force yet."""
    with FakeAdapterServer() as server:
        monkeypatch.setenv("LYRA_ADAPTERS_SERVER", server.target)
        for name in NAMES:
            config = json.dumps({"name": name}).encode()
            server.files[name] = {"adapter_config.json": config, "adapter_model.safetensors": name.encode() * 900}
        yield server


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "adapters"
