"""What was measured of the models of an experiment, seed by seed.

A model counts only where each step that made it, from the rows to its scores, is what the settings in force make. So all that is compared
was trained with one set of settings and measured on the same rows, whatever else lies in the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from zephyr.reproduce import compare, work
from zephyr.reproduce.compare import Found
from zephyr.reproduce.data import MAIN, OTHER
from zephyr.reproduce.experiment import BASE_SEED, WAITS, Experiment
from zephyr.reproduce.graph import BASE, EXPERIMENTS, Model, Step, models_of, steps
from zephyr.reproduce.scores import DIALOGUES, Cells, Scores

Reader = Callable[[Scores, Scores], Cells]


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
    read: Reader
    share: bool = True
    more: bool | None = True
    needs: str | None = None


def _accuracy(name: str, *, per_token: bool) -> Reader:
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
    "ended": Measure("ends with EOS", "the share of sampled answers that end with EOS", lambda s, _: s.ended(), more=None),
    "cut": Measure(
        "cut off at the limit",
        "the share of sampled answers that reach the limit without EOS or a role token",
        lambda s, _: s.cut(),
        more=None,
    ),
    "ran_on": Measure("writes a role token", "the share of sampled answers that emit a role token", lambda s, _: s.ran_on(), more=False),
    "length": Measure("answer, tokens", "the length of sampled answers", lambda s, _: s.lengths(), share=False, more=None),
}
# chosen before anything was measured: the implicit reward, which dDPO itself is trained on, of pairs like those it learns
PRIMARY = f"{MAIN}.sum"
# of the answers that a model samples; `kept`, `cut` and `ran_on` make up all of them
ANSWERS = ("kept", "ended", "cut", "ran_on")
_SHOWN = 200  # characters of a reason: whole presets may differ


@dataclass(frozen=True)
class Lack:
    """A step that a comparison needs and that is not what the settings in force make.

    Args:
        place: its folder, under that of the experiment.
        why: what is different, in words.
        other: whether something stands there: made with other settings, or from other rows.
    """

    place: str
    why: str
    other: bool

    def __str__(self) -> str:
        """`seed-1/dpo1 (dpo.learning_rate 0.0002 -> 0.001)`."""
        return f"{self.place} ({self.why if len(self.why) <= _SHOWN else self.why[:_SHOWN] + ' …'})" if self.other else self.place


@dataclass(frozen=True)
class Read:
    """How much of some rows a training or a measurement read.

    Args:
        of: rows that there were.
        rows: those that fit, and were read.
        cut: answers of these that lost their end, and the token that says so; None where none ever does.
        updates: of a training.
    """

    of: int
    rows: int
    cut: int | None = None
    updates: int = 0

    @property
    def cut_share(self) -> float:
        """Of the answers of pairs: each has two."""
        return self.cut / (2 * self.rows) if self.cut and self.rows else 0.0


class Evidence:
    """Reads the scores of models that count. A model that was not made for all seeds, or with other settings, is not there."""

    def __init__(self, experiment: Experiment, seeds: Sequence[int]) -> None:
        """`experiment` has the settings in force and the folder, `seeds` are those that count."""
        self.experiment, self.out, self.seeds = experiment, experiment.out, tuple(seeds)
        self._scores = cache(Scores.read)

    @cached_property
    def _outstanding(self) -> dict[Path, str]:
        """Of all steps of all experiments those that do not count."""
        every = steps(models_of(EXPERIMENTS))
        return self.experiment.outstanding([(step, seed) for seed in self.seeds for step in every], strict=False)

    def lacks(self, *models: Model) -> list[Lack]:
        """Why models cannot be compared: the steps that they and the base need and that do not count. Empty where they can.

        Of a step that only waits for another one, the other is named.
        """
        places = {own.out: None for _, own, _ in self.experiment.before()}
        places |= {self.experiment.place(step, seed): None for seed in self.seeds for step in steps(models)}
        found = {place: self._outstanding[place] for place in places if place in self._outstanding}
        causes = {place: why for place, why in found.items() if why != WAITS} or found
        return [Lack(str(place.relative_to(self.out)), why, work.is_there(place)) for place, why in causes.items()]

    def folders(self, model: Model) -> list[Path]:
        """Where its scores are; one for all seeds where it is the base."""
        return [self.experiment.place(Step("scores", model), seed) for seed in ((BASE_SEED,) if model == BASE else self.seeds)]

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
        return compare.share_of(cells) if MEASURES[measure].share else compare.level(cells)

    def difference(self, first: Model, second: Model, measure: str) -> Found:
        """First minus second."""
        return scaled(compare.difference(self.cells(first, measure), self.cells(second, measure)), measure)

    def own_would_end(self) -> float | None:
        """The share of the dialogues' own answers that would have ended within the limit of those that are sampled."""
        return self.base.own_would_end(self.experiment.preset.sampling.max_new_tokens)

    def read(self, model: Model) -> Read | None:
        """What the last training of a model had to learn and what it did, of the first seed: each seed reads the same rows."""
        manifest = work.manifest_of(self.experiment.place(Step("dpo" if model.dpo else "sft", model), self.seeds[0]))
        rows = work.manifest_of(self.out / "rows" / ("pairs" if model.dpo or model.best else "dialogues"))
        if manifest is None or rows is None:
            return None
        # of dSFT `rows_out` counts packed sequences
        learnt = manifest.rows_out if model.dpo else manifest.results.get("dialogues", {})
        cut = manifest.results.get("cut", {}).get("train", {}).get("answers", 0) if model.dpo else None
        return Read(rows.rows_out.get("train", 0), learnt.get("train", 0), cut, manifest.results.get("steps", 0))

    def measured(self) -> dict[str, Read]:
        """The same of what is measured on, which is the same for every model: sets of pairs, and the test dialogues."""
        manifest = work.manifest_of(self.folders(BASE)[0])
        given = {name: work.manifest_of(self.out / "rows" / name) for name in ("pairs", "other", "dialogues")}
        of = {name: found.rows_out.get("test", 0) for name, found in given.items() if found}
        cut = manifest.results.get("cut", {}) if manifest else {}
        found = {
            name: Read(of[part], sum(row["set"] == name for row in self.base.pairs), cut.get(name, {}).get("answers", 0))
            for name, part in ((MAIN, "pairs"), (OTHER, "other"))
            if name in self.base.sets()
        }
        return {**found, DIALOGUES: Read(of["dialogues"], len(self.base.dialogues))}

    def learnt(self, model: Model, reference: Model, name: str) -> list[Cells]:
        """Accuracy against the model that its dDPO started from, on a set or on the pairs it learnt."""
        return [s.accuracy(name, r) for s, r in zip(self.scores(model), self.scores(reference), strict=True)]


def scaled(found: Found, measure: str) -> Found:
    """A difference whose interval ends where the scale of the measure does: two shares are not farther apart than 1."""
    return compare.of_shares(found) if MEASURES[measure].share else found
