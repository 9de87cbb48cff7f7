"""The client knows nothing of the server, and its library part nothing of the command line's packages."""

import ast
import sys
from pathlib import Path

import lyra_adapters

ROOT = Path(lyra_adapters.__file__).parent
ALLOWED = {"lyra_adapters", "grpc", "google"}
CLI = ALLOWED | {"typer", "rich"}
# Imported late, by the one command that draws.
REPORT = CLI | {"matplotlib", "jinja2", "markupsafe"}
# Commands of other extras, imported by name and late.
OTHERS = {"mcp"}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, file
            names.add(node.module or "")
    return names


def test_imports_stay_within_their_walls() -> None:
    for file in ROOT.rglob("*.py"):
        part = file.relative_to(ROOT).parts[0]
        if part == "v1" or part in OTHERS:
            continue
        roots = {name.partition(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)
        allowed = CLI if part == "cli" else ALLOWED
        assert roots <= (REPORT if file.parent == ROOT / "cli" / "report" else allowed), file
        if part != "cli":
            assert not any(f"{name}.".startswith("lyra_adapters.cli.") for name in imported(file)), file
        if part != "testing":
            assert not any(name.startswith("lyra_adapters.testing") for name in imported(file)), file


def test_the_entry_point_needs_only_the_standard_library() -> None:
    for name in ("cli/__init__.py", "cli/__main__.py"):
        roots = {name.partition(".")[0] for name in imported(ROOT / name)}
        assert roots <= set(sys.stdlib_module_names) | {"lyra_adapters"}
