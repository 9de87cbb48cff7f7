"""Sections of docs/performance.md: each script rewrites its own and leaves the rest."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from real_data import cpu_name
from rows import ROOT

PAGE = ROOT / "docs" / "performance.md"


def write_section(name: str, lines: Sequence[str], command: str, page: Path = PAGE) -> None:
    """Puts lines between the page's marks of a section, below the command and the machine, and prints them.

    Raises ValueError if the page has no such section.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = page.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{page} has no section {name}")
    before, after = text.split(begin)[0], text.split(end)[1]
    content = "\n".join([f"`{command}`, {machine()}:", "", *lines])
    page.write_text(f"{before}{begin}\n\n{content}\n\n{end}{after}", encoding="utf-8")
    print(content, flush=True)


def machine() -> str:
    """The machine's name, with its accelerator if torch sees one."""
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores ({cpu_name()}), {accelerator}, torch {torch.__version__}"
