"""The demo: a language model learns from corrections over a real gRPC server. `make demo` runs it.

Starts a server with the demo base (converted once to the user's cache), trains an adapter on the corrections in this
folder, looks at it, and rolls it back: the commands that it prints are those it runs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from serving import COMMAND, serving

ROOT = Path(__file__).resolve().parent.parent
CORRECTIONS = ROOT / "examples" / "sleep_corrections.jsonl"


def say(text: str) -> None:
    """Prints a line between the commands' output, in order with it."""
    print(text, flush=True)


def run(address: str, *arguments: str) -> None:
    """Shows a command as a person would type it, and runs it. Raises CalledProcessError."""
    shown = [str(Path(a).relative_to(ROOT)) if a == str(CORRECTIONS) else a for a in arguments]
    say(f"\n$ lyra-adapters {shlex.join(shown)}")
    environment = {**os.environ, "LYRA_ADAPTERS_SERVER": address}
    subprocess.run([*COMMAND, *arguments], check=True, env=environment)


def main() -> int:
    """Runs the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=ROOT / "build" / "demo", help="registry of the demo; made anew")
    home: Path = parser.parse_args().home
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    say("Starting a server with the demo base model (SmolLM2-135M-Instruct); the first start converts it.")
    with serving(home, "--base-model", "demo") as address:
        say(f"It listens on {address} and is ready after {time.monotonic() - begun:.0f} s.")
        run(address, "train", str(CORRECTIONS), "--adapter", "sleep", "--epochs", "4", "--require-active")
        run(address, "list", "sleep")
        run(address, "rollback", "sleep", "--reason", "to show that it can be undone")
        run(address, "rollback", "sleep", "--to", "v1", "--reason", "and redone")
        run(address, "list", "sleep", "--history")
    say(f"\nDone in {time.monotonic() - begun:.0f} s. The adapter is in {home / 'sleep_v1'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
