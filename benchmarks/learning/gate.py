"""How often the gate is right: whole trainings simulated on features of the frozen demo base, hundreds in a minute.

    python benchmarks/learning/gate.py FEATURES.npz [--repeats 30] [--output TABLE.md]

FEATURES.npz comes from benchmarks/learning/features.py. The trained part is a multinomial logistic regression on the
features, with the service's own inner rows, temperature, split by document, and gate (registry/gate.py).

In each repetition a champion is trained on all that one set has. Then come challengers: the same rows with permuted
labels, the same rows with another seed, the same rows with 200 more real reviews of the other set, and those reviews
with a third of the rows, so that what the champion knew is partly forgotten. Reviews are a sample of what the champion
says (natural), rows it gets wrong and a fifth as many that it gets right (mixed), or only rows that it gets wrong
(corrections). The gate sees either the held-out rows of both sets, as where feedback is cumulative, or those of the
reviews alone.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lyra_adapters_server.registry.anchor import picked_out
from lyra_adapters_server.registry.gate import Evidence, Outcome, judge
from lyra_adapters_server.trainer.calibration import at_temperature, fit_temperature
from lyra_adapters_server.trainer.runs import LEAST_IN_USE
from lyra_adapters_server.types import LABELS, Sample
from scipy.optimize import minimize

Array = np.ndarray[Any, Any]
Model = Callable[[Array], list[tuple[float, float, float]]]

SETS = ("scifact", "checkcovid")
REVIEWS = ("natural", "mixed", "corrections")
CHALLENGERS = ("permuted labels", "another seed", "200 more reviews", "two thirds forgotten")
# Kept directions of the features and strength of the penalty: what does best on the dev rows.
DIRECTIONS, PENALTY = 256, 20.0
HELD_OUT, MORE = 0.2, 200


class Rows:
    """Rows of one set: features (rows, directions), labels, documents, and the champion's answers (-1: not known)."""

    def __init__(self, x: Array, y: Array, document: Array, said: Array | None = None) -> None:
        self.x, self.y, self.document = x, y, document
        self.said = np.full(len(y), -1) if said is None else said

    def at(self, chosen: Array) -> Rows:
        """Some of the rows."""
        return Rows(self.x[chosen], self.y[chosen], self.document[chosen], self.said[chosen])

    def plus(self, other: Rows) -> Rows:
        """These rows and others."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Rows(*(np.concatenate(pair) for pair in pairs))

    def samples(self) -> list[Sample]:
        """As the gate knows them; texts are not looked at."""
        return [
            Sample(
                id=f"{document}-{row}",
                premise=f"{document}-{row}",
                hypothesis="-",
                correct_label=LABELS[label],
                original_label=LABELS[said] if said >= 0 else None,
                group=str(document),
            )
            for row, (label, document, said) in enumerate(zip(self.y, self.document, self.said, strict=True))
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    sets, general = load(arguments.features)
    found: dict[tuple[bool, str, str], dict[str, Counter[Outcome]]] = {}
    for first, reviews in itertools.product(SETS, REVIEWS):
        for seed in range(arguments.repeats):
            for (cumulative, name), outcome in repetition(sets, general, first, reviews, seed).items():
                row = found.setdefault((cumulative, first, reviews), {name: Counter() for name in CHALLENGERS})
                row[name][outcome] += 1
    lines = [
        f"| gate sees | champion | reviews | {' | '.join(CHALLENGERS)} |",
        f"|{' --- |' * (3 + len(CHALLENGERS))}",
    ]
    for (cumulative, first, reviews), row in sorted(found.items(), key=lambda one: not one[0][0]):
        cells = " | ".join(cell(row[name]) for name in CHALLENGERS)
        lines.append(f"| {'both sets' if cumulative else 'reviews alone'} | {first} | {reviews} | {cells} |")
    text = "\n".join([*lines, "", f"{arguments.repeats} repetitions a cell. Put in force / BETTER / WORSE."])
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def cell(found: Counter[Outcome]) -> str:
    """Put in force, called better, called worse."""
    passed = found[Outcome.BETTER] + found[Outcome.NOT_WORSE]
    return f"{passed} / {found[Outcome.BETTER]} / {found[Outcome.WORSE]}"


def load(path: Path) -> tuple[dict[str, Rows], Rows]:
    """Each set whole, and the general rows that anchor the gate; features on their principal directions."""
    stored = np.load(path)
    trained_on = np.concatenate([stored[f"{name}_train_f"] for name in SETS])
    centre, spread = trained_on.mean(axis=0), trained_on.std(axis=0) + 1e-3
    _, sizes, directions = np.linalg.svd((trained_on - centre) / spread, full_matrices=False)
    scale = 0.3 * np.sqrt(len(trained_on)) / sizes[:DIRECTIONS]

    def rows(name: str) -> Rows:
        x = (stored[f"{name}_f"] - centre) / spread @ directions[:DIRECTIONS].T * scale
        return Rows(x, stored[f"{name}_y"], stored[f"{name}_g"])

    whole = {name: rows(f"{name}_train").plus(rows(f"{name}_dev")) for name in SETS}
    return whole, rows("general")


def repetition(
    sets: dict[str, Rows], general: Rows, first: str, reviews: str, seed: int
) -> dict[tuple[bool, str], Outcome]:
    """One champion and its challengers, with and without the first set's held-out rows before the gate."""
    random = np.random.default_rng([seed, SETS.index(first)])
    old = sets[first]
    old_held = held_out(old.document, HELD_OUT, random)
    before, judged = old.at(~old_held), old.at(old_held)
    champion = train(before, seed)
    other = sets[next(name for name in SETS if name != first)]
    other = Rows(other.x, other.y, other.document, answers(champion(other.x)))
    new = other.at(choose(other, reviews, round(MORE / (1 - HELD_OUT)), random))
    new_held = held_out(new.document, HELD_OUT, random)
    added, new = new.at(~new_held), new.at(new_held)
    every = before.plus(added)
    kept = before.at(held_out(before.document, 1 / 3, random))
    challengers = {
        "permuted labels": train(Rows(every.x, random.permutation(every.y), every.document, every.said), seed + 500),
        "another seed": train(before, seed + 500),
        "200 more reviews": train(every, seed + 500),
        "two thirds forgotten": train(kept.plus(added), seed + 500),
    }
    anchor = Evidence(general.samples(), champion(general.x), ())
    found: dict[tuple[bool, str], Outcome] = {}
    for cumulative in (True, False):
        rows, known = (judged.plus(new), before.plus(added)) if cumulative else (new, added)
        held = Evidence(rows.samples(), champion(rows.x), ())
        for name, challenger in challengers.items():
            found[cumulative, name] = judge(
                replace(held, challenger=challenger(rows.x)),
                replace(anchor, challenger=challenger(general.x)),
                [*held.samples, *known.samples()],
            ).outcome
    return found


def choose(rows: Rows, reviews: str, count: int, random: np.random.Generator) -> Array:
    """Positions of the rows that are reviewed."""
    wrong, right = np.flatnonzero(rows.said != rows.y), np.flatnonzero(rows.said == rows.y)
    if reviews == "natural":
        return random.choice(len(rows.y), count, replace=False)
    confirmed = 0 if reviews == "corrections" else count // 6
    return np.concatenate(
        [random.choice(wrong, count - confirmed, replace=False), random.choice(right, confirmed, replace=False)]
    )


def held_out(documents: Array, share: float, random: np.random.Generator) -> Array:
    """A mask of whole documents that make up about a share of the rows."""
    chosen: set[Any] = set()
    taken = 0
    for document in random.permutation(np.unique(documents)):
        if taken >= share * len(documents):
            break
        chosen.add(document)
        taken += int((documents == document).sum())
    return np.array([document in chosen for document in documents])


def answers(probabilities: list[tuple[float, float, float]]) -> Array:
    return np.asarray(probabilities).argmax(axis=1)


def train(rows: Rows, seed: int) -> Model:
    """Multinomial logistic regression, and a temperature from inner rows. The seed weighs rows and draws inner ones."""
    random = np.random.default_rng(seed)
    inner = held_out(rows.document, 0.15, random)
    x, y = rows.x[~inner], rows.y[~inner]
    weight = 0.7 + 0.3 * random.poisson(1.0, len(y))
    weight = weight / weight.mean()
    width, place = x.shape[1], np.arange(len(y))

    def cost(flat: Array) -> tuple[float, Array]:
        matrix, bias = flat[:-3].reshape(width, 3), flat[-3:]
        found = softmax(x @ matrix + bias)
        error = found.copy()
        error[place, y] -= 1
        error *= weight[:, None]
        loss = -(weight * np.log(found[place, y] + 1e-12)).sum() + PENALTY / 2 * (matrix**2).sum()
        return float(loss), np.concatenate([(x.T @ error + PENALTY * matrix).ravel(), error.sum(axis=0)])

    flat = minimize(cost, np.zeros(3 * width + 3), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    matrix, bias = flat[:-3].reshape(width, 3), flat[-3:]

    def raw(features: Array) -> list[tuple[float, float, float]]:
        return [(row[0], row[1], row[2]) for row in softmax(features @ matrix + bias).tolist()]

    in_use = inner.copy()
    in_use[list(picked_out(rows.samples()))] = False
    fitted = in_use if in_use.sum() >= LEAST_IN_USE else inner
    temperature = fit_temperature(raw(rows.x[fitted]), rows.y[fitted].tolist())
    return lambda features: at_temperature(raw(features), temperature)


def softmax(logits: Array) -> Array:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = grown / grown.sum(axis=1, keepdims=True)
    return found


if __name__ == "__main__":
    main()
