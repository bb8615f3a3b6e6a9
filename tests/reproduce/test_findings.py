"""Each finding reaches each of its verdicts, by effects that were put into the numbers."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zephyr.reproduce import findings
from zephyr.reproduce.data import MAIN
from zephyr.reproduce.evidence import PRIMARY, Evidence
from zephyr.reproduce.findings import CONFIRMED, CONTRADICTED, NOT_EXAMINED, UNDECIDED
from zephyr.reproduce.graph import ARMS, CURVE, GRID, Model
from zephyr.reproduce.preset import Margins
from zephyr.reproduce.scores import LEARNT, Cells

NO_DPO, DSFT1, DSFT2, BOTH = ARMS.values()
PROMPTS, SEEDS = 400, (1, 2, 3)


class Made(Evidence):
    """Evidence with known means: of a model and measure, else 0.5; each prompt is right or wrong by a coin of its own."""

    def __init__(self, known: dict[tuple[Model, str], float], there: tuple[Model, ...] = (*ARMS.values(), *GRID), sd: float = 0.1) -> None:
        super().__init__(Path(), SEEDS)
        self.known, self.there, self.sd = known, there, sd

    def has(self, *models: Model) -> bool:
        return set(models) <= set(self.there)

    def has_learnt(self, model: Model) -> bool:
        return self.has(model)

    def measures(self) -> list[str]:
        return [PRIMARY, "kept"]

    def cells(self, model: Model, measure: str) -> list[Cells]:
        return self._drawn(self.known.get((model, measure), 0.5), f"{model.name}{measure}")

    def learnt(self, model: Model, reference: Model, name: str) -> list[Cells]:
        assert reference == CURVE.parent
        return self._drawn(self.known.get((model, name), 0.5), f"{model.name}{name}")

    def _drawn(self, mean: float, name: str) -> list[Cells]:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.normal(mean, self.sd, (len(SEEDS), PROMPTS))
        return [{f"p{i}": (float(v), 1) for i, v in enumerate(of_seed)} for of_seed in values + (mean - values.mean(1, keepdims=True))]


def verdict(name: str, known: dict[tuple[Model, str], float], sd: float = 0.1) -> str:
    return next(f for f in findings.all_of(Made(known, sd=sd), Margins()) if f.name == name).verdict


ONCE, LONGER = replace(CURVE, dpo=1), [(Model(sft=s, dpo=3), PRIMARY) for s in (2, 3)]


@pytest.mark.parametrize(
    ("name", "confirmed", "contradicted"),
    [
        ("F1", {(BOTH, PRIMARY): 0.6}, {(BOTH, PRIMARY): 0.4}),
        ("F3", {(NO_DPO, "kept"): 0.1}, {(NO_DPO, "kept"): 0.9}),
        ("F4", {(DSFT2, PRIMARY): 0.48}, {(DSFT2, PRIMARY): 0.56}),
        ("F5", {(CURVE, LEARNT): 0.99, (CURVE, MAIN): 0.6}, {(CURVE, LEARNT): 0.5, (CURVE, MAIN): 0.5}),
        ("F6", {(CURVE, PRIMARY): 0.6}, {(CURVE, PRIMARY): 0.4}),
        ("F7", dict.fromkeys(LONGER, 0.4), dict.fromkeys(LONGER, 0.6)),
    ],
)
def test_verdicts_follow_the_effect(
    name: str, confirmed: dict[tuple[Model, str], float], contradicted: dict[tuple[Model, str], float]
) -> None:
    assert verdict(name, confirmed) == CONFIRMED
    assert verdict(name, contradicted) == CONTRADICTED
    # the same effect in rows that spread two hundred times as much
    assert verdict(name, confirmed, sd=20.0) == UNDECIDED


def test_pairs_that_are_not_learnt_by_heart_are_undecided_though_the_gap_is_plain() -> None:
    assert verdict("F5", {(CURVE, LEARNT): 0.8, (CURVE, MAIN): 0.6}) == UNDECIDED


def test_no_effect_confirms_that_dsft_2_does_not_help_and_nothing_else() -> None:
    found = {f.name: f.verdict for f in findings.all_of(Made({}), Margins())}
    assert found == {
        "F1": UNDECIDED,
        "F2": NOT_EXAMINED,
        "F3": UNDECIDED,
        "F4": CONFIRMED,
        "F5": CONTRADICTED,
        "F6": UNDECIDED,
        "F7": UNDECIDED,
        "F8": NOT_EXAMINED,
    }


def test_a_sentence_names_its_measure_its_interval_and_what_could_have_been_shown() -> None:
    found = {f.name: f for f in findings.all_of(Made({(BOTH, PRIMARY): 0.6}), Margins())}
    one = found["F1"]
    assert one.found is not None
    assert "preference accuracy on held-out pairs" in one.sentence
    assert "+10.0 points [" in one.sentence
    assert "400 prompts, 3 trainings each" in one.sentence
    assert f"{100 * one.found.smallest:.1f} points or more could have been shown" in one.sentence
    assert "MT-Bench" not in one.sentence
    assert any("keeps to the template" in line for line in one.beside)
    assert not any(PRIMARY in line for line in one.beside)


def test_where_no_row_differs_no_interval_is_claimed() -> None:
    found = next(f for f in findings.all_of(Made({}, sd=0.0), Margins()) if f.name == "F3")
    assert found.verdict == UNDECIDED
    assert "0.0 points, the same on each of 400 prompts in 3 trainings" in found.sentence and "could have been shown" not in found.sentence


def test_what_is_not_there_yet_is_not_examined_and_says_which_command_measures_it() -> None:
    found = {f.name: f for f in findings.all_of(Made({}, there=tuple(ARMS.values())), Margins())}
    assert [name for name, f in found.items() if f.verdict == NOT_EXAMINED] == ["F2", "F5", "F6", "F7", "F8"]
    assert "zephyr reproduce figure3" in found["F6"].sentence
    assert "open-llm" in found["F2"].sentence
