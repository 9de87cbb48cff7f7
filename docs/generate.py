"""Writes docs/api.md from the proto and its comments, and docs/configuration.md from the server's settings.

    python docs/generate.py [--check]

`--check` writes nothing and exits 1 if a page differs. The proto is read as text, because descriptors made at run time
carry no comments; a line of it that this file does not understand is an error, never left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
from lyra_adapters_server.config import ENV_PREFIX, PromptSettings, Settings

DOCS = Path(__file__).resolve().parent
PROTO = DOCS.parent / "protos" / "lyra_adapters" / "v1" / "adapter_service.proto"
MADE_BY = "<!-- Made by docs/generate.py; edit {} instead. -->"

SCALARS = {"bool", "bytes", "double", "float", "int32", "int64", "string"}
BAR = re.compile(r"// -{20,} (?P<title>.+)")
RPC = re.compile(r"rpc (?P<name>\w+)\((?P<asks>\w+)\) returns \((?P<stream>stream )?(?P<answers>\w+)\);")
FIELD = re.compile(r"(?:(?P<rule>optional|repeated) )?(?P<type>[\w.]+) (?P<name>\w+) = \d+;")
VALUE = re.compile(r"(?P<name>[A-Z][A-Z0-9_]+) = (?P<number>\d+);")
IGNORED = re.compile(r"(syntax|package|import) .*;")


@dataclass
class Entry:
    """A message, an enum, or the service, with what it holds as (name, type, comment)."""

    kind: str
    name: str
    comment: list[str]
    section: str
    members: list[tuple[str, str, list[str]]] = field(default_factory=list)


def read_proto(text: str) -> tuple[list[str], list[Entry]]:
    """The comment at the top of the file, and its entries in order. Raises SyntaxError for what it can't read."""
    entries: list[Entry] = []
    comment: list[str] = []
    top: list[str] = []
    section = ""
    inside: Entry | None = None
    group = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if bar := BAR.fullmatch(line):
            section = bar["title"]
        elif line.startswith("//"):
            comment.append(line.removeprefix("//").removeprefix(" "))
            continue
        elif IGNORED.fullmatch(line):
            # What stands above the first statement speaks of the whole file.
            top = top or comment
        elif opening := re.fullmatch(r"(message|enum|service) (\w+) \{(\})?", line):
            entry = Entry(opening[1], opening[2], comment, section)
            entries.append(entry)
            inside = None if opening[3] else entry
        elif inside and (opening := re.fullmatch(r"oneof (\w+) \{", line)):
            group = opening[1]
            inside.members.append((group, "oneof", comment))
        elif line == "}" and group:
            group = ""
        elif line == "}" and inside:
            inside = None
        elif inside and inside.kind == "service" and (rpc := RPC.fullmatch(line)):
            inside.members.append((rpc["name"], f"{rpc['asks']} {rpc['stream'] or ''}{rpc['answers']}", comment))
        elif inside and inside.kind == "enum" and (value := VALUE.fullmatch(line)):
            inside.members.append((value["name"], value["number"], comment))
        elif inside and inside.kind == "message" and (found := FIELD.fullmatch(line)):
            rule = "one of " + group if group else found["rule"] or ""
            inside.members.append((found["name"], f"{rule} {found['type']}".strip(), comment))
        elif line:
            raise SyntaxError(f"{PROTO.name}:{number}: not understood: {line}")
        comment = []
    return top, entries


def api_page(text: str) -> str:
    """docs/api.md."""
    top, entries = read_proto(text)
    known = {entry.name for entry in entries if entry.kind != "service"}
    lines = [
        MADE_BY.format("protos/lyra_adapters/v1/adapter_service.proto"),
        "",
        "# API",
        "",
        f"Proto package `lyra_adapters.v1`, file [{PROTO.name}](../protos/lyra_adapters/v1/{PROTO.name}).",
        "",
        *_prose(top),
    ]
    section = ""
    for entry in entries:
        if entry.section != section:
            section = entry.section
            lines += [f"## {section.capitalize()}", ""]
        if entry.kind == "service":
            lines += [f"## {entry.name}", "", *_prose(entry.comment)]
            for name, signature, comment in entry.members:
                asks, _, answers = signature.partition(" ")
                answers = answers.replace("stream ", "stream of ")
                shown = f"{_link(asks, known)} → {_link(answers, known)}"
                lines += [f"### {name}", "", shown, "", *_prose(comment)]
            continue
        lines += [f"### {entry.name}", "", *_prose(entry.comment)]
        if entry.members:
            second = "number" if entry.kind == "enum" else "type"
            lines += [f"| {'value' if entry.kind == 'enum' else 'field'} | {second} | |", "|---|---|---|"]
            for name, type_, comment in entry.members:
                lines.append(f"| `{name}` | {_link(type_, known)} | {_cell(' '.join(comment))} |")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _link(type_: str, known: set[str]) -> str:
    *before, last = type_.split(" ")
    if last in known:
        last = f"[{last}](#{last.lower()})"
    elif last in SCALARS or last.startswith("google.protobuf."):
        last = f"`{last}`"
    elif type_ != "oneof" and not last.isdecimal():
        raise SyntaxError(f"{PROTO.name}: no such type: {last}")
    return " ".join([*before, last])


def _prose(comment: list[str]) -> list[str]:
    if not comment:
        return []
    return [
        *(line.removeprefix(" ") if line.startswith("  ") or line.startswith(" *") else line for line in comment),
        "",
    ]


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def configuration_page() -> str:
    """docs/configuration.md."""
    lines = [
        MADE_BY.format("server/lyra_adapters_server/config.py"),
        "",
        "# Configuration of the server",
        "",
        "`lyra-adapters serve` takes each setting as a flag, as an environment variable, or from a TOML file that "
        f"`--config FILE` (or `{ENV_PREFIX}CONFIG`) names. Flags win over variables, variables over the file. A flag, "
        f"a variable `{ENV_PREFIX}…` or a key that is not known is refused, so that a misspelt one is noticed.",
        "",
        "```toml",
        'listen = "127.0.0.1:50051"',
        'base_model = ["qwen2.5-3b=Qwen/Qwen2.5-3B-Instruct", "demo"]',
        "",
        "[prompts.demo]",
        'name = "short"',
        'template = "{premise}\\nClaim: {hypothesis}\\nDoes the text support the claim? Answer yes, no or maybe:"',
        'label_words = { SUPPORTS = " yes", REFUTES = " no", NEUTRAL = " maybe" }',
        "```",
        "",
        "| setting | default | bounds | |",
        "|---|---|---|---|",
    ]
    for name, info in Settings.model_fields.items():
        names = [f"`--{name.replace('_', '-')}`", f"`{ENV_PREFIX}{name.upper()}`", f"`{name}`"]
        if info.annotation is bool:
            names[0] += f", `--no-{name.replace('_', '-')}`"
        if name in ("prompts", "labels"):
            # Tables, hidden from the command line; see config.py.
            names = [f"`{ENV_PREFIX}{name.upper()}` (JSON)", f"`[{name}.ALIAS]`"]
        bounds = _bounds(info.annotation, info.metadata)
        lines.append(
            f"| {'<br>'.join(names)} | {_default(info.default)} | {bounds} | {_cell(info.description or '')} |"
        )
    lines += ["", "A prompt, `[prompts.ALIAS]`, has these keys:", "", "| key | default |", "|---|---|"]
    for name, info in PromptSettings.model_fields.items():
        lines.append(f"| `{name}` | {'required' if info.is_required() else _default(info.default)} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{part}`" for part in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "none" if value == {} else f"`{value}`"


def _bounds(annotation: Any, metadata: list[Any]) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    return ", ".join(_limits(metadata))


def _limits(metadata: list[Any]) -> Iterator[str]:
    for limit in metadata:
        match limit:
            case annotated_types.Ge(ge):
                yield f"at least {ge}"
            case annotated_types.Gt(gt):
                yield f"above {gt}"
            case annotated_types.Le(le):
                yield f"at most {le}"
            case annotated_types.Lt(lt):
                yield f"below {lt}"


def main() -> int:
    """Writes or checks the pages; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page differs")
    check = parser.parse_args().check
    pages = {"api.md": api_page(PROTO.read_text(encoding="utf-8")), "configuration.md": configuration_page()}
    different = []
    for name, content in pages.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            different.append(name)
            if not check:
                path.write_text(content, encoding="utf-8")
    if check and different:
        print(f"docs differ from their source: {', '.join(different)}; run: python docs/generate.py", file=sys.stderr)
        return 1
    print("docs match their source" if not different else f"wrote {', '.join(different)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
