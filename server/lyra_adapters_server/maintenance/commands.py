"""The commands `lyra-adapters doctor`, `backup` and `restore`: they work on the files, with or without a server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from lyra_adapters_server import logs
from lyra_adapters_server.config import ConfigError, load_settings
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.maintenance.backup import BackupError, Summary, back_up, restore
from lyra_adapters_server.maintenance.doctor import examine
from lyra_adapters_server.maintenance.mend import mend
from lyra_adapters_server.registry.layout import Layout
from lyra_adapters_server.storage.trouble import SchemaTooNew

# Exit statuses.
WELL, UNWELL, UNUSABLE = 0, 1, 2


def doctor(argv: Sequence[str]) -> int:
    """Examines a registry and, with --repair, mends it. 0: all is well; 1: something is wrong; 2: can't tell."""
    parser = _parser("doctor", "Check digests, rows against files, pointers, leftovers, permissions and the database.")
    parser.add_argument("--repair", action="store_true", help="mend what can be mended; safe while a server runs")
    options = parser.parse_args(list(argv))

    def work(layout: Layout) -> int:
        found = examine(layout)
        left = mend(layout, found) if options.repair else found
        mended = [finding for finding in found if finding not in left]
        if options.json:
            content = {"well": not left, "problems": [asdict(f) for f in left], "mended": [asdict(f) for f in mended]}
            print(json.dumps({"home": str(layout.home), **content}))
            return UNWELL if left else WELL
        for finding in mended:
            print(f"mended   {finding.reason:<20} {finding.what}")
        for finding in left:
            hint = " (--repair mends it)" if finding.mendable and not options.repair else ""
            print(f"problem  {finding.reason:<20} {finding.what}: {finding.message}{hint}")
        print(f"{layout.home}: {len(left)} problems" if left else f"{layout.home}: all is well")
        return UNWELL if left else WELL

    return _run(options, work)


def backup(argv: Sequence[str]) -> int:
    """Makes a backup."""
    parser = _parser("backup", "Back the registry up, also while its server runs.")
    parser.add_argument("to", type=Path, metavar="TO", help="a new directory")
    options = parser.parse_args(list(argv))
    return _run(options, lambda layout: _told(options, "backed up", layout.home, back_up(layout, options.to)))


def restore_command(argv: Sequence[str]) -> int:
    """Restores a backup."""
    parser = _parser("restore", "Restore a backup into an empty home; nothing is overwritten.")
    parser.add_argument("source", type=Path, metavar="FROM", help="the directory that `backup` made")
    options = parser.parse_args(list(argv))
    return _run(options, lambda layout: _told(options, "restored", layout.home, restore(options.source, layout)))


def _parser(name: str, what: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"lyra-adapters {name}", description=what, allow_abbrev=False)
    parser.add_argument("--home", help="the registry; default: as `serve`, LYRA_ADAPTERS_HOME or ~/.lyra/adapters")
    parser.add_argument("--config", help="a server's TOML file that names the home")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _run(options: argparse.Namespace, work: Callable[[Layout], int]) -> int:
    """Runs a command on the registry that the options mean; what can go wrong is said in a sentence."""
    logs.configure("auto", "warning")
    flags = [f"--{name}={value}" for name in ("home", "config") if (value := getattr(options, name))]
    try:
        return work(Layout(load_settings(flags).home))
    except (ConfigError, BackupError, SchemaTooNew, Refusal) as error:
        message = error.message if isinstance(error, Refusal) else str(error)
        if options.json:
            print(json.dumps({"error": message}))
        else:
            print(f"lyra-adapters: {message}", file=sys.stderr)
        return UNUSABLE


def _told(options: argparse.Namespace, done: str, home: Path, summary: Summary) -> int:
    if options.json:
        print(json.dumps({"home": str(home), **asdict(summary)}))
    else:
        size = summary.size_bytes / 2**20
        print(f"{home}: {done}, {summary.versions} versions and {summary.jobs} jobs, {size:.1f} MiB")
    return WELL
