"""Each finding reaches each of its verdicts, by effects that were put into the numbers."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zephyr.reproduce import findings, preset
from zephyr.reproduce.data import MAIN
from zephyr.reproduce.evidence import ANSWERS, PRIMARY, Evidence, Lack, Read
from zephyr.reproduce.experiment import Experiment
from zephyr.reproduce.findings import CONFIRMED, CONTRADICTED, NOT_EXAMINED, UNDECIDED, Finding
from zephyr.reproduce.graph import ARMS, BASE, CURVE, GRID, Model
from zephyr.reproduce.preset import Margins
from zephyr.reproduce.scores import LEARNT, Cells

NO_DPO, DSFT1, DSFT2, BOTH = ARMS.values()
PROMPTS, SEEDS = 400, (1, 2, 3)


class Made(Evidence):
    """Evidence with known means: of a model and measure, else 0.5; each prompt is right or wrong by a coin of its own."""

    def __init__(self, known: dict[tuple[Model, str], float], there: tuple[Model, ...] = (*ARMS.values(), *GRID), sd: float = 0.1) -> None:
        super().__init__(Experiment(preset.load("demo"), Path("out")), SEEDS)
        self.known, self.there, self.sd = known, (BASE, *there), sd

    def lacks(self, *models: Model) -> list[Lack]:
        return [Lack(f"seed-1/{m.name}", "not there yet", False) for m in models if m not in self.there]

    def read(self, model: Model) -> Read:
        return Read(of=500, rows=246, cut=123 if model.dpo else None, updates=62)

    def own_would_end(self) -> float | None:
        return 0.9

    def measures(self) -> list[str]:
        return [PRIMARY, *ANSWERS]

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


def of(known: dict[tuple[Model, str], float], name: str, sd: float = 0.1) -> Finding:
    return next(f for f in findings.all_of(Made(known, sd=sd), Margins()) if f.name == name)


ONCE, LONGER = replace(CURVE, dpo=1), [(Model(sft=s, dpo=3), PRIMARY) for s in (2, 3)]


@pytest.mark.parametrize(
    ("name", "confirmed", "contradicted"),
    [
        ("F1", {(BOTH, PRIMARY): 0.6}, {(BOTH, PRIMARY): 0.4}),
        ("F3", {(BOTH, "kept"): 0.8, (BASE, "kept"): 0.3, (NO_DPO, "kept"): 0.5}, {(BOTH, "kept"): 0.8, (NO_DPO, "kept"): 0.78}),
        ("F4", {(DSFT2, PRIMARY): 0.48}, {(DSFT2, PRIMARY): 0.56}),
        ("F5", {(ONCE, LEARNT): 0.99, (ONCE, MAIN): 0.6}, {(ONCE, LEARNT): 0.9, (ONCE, MAIN): 0.6}),
        ("F6", {(CURVE, PRIMARY): 0.6, (CURVE, LEARNT): 0.99}, {(CURVE, PRIMARY): 0.4, (CURVE, LEARNT): 0.99}),
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
    assert not any(re.search(r"\d{3,}\.\d points or more could", f.sentence) for f in findings.all_of(Made(confirmed, sd=20.0), Margins()))


def test_pairs_are_learnt_by_heart_where_the_interval_says_so_and_not_the_value() -> None:
    # after one epoch, whatever three make of them
    assert verdict("F5", {(CURVE, LEARNT): 1.0, (ONCE, LEARNT): 0.8, (CURVE, MAIN): 0.6}) == CONTRADICTED
    # 95% is in the interval of 95.5%, which ends near it
    assert verdict("F5", {(ONCE, LEARNT): 0.955, (ONCE, MAIN): 0.6}, sd=0.2) == UNDECIDED
    # pairs that are as easy where they were not learnt are not learnt by heart
    assert verdict("F5", {(ONCE, LEARNT): 0.99, (ONCE, MAIN): 0.99}) == UNDECIDED
    found = {f.name: f for f in findings.all_of(Made({(CURVE, LEARNT): 0.997}), Margins())}["F5"]
    assert "after three epochs, by a run of its own: 99.7% [" in found.beside[0]


@pytest.mark.parametrize(
    ("both", "alone", "base"),
    [
        (0.8, 0.72, 0.3),  # a difference that is there, and about as small as what counts
        (0.8, 0.95, 0.95),  # a base that ends everything: without dSFT nothing had to be learnt
        (0.3, 0.0, 0.3),  # dSFT taught nothing that the base had not
    ],
)
def test_f3_is_decided_neither_by_a_small_difference_nor_by_how_readily_the_base_ends(both: float, alone: float, base: float) -> None:
    known = {(BOTH, "kept"): both, (NO_DPO, "kept"): alone, (BASE, "kept"): base}
    assert verdict("F3", known, sd=0.4) == UNDECIDED
    found = next(f for f in findings.all_of(Made(known, sd=0.4), Margins()) if f.name == "F3")
    assert set(found.parts) == {*ARMS, "the base"}
    assert all(set(of) == set(ANSWERS) and all(part.ci95 for part in of.values()) for of in found.parts.values())
    assert any("the base: keeps to the template" in line for line in found.beside)
    assert ("nothing is decided" in found.sentence) == (both <= base)


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


def test_where_no_prompt_differs_the_widest_interval_decides() -> None:
    found = findings.all_of(Made({}, sd=0.0), Margins())
    assert {f.verdict for f in found if f.name in ("F1", "F3", "F4", "F6", "F7")} == {UNDECIDED}
    assert "0.0 points [\N{MINUS SIGN}9.8, 9.8] (all 400 prompts alike: the widest interval" in found[0].sentence
    assert "could have been shown" not in found[0].sentence and "inf" not in found[0].sentence


def test_the_clearest_f3_is_confirmed_and_a_base_that_keeps_to_nothing_is_not_blamed() -> None:
    known = {(BOTH, "kept"): 1.0, (NO_DPO, "kept"): 0.0, (BASE, "kept"): 0.0, (NO_DPO, "ran_on"): 0.0, (NO_DPO, "cut"): 1.0}
    clear = of(known, "F3", sd=0.0)
    assert clear.verdict == CONFIRMED and "own habit" not in clear.sentence
    assert "+100.0 points [98.1, 100.0] (all 400 prompts alike" in clear.sentence
    assert "Without dSFT 100.0% of the answers were cut off" in clear.sentence and "Only the first half of the claim" in clear.sentence
    assert "25.0% had lost their end" in clear.sentence
    assert "first half" not in of({**known, (NO_DPO, "ran_on"): 0.6}, "F3", sd=0.0).sentence
    nothing = of({**known, (BOTH, "kept"): 0.0}, "F3", sd=0.0)
    assert nothing.verdict == UNDECIDED and "is not shown" in nothing.sentence and "own habit" not in nothing.sentence


def test_f6_needs_an_overfitting_that_could_do_harm() -> None:
    known = {(CURVE, PRIMARY): 0.6, (CURVE, LEARNT): 0.7}
    found = of(known, "F6")
    assert found.verdict == UNDECIDED and "There was no overfitting to do harm" in found.sentence
    unclear = of({**known, (CURVE, LEARNT): 0.955}, "F6", sd=0.2)
    assert unclear.verdict == UNDECIDED and "an overfitting to do harm is not shown" in unclear.sentence
    assert "no overfitting" not in of({**known, (CURVE, LEARNT): 0.99}, "F6").sentence


def test_help_that_is_too_small_to_count_neither_confirms_nor_contradicts_by_itself() -> None:
    small = of({(DSFT2, PRIMARY): 0.51}, "F4", sd=0.01)  # +1.0 [0.9, 1.1]
    assert small.verdict == CONFIRMED and "learnt 246 of 500 preferred answers; the others did not fit" in small.sentence
    assert of({(DSFT2, PRIMARY): 0.53}, "F4", sd=0.01).verdict == CONTRADICTED
    wide = of({}, "F4", sd=1.0)
    assert wide.verdict == UNDECIDED and "no help at all can hardly be told" in wide.sentence


def test_a_margin_that_was_set_for_the_command_is_not_called_the_default() -> None:
    known = {(CURVE, LEARNT): 0.99}
    default = {f.name: f.sentence for f in findings.all_of(Made(known), Margins())}
    given = {f.name: f.sentence for f in findings.all_of(Made(known), Margins(template=0.2, help=0.5, learnt=0.9))}
    for name, value, usual in (("F3", "20.0", "10.0"), ("F4", "50.0", "2.0"), ("F5", "90.0", "95.0"), ("F6", "90.0", "95.0")):
        assert re.search(rf" {usual} .*: the default, set before any run of `small`\.", default[name])
        assert re.search(rf" {value} .*: set for this command; the default is {usual}\.", given[name]) and "before" not in given[name]
    assert "from the margin of 10.0" in default["F3"] and "from the margin of 20.0" in given["F3"]
    assert "One epoch was 62 updates here; the paper's are about 1,900." in default["F5"]


def test_what_is_not_there_yet_is_not_examined_and_says_which_command_measures_it() -> None:
    found = {f.name: f for f in findings.all_of(Made({}, there=tuple(ARMS.values())), Margins())}
    assert [name for name, f in found.items() if f.verdict == NOT_EXAMINED] == ["F2", "F6", "F7", "F8"]
    assert "Not in this folder yet (seed-1/sft1-dpo3): `zephyr reproduce figure3`" in found["F6"].sentence
    assert "after three epochs: not in this folder yet" in found["F5"].beside[0]
    assert "open-llm" in found["F2"].sentence
