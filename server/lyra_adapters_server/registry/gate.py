"""The gate: does a newly trained version stand up to the one in force?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import bdtrc, ndtri

from lyra_adapters_server.registry.anchor import (
    MIN_ANCHOR_ROWS,
    anchor_positions,
    confirmations_missing,
    is_correction,
    review_error_rate,
    review_weights,
)
from lyra_adapters_server.registry.comparison import POWER, Chance, Comparison, Probabilities, beyond_chance, compare
from lyra_adapters_server.types import LABELS, Sample

# A difference counts as there if chance alone would show one as large, either way, less often than this.
SIGNIFICANCE = 0.05
# The same for whether the challenger knows anything of the rows. Stricter, since a challenger that learnt nothing must
# not come in force, even where the champion is so weak that it costs little.
KNOWS_SIGNIFICANCE = 0.0003
# And for whether corrections are learnt. There are few of them as a rule.
LEARNT_SIGNIFICANCE = 0.005
# What a challenger may cost and still count as not worse. The Brier score decides, since it uses the probabilities and
# so needs far fewer rows than accuracy does: with CONFIDENCE it must not rise by more than this. Two trainings by one
# recipe differ by a third of it, and 200 rows tell it to a third of it (docs/learning.md).
BRIER_MARGIN = 0.06
CONFIDENCE = 0.9
# Beside that, no more than one row in twelve may seem lost, however few there are.
ACCURACY_MARGIN = 0.08


# Reviews of fewer documents than this say little, however many they are.
FEW_DOCUMENTS = 10
# More than this, and the honest answer is that the two are too alike for reviews to tell.
MOST_REVIEWS = 20_000


class Outcome(StrEnum):
    """How the challenger compares with the champion (protos: VerdictOutcome)."""

    BETTER = "BETTER"
    NOT_WORSE = "NOT_WORSE"
    UNDECIDED = "UNDECIDED"
    WORSE = "WORSE"

    @property
    def passes(self) -> bool:
        """Whether a version with this outcome is put in force under ACTIVATION_GATED."""
        return self in (Outcome.BETTER, Outcome.NOT_WORSE)


@dataclass(frozen=True)
class Evidence:
    """Rows that neither model has trained on, and both models' probabilities (rows, 3) for them."""

    samples: Sequence[Sample]
    champion: Probabilities
    challenger: Probabilities

    def at(self, positions: Iterable[int]) -> Evidence:
        """The rows at some positions."""
        kept = sorted(positions)
        return Evidence(
            [self.samples[index] for index in kept],
            [self.champion[index] for index in kept],
            [self.challenger[index] for index in kept],
        )


@dataclass(frozen=True)
class Learnt:
    """How many rows each model has right, corrections as a rule, and whether the challenger's are more than chance."""

    rows: int
    champion_right: int
    challenger_right: int
    # The share that the challenger's answers would have right if they were dealt out among these rows by chance.
    by_chance: float
    # Probability that chance has as many right as the challenger.
    p_value: float

    @property
    def shown(self) -> bool:
        """Whether chance is ruled out."""
        return self.p_value <= LEARNT_SIGNIFICANCE

    @property
    def rows_needed(self) -> float:
        """Corrections after which chance would be ruled out, with chance POWER, if as many are learnt as it seems."""
        distance = self.challenger_right / self.rows - self.by_chance
        spread = math.sqrt(self.by_chance * (1 - self.by_chance))
        reach = float(ndtri(1 - LEARNT_SIGNIFICANCE) + ndtri(POWER)) * spread
        return (reach / distance) ** 2 if distance > 0 else math.inf


@dataclass(frozen=True)
class Judgement:
    """The outcome, the rule's reasoning with its numbers, and what it rests on.

    Attributes:
        outcome: How the challenger compares.
        explanation: The reasoning in a few sentences.
        held_out: On the held-out reviews, weighted to the review error rate; None without any.
        anchor: On the rows that no model's errors chose; None without any.
        general: Whether those are the general rows, not reviews.
        learnt: On the corrections that were picked out, among the held-out reviews; None without any.
        more_reviews: About how many more reviews would decide; 0 where it is decided, or where no number would.
    """

    outcome: Outcome
    explanation: str
    held_out: Comparison | None = None
    anchor: Comparison | None = None
    general: bool = False
    learnt: Learnt | None = None
    more_reviews: int = 0


def judge(
    held_out: Evidence,
    general: Evidence,
    reviews: Sequence[Sample] = (),
    *,
    excluded: int = 0,
    fraction: float = 0.0,
) -> Judgement:
    """The rule by which a challenger is put in force, or not. The whole of it is here.

    The *anchor* is rows that no model's errors chose: the held-out reviews that show use as it is, where there are
    enough (anchor.anchor_positions), else the base model's general rows. The other held-out reviews were *picked out*
    because a model erred on them. Models are compared on rows that neither has trained on: McNemar's exact test on the
    rows that changed sides, and intervals of the differences of accuracy and Brier score (comparison.compare), which
    are wide where rows are of few documents, and say nothing where they are of one.

    1. UNDECIDED if no review was held out, or there is no anchor.
    2. WORSE if the challenger *loses* on the anchor or on all held-out reviews: significantly fewer rows right, and a
       significantly higher Brier score; or that alone, by more than BRIER_MARGIN, with no more rows right.
    3. UNDECIDED unless the anchor excludes a cost: with CONFIDENCE the Brier score is no more than BRIER_MARGIN higher,
       rows right are not significantly fewer, and do not seem to be by more than ACCURACY_MARGIN.
    4. Where reviews are the anchor: UNDECIDED unless the challenger *knows* something of them: its probabilities fit
       the rows better than if they were dealt out among them by chance (comparison.beyond_chance), at
       KNOWS_SIGNIFICANCE. Then BETTER if it *gains* (significantly more rows right, and a significantly lower Brier
       score), else NOT_WORSE.
    5. Where the general rows are: UNDECIDED unless something is learnt; then BETTER if the challenger gains on the
       general rows, or on reviews none of which is a correction; else NOT_WORSE.

    *Learnt*: the model in force is wrong on corrections because that is why they were sent, so any other model has more
    of them right. They count as learnt only if the challenger has more right than its answers would have if they were
    dealt out among them by chance, at LEARNT_SIGNIFICANCE. Without corrections, gaining on the reviews counts. Learnt
    corrections alone never make a challenger BETTER.

    Args:
        held_out: The held-out reviews.
        general: The general rows; not looked at where reviews are the anchor.
        reviews: All reviews of the job, trained on and held out: their error rate gives the weights.
        excluded: Reviews that were held out, and are not among these because one of the two was trained on them.
        fraction: Share of further reviews that would be held out, where none was now.
    """
    if not held_out.samples:
        return _nothing_to_compare_on(excluded, sent=len(reviews), fraction=fraction)
    everything = _reviews(held_out, reviews)
    chosen = set(anchor_positions(held_out.samples))
    picked = held_out.at(index for index in range(len(held_out.samples)) if index not in chosen)
    corrections = picked.at(index for index, row in enumerate(picked.samples) if is_correction(row))
    learnt = _learnt(corrections) if corrections.samples else None
    # Further reviews are held out in this share.
    share = (len(held_out.samples) + excluded) / max(len(reviews), len(held_out.samples) + excluded)
    if not chosen and len(general.samples) < MIN_ANCHOR_ROWS:
        missing = confirmations_missing(held_out.samples)
        more = _tens(max(1, MIN_ANCHOR_ROWS - everything.rows, missing) / share)
        confirmed = f", {_tens(missing / share):,} of them confirmations," if missing else ""
        return Judgement(
            Outcome.UNDECIDED,
            "The held-out reviews alone can't say what learning them cost, and there are "
            f"{'too few' if general.samples else 'no'} general rows that neither was trained on; about {more:,} more "
            f"reviews{confirmed} would decide. On {_words(everything, 'held-out reviews')}",
            everything,
            learnt=learnt,
            more_reviews=more,
        )
    anchor = _reviews(held_out.at(chosen), reviews) if chosen else _plain(general)
    knows = _chance(held_out.at(chosen)) if chosen else None
    if loses(anchor) or loses(everything):
        outcome = Outcome.WORSE
    elif not cost_excluded(anchor) or not _shown(knows, learnt, everything):
        outcome = Outcome.UNDECIDED
    elif gains(anchor) or (not chosen and learnt is None):
        outcome = Outcome.BETTER
    else:
        outcome = Outcome.NOT_WORSE
    more = 0
    if outcome is Outcome.UNDECIDED:
        more = _more_reviews(everything, anchor, knows, learnt, share=share)
    explanation = _explain(outcome, everything, anchor, learnt, general=not chosen, more=more)
    return Judgement(outcome, explanation, everything, anchor, not chosen, learnt, more)


def _nothing_to_compare_on(excluded: int, *, sent: int, fraction: float) -> Judgement:
    if not excluded:
        none = "No rows were held out, so the two could not be compared"
        if not fraction:
            return Judgement(Outcome.UNDECIDED, f"{none}; with a validation_fraction above 0 some would be.")
        more = _tens(MIN_ANCHOR_ROWS / fraction)
        told = f"{none}; about {more:,} more reviews, of other documents, would decide."
        return Judgement(Outcome.UNDECIDED, told, more_reviews=more)
    more = _tens(MIN_ANCHOR_ROWS * max(sent, excluded) / excluded)
    return Judgement(
        Outcome.UNDECIDED,
        f"One of the two was trained on all {excluded} held-out reviews, so they could not be compared; about {more:,} "
        "more reviews, of other documents, would decide.",
        more_reviews=more,
    )


def _shown(knows: Chance | None, learnt: Learnt | None, everything: Comparison) -> bool:
    if knows is not None:
        return knows.p_value <= KNOWS_SIGNIFICANCE
    return learnt.shown if learnt else gains(everything)


def loses(found: Comparison) -> bool:
    """Significantly fewer rows right, and a Brier score significantly higher; or that alone, by more than the margin.

    Both, for the reason that gains() has.
    """
    dearer = found.brier.low > 0
    return dearer and (fewer_right(found) or (found.brier.value > BRIER_MARGIN and found.accuracy.value <= 0))


def gains(found: Comparison) -> bool:
    """Significantly more rows right, and a significantly lower Brier score.

    Both, because two trainings by one recipe differ by more than their rows' chance, and must not be called better.
    """
    return found.gained > found.lost and found.p_value <= SIGNIFICANCE and found.brier.high < 0


def cost_excluded(found: Comparison) -> bool:
    """Whether the rows exclude that the challenger costs more than the margins."""
    kept = found.accuracy.value >= -ACCURACY_MARGIN and not fewer_right(found)
    return kept and found.brier.upper(CONFIDENCE) <= BRIER_MARGIN


def fewer_right(found: Comparison) -> bool:
    """Whether significantly fewer rows are right."""
    return found.lost > found.gained and found.p_value <= SIGNIFICANCE


def _plain(rows: Evidence) -> Comparison:
    return compare(rows.samples, rows.champion, rows.challenger)


def _reviews(rows: Evidence, reviews: Sequence[Sample]) -> Comparison:
    weights = review_weights(rows.samples, review_error_rate(reviews or rows.samples))
    return compare(rows.samples, rows.champion, rows.challenger, weights)


def _chance(rows: Evidence) -> Chance:
    return beyond_chance(rows.samples, rows.challenger)


def _learnt(found: Evidence) -> Learnt:
    rows = len(found.samples)
    labels = [LABELS.index(sample.correct_label) for sample in found.samples]
    answers = [max(range(3), key=row.__getitem__) for row in found.challenger]
    before, after = (
        sum(max(range(3), key=row.__getitem__) == label for row, label in zip(side, labels, strict=True))
        for side in (found.champion, found.challenger)
    )
    by_chance = sum(labels.count(label) * answers.count(label) for label in range(len(LABELS))) / rows**2
    # The chance of at least `after` successes; bdtrc(k) is that of more than k.
    p_value = float(bdtrc(after - 1, rows, by_chance)) if after else 1.0
    return Learnt(rows, before, after, by_chance, p_value)


def _more_reviews(
    reviews: Comparison, anchor: Comparison, knows: Chance | None, learnt: Learnt | None, *, share: float
) -> int:
    """About how many more reviews would decide, if the differences are what they seem; 0 if none would.

    Reviews decide by those that are held out, so the held-out share of this job is assumed of the further ones. Where
    the general rows are the anchor (`knows` is None), more reviews decide by becoming the anchor themselves.
    """
    needed: list[float] = []
    if not cost_excluded(anchor):
        kept = anchor.brier.rows_for(BRIER_MARGIN - anchor.brier.value, CONFIDENCE)
        lost = anchor.accuracy.rows_for(-anchor.accuracy.value, 1 - SIGNIFICANCE / 2)
        needed.append(min(kept, lost) - (0 if knows is None else anchor.rows))
    elif knows is not None:
        needed.append((knows.rows_for(KNOWS_SIGNIFICANCE) - knows.rows) / (knows.rows / reviews.rows))
    elif learnt is not None:
        needed.append((learnt.rows_needed - learnt.rows) / (learnt.rows / reviews.rows))
    else:
        needed.append(MIN_ANCHOR_ROWS - reviews.rows)
    found, documents = _tens(max(needed) / share), reviews.brier.documents
    if found or documents >= FEW_DOCUMENTS:
        return found
    # The differences are hardly what they seem on so few; on more it will show.
    return _tens((FEW_DOCUMENTS - documents) * reviews.rows / documents / share)


def _tens(reviews: float) -> int:
    """Upwards to tens: it is a guess, and should not look like a count. 0 if it is more than anybody sends."""
    return math.ceil(max(reviews, 1.0) / 10) * 10 if reviews <= MOST_REVIEWS else 0


def _explain(
    outcome: Outcome,
    reviews: Comparison,
    anchor: Comparison,
    learnt: Learnt | None,
    *,
    general: bool,
    more: int,
) -> str:
    words = [_words(reviews, "held-out reviews")]
    if learnt is not None:
        words.append(
            f"Of {learnt.rows} held-out corrections it has {learnt.challenger_right} right "
            f"({learnt.champion_right} before; by chance "
            f"{learnt.by_chance * learnt.rows:.0f})."
        )
    if general or learnt is not None:
        which = "general rows" if general else "of them that no model's errors chose"
        words.append(f"What that cost is judged on {_words(anchor, which)}")
    if outcome is Outcome.UNDECIDED:
        why = "what it has right could be chance" if cost_excluded(anchor) else "a cost can't be excluded"
        other = ", of other documents," if reviews.brier.documents < FEW_DOCUMENTS else ""
        asked = f"about {more:,} more reviews{other} would decide" if more else "more reviews alone would hardly decide"
        return f"Undecided: {why}; {asked}. On {' '.join(words)}"
    first = {Outcome.BETTER: "Better", Outcome.NOT_WORSE: "Not worse", Outcome.WORSE: "Worse"}[outcome]
    return f"{first}: on {' '.join(words)}"


def _words(found: Comparison, rows: str) -> str:
    weighted = ", weighted to the reviews' error rate," if found.weighted else ""
    return (
        f"{found.rows} {rows}: accuracy{weighted} goes {found.champion_accuracy:.3f} -> "
        f"{found.challenger_accuracy:.3f} ({found.accuracy.low:+.3f} to {found.accuracy.high:+.3f}; "
        f"{found.gained} rows gained, {found.lost} lost, p = {found.p_value:.2g}) and Brier {found.brier.value:+.3f} "
        f"({found.brier.low:+.3f} to {found.brier.high:+.3f})."
    )
