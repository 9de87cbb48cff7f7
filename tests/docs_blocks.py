"""The documentation's pages, their fenced blocks, and the commands that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]
)
RUNNABLE = {"sh", "bash", "shell", "console", "python", "py"}
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (?P<kind>run by|not run:) (?P<what>[^\n]+?) -->\n\Z")
# The shell comes after `$`, a line's start, or a pipe.
COMMAND = re.compile(r"(?:^|[\s/|`])lyra-adapters (?P<words>[a-z-][^\n`|]*)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `kind` and `what` are its mark's, empty where it has none."""

    page: str
    line: int
    language: str
    text: str
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every block that a reader could run."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            if fence["language"] in RUNNABLE:
                mark = MARK.search(text, 0, fence.start())
                yield Block(
                    str(page.relative_to(ROOT)),
                    text.count("\n", 0, fence.start()) + 1,
                    fence["language"],
                    fence["text"],
                    mark["kind"] if mark else "",
                    mark["what"] if mark else "",
                )
