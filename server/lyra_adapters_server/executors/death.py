"""How a worker process ended, in words for the one who has to find out why."""

from __future__ import annotations

import signal


def describe_death(exit_code: int | None, silent_s: float | None) -> str:
    """Says how a worker ended.

    Args:
        exit_code: As subprocess gives it: negative for a signal; None if unknown.
        silent_s: For how long it had given no sign of life when it was killed for that; None if it was not.
    """
    if silent_s is not None:
        return (
            f"the trainer process gave no sign of life for {silent_s:.0f} s and was killed (hang_s sets how long it "
            "may be silent)"
        )
    if exit_code is None:
        return "the trainer process has ended"
    if exit_code >= 0:
        return f"the trainer process ended with exit status {exit_code}"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"signal {-exit_code}"
    if exit_code == -signal.SIGKILL:
        return (
            f"the trainer process was killed ({name}), as the kernel does with a process when memory runs out: see "
            "`dmesg`, or whoever else may have killed it"
        )
    return f"the trainer process was ended by {name}"
