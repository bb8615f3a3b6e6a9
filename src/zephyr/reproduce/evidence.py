"""What was measured of the models of an experiment, seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zephyr.reproduce import compare, work
from zephyr.reproduce.compare import Found
from zephyr.reproduce.data import MAIN, OTHER
from zephyr.reproduce.graph import BASE, Model, Step
from zephyr.reproduce.scores import LEARNT, Cells, Scores

Read = Callable[[Scores, Scores], Cells]


@dataclass(frozen=True)
class Measure:
    """Something that is measured of a model.

    Args:
        label: what it is called.
        on: what it is measured on, as a sentence ends with it.
        read: of the model's scores and the base's.
        share: from 0 to 1.
        more: the larger the better; None where neither is.
        needs: the set of pairs that it is of, if it is of pairs.
    """

    label: str
    on: str
    read: Read
    share: bool = True
    more: bool | None = True
    needs: str | None = None


def _accuracy(name: str, *, per_token: bool) -> Read:
    return lambda scores, base: scores.accuracy(name, base, per_token=per_token)


_SETS = {MAIN: "held-out pairs", OTHER: "AlpacaEval pairs"}
MEASURES: dict[str, Measure] = {
    **{
        f"{name}.{way}": Measure(
            f"accuracy, {label}, {'per token' if per_token else 'sum'}",
            f"preference accuracy on {label}, log π − log π_base {'per token' if per_token else 'summed'}",
            _accuracy(name, per_token=per_token),
            needs=name,
        )
        for name, label in _SETS.items()
        for way, per_token in (("sum", False), ("token", True))
    },
    "nll": Measure("test loss, nats per token", "the loss of test dialogues", lambda s, _: s.nll(), share=False, more=False),
    "kept": Measure(
        "keeps to the template", "the share of sampled answers that end with EOS and emit no role token", lambda s, _: s.kept()
    ),
    "ran_on": Measure(
        "runs on with role tokens", "the share of sampled answers that emit a role token", lambda s, _: s.ran_on(), more=False
    ),
    "length": Measure("answer, tokens", "the length of sampled answers", lambda s, _: s.lengths(), share=False, more=None),
}
# chosen before anything was measured: the implicit reward of dDPO itself, on pairs like those it learns
PRIMARY = f"{MAIN}.sum"


class Evidence:
    """Reads scores where they are. A model that was not made for all seeds is not there."""

    def __init__(self, out: Path, seeds: Sequence[int]) -> None:
        """`out` is the folder of the experiment, `seeds` those that count."""
        self.out, self.seeds = out, tuple(seeds)
        self._scores = cache(Scores.read)

    def folders(self, model: Model) -> list[Path]:
        """Where its scores are; one for all seeds where it is the base."""
        name = Step("scores", model).folder
        return [self.out / name] if model == BASE else [self.out / f"seed-{seed}" / name for seed in self.seeds]

    def has(self, *models: Model) -> bool:
        """Whether all of them are there."""
        return all(work.is_there(folder) for model in (*models, BASE) for folder in self.folders(model))

    def scores(self, model: Model) -> list[Scores]:
        """Of each seed."""
        return [self._scores(folder) for folder in self.folders(model)]

    @property
    def base(self) -> Scores:
        """Of the model that all start from."""
        return self.scores(BASE)[0]

    def measures(self) -> list[str]:
        """Those that the rows allow."""
        there = self.base.sets()
        return [name for name, measure in MEASURES.items() if measure.needs is None or measure.needs in there]

    def cells(self, model: Model, measure: str) -> list[Cells]:
        """A measure of a model, for each seed."""
        return [MEASURES[measure].read(scores, self.base) for scores in self.scores(model)]

    def level(self, model: Model, measure: str) -> Found:
        """With its interval."""
        cells = self.cells(model, measure)
        found = compare.level(cells)
        return compare.as_share(found, cells) if MEASURES[measure].share else found

    def difference(self, first: Model, second: Model, measure: str) -> Found:
        """First minus second."""
        return compare.difference(self.cells(first, measure), self.cells(second, measure))

    def learnt(self, model: Model, reference: Model, name: str) -> list[Cells]:
        """Accuracy against the model that its dDPO started from, on a set or on the pairs it learnt."""
        return [s.accuracy(name, r) for s, r in zip(self.scores(model), self.scores(reference), strict=True)]

    def has_learnt(self, model: Model) -> bool:
        """Whether it was measured on the pairs that it was trained on."""
        return self.has(model) and all(LEARNT in scores.sets() for scores in self.scores(model))
