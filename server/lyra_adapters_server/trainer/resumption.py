"""What a caller is told where a training that was interrupted can't go on as if nothing had been."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lyra_adapters_server.trainer.checkpoint import Unusable
from lyra_adapters_server.trainer.events import TrainerWarning


def what_differs(unusable: Sequence[Unusable], differences: Sequence[str], step: int) -> Iterator[TrainerWarning]:
    """The warnings.

    Args:
        unusable: Checkpoints that can't be gone on from.
        differences: Of the plan, from the one that the job was begun under.
        step: Where the training goes on; 0: at its beginning.
    """
    for one in unusable:
        yield TrainerWarning(
            reason="CHECKPOINT_UNUSABLE",
            message=f"The checkpoint of step {one.step} can't be gone on from: {one.why}. The job goes on from "
            + (f"that of step {step}, before it." if step else "the beginning."),
        )
    if differences:
        yield TrainerWarning(
            reason="PLAN_CHANGED",
            message="The trainer can't compute as when the job began, so its result may differ a little from that "
            f"of an uninterrupted run: {'; '.join(differences)}.",
        )
