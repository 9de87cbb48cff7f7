"""Pages that are made from code match it, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from docs_blocks import PAGES, ROOT
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters_server.config import Settings, load_settings

LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load("generate")


def test_generated_pages_match_their_source() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_reader_of_the_proto_misses_nothing(generate: ModuleType) -> None:
    _, entries = generate.read_proto(generate.PROTO.read_text(encoding="utf-8"))
    read = {entry.name: [name for name, _, _ in entry.members] for entry in entries}
    service = pb.DESCRIPTOR.services_by_name["AdapterService"]
    wanted = {service.name: [method.name for method in service.methods]}
    for name, enum in pb.DESCRIPTOR.enum_types_by_name.items():
        wanted[name] = [value.name for value in enum.values]
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        wanted[name] = [*(field.name for field in message.fields), *(group.name for group in _oneofs(message))]
    assert {name: sorted(members) for name, members in read.items()} == {
        name: sorted(members) for name, members in wanted.items()
    }
    assert all(comment for entry in entries for _, _, comment in entry.members)


def _oneofs(message: object) -> list[object]:
    # `optional` makes hidden groups of its own.
    return [group for group in message.oneofs if not group.name.startswith("_")]  # type: ignore[attr-defined]


def test_the_reader_refuses_what_it_does_not_know(generate: ModuleType) -> None:
    with pytest.raises(SyntaxError, match=":2: not understood: map<"):
        generate.read_proto("message A {\n  map<string, string> b = 1;\n}\n")


def test_every_setting_and_the_example_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"LYRA_ADAPTERS_{name.upper()}" in page
    toml = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert toml
    file = tmp_path / "settings.toml"
    file.write_text(toml[1], encoding="utf-8")
    # load_settings writes this variable; setting it first has it restored.
    monkeypatch.setenv("LYRA_ADAPTERS_CONFIG", str(file))
    settings = load_settings(["--config", str(file)])
    assert [base.alias for base in settings.bases] == ["qwen2.5-3b", "demo"]
    assert settings.bases[1].prompt
    prompts = {"demo": settings.prompts["demo"].model_dump(mode="json")}

    file.write_text("", encoding="utf-8")
    monkeypatch.setenv("LYRA_ADAPTERS_PROMPTS", json.dumps(prompts))
    assert load_settings([]).prompts["demo"] == settings.prompts["demo"]


def test_the_table_of_memory_is_what_the_script_prints() -> None:
    memory = load("memory")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert memory.table(memory.MODELS, 8) in page


def test_the_computed_parameters_are_those_of_a_real_model(tiny_base: Path) -> None:
    from safetensors import safe_open

    memory = load("memory")
    with safe_open(tiny_base / "model.safetensors", framework="numpy") as weights:
        counted = sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118 - not a dict
    assert memory.from_config(tiny_base).parameters == counted


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        target, _, anchor = link["target"].partition("#")
        if target.startswith(("http://", "https://")):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name}: {link['target']}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchors.count(anchor) == 1, f"{page.name}: {link['target']}"
