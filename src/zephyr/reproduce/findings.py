"""The paper's findings F1 to F8, each beside what was measured: confirmed, contradicted, undecided, or not examined.

A verdict rests on one comparison, which was chosen before anything was measured, and on its 95% interval; what other measures say of the
same stands beside it and changes nothing. Nothing here is about MT-Bench, for there is no judge; the sentence says what it is about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zephyr.reproduce import compare
from zephyr.reproduce.compare import Found
from zephyr.reproduce.data import MAIN
from zephyr.reproduce.evidence import MEASURES, PRIMARY, Evidence
from zephyr.reproduce.graph import ARMS, BASE, CURVE, Model
from zephyr.reproduce.preset import Margins
from zephyr.reproduce.scores import LEARNT

CONFIRMED, CONTRADICTED, UNDECIDED, NOT_EXAMINED = "confirmed", "contradicted", "undecided", "not examined"

CLAIMS = {
    "F1": "dDPO improves chat over dSFT alone.",
    "F2": "dDPO does not cost academic skill: it improves on the tasks, too.",
    "F3": "Without dSFT, dDPO does not learn to chat: the model does not keep to the template and runs on with role tokens.",
    "F4": "More dSFT on the top-ranked completions (dSFT-2) does not help.",
    "F5": "dDPO overfits its training pairs after one epoch: train accuracy reaches 1.",
    "F6": "That overfitting does no harm: three epochs of dDPO beat one.",
    "F7": "After more than one epoch of dSFT, longer dDPO makes it worse.",
    "F8": "Math and coding stay the weak categories.",
}
NO_DPO, DSFT1, DSFT2, BOTH = ARMS.values()


@dataclass(frozen=True)
class Finding:
    """A claim of the paper and what was found.

    Attributes:
        name: F1 to F8.
        verdict: one of the four.
        sentence: what was measured, and with what interval.
        measure: what the verdict rests on, if it was examined.
        found: the comparison.
        beside: what other measures say, which does not decide.
    """

    name: str
    verdict: str
    sentence: str
    measure: str = ""
    found: Found | None = None
    beside: tuple[str, ...] = ()

    @property
    def claim(self) -> str:
        """The paper's."""
        return CLAIMS[self.name]

    def json(self) -> dict[str, object]:
        """As one object."""
        return {
            "finding": self.name, "claim": self.claim, "verdict": self.verdict, "sentence": self.sentence, "measure": self.measure,
            "comparison": self.found.json() if self.found else None, "beside": list(self.beside),
        }  # fmt: skip


def all_of(evidence: Evidence, margins: Margins) -> list[Finding]:
    """Every finding, in order."""
    return [
        _f1(evidence), _needs_tasks("F2"), _f3(evidence), _f4(evidence, margins), _f5(evidence, margins), _f6(evidence), _f7(evidence),
        _needs_tasks("F8"),
    ]  # fmt: skip


def decide(found: Found, *, wanted: int) -> str:
    """Confirmed where the whole interval is on the wanted side of nought (1 above, -1 below), contradicted on the other, else undecided.

    Where no row differs from another there is no interval, and nothing is decided.
    """
    if not found.error:
        return UNDECIDED
    low, high = (found.low, found.high) if wanted > 0 else (-found.high, -found.low)
    return CONFIRMED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED


# --- words -----------------------------------------------------------------------------------------------------


def points(value: float) -> str:
    """A share or a difference of shares in points."""
    return f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}")


def said(found: Found, measure: str) -> str:
    """A difference with its interval, and what could have been shown."""
    if MEASURES[measure].share:
        value, low, high, least = (points(x) for x in (found.value, found.low, found.high, found.smallest))
        unit = " points"
    else:
        value, low, high, least = (f"{x:.3f}".replace("-", "\N{MINUS SIGN}") for x in (found.value, found.low, found.high, found.smallest))
        unit = ""
    if not found.error:  # where no row differs, their spread says nothing of what could have been shown
        return f"{value}{unit}, the same on each of {found.prompts} prompts in {found.seeds} trainings, from which no interval can be told"
    sign = "+" if found.value > 0 else ""
    of = f"{found.prompts} prompts, {found.seeds} trainings each" if found.seeds > 1 else f"{found.prompts} prompts, one training each"
    return f"{sign}{value}{unit} [{low}, {high}] ({of}; {least}{unit} or more could have been shown)"


def _beside(evidence: Evidence, first: Model, second: Model, but: str) -> tuple[str, ...]:
    """What other measures say of the same two models."""
    others = [name for name in evidence.measures() if name != but and MEASURES[name].more is not None]
    return tuple(f"{MEASURES[name].label}: {said(evidence.difference(first, second, name), name)}" for name in others)


def _missing(name: str, what: str) -> Finding:
    return Finding(name, NOT_EXAMINED, f"Not in this folder yet: `zephyr reproduce {what}` with the same --out measures it.")


def _compared(name: str, evidence: Evidence, first: Model, second: Model, measure: str, wanted: int, words: str) -> Finding:
    found = evidence.difference(first, second, measure)
    sentence = f"{words}: {said(found, measure)}, in {MEASURES[measure].on}."
    return Finding(name, decide(found, wanted=wanted), sentence, measure, found, _beside(evidence, first, second, measure))


# --- each ------------------------------------------------------------------------------------------------------


def _f1(evidence: Evidence) -> Finding:
    if not evidence.has(BOTH, DSFT1):
        return _missing("F1", "table3")
    return _compared("F1", evidence, BOTH, DSFT1, PRIMARY, 1, "dDPO + dSFT against dSFT-1")


def _f3(evidence: Evidence) -> Finding:
    if not evidence.has(BOTH, NO_DPO):
        return _missing("F3", "table3")
    made = _compared("F3", evidence, BOTH, NO_DPO, "kept", 1, "With dSFT first against without it, one epoch of dDPO each")
    alone, both, base = (evidence.level(model, "kept").value for model in (NO_DPO, BOTH, BASE))
    also = f" It is {points(alone)}% without dSFT and {points(both)}% with it; the base, before any training, has {points(base)}%."
    return replace(made, sentence=made.sentence + also)


def _f4(evidence: Evidence, margins: Margins) -> Finding:
    if not evidence.has(DSFT2, DSFT1):
        return _missing("F4", "table3")
    made = _compared("F4", evidence, DSFT2, DSFT1, PRIMARY, -1, "dSFT-2 against dSFT-1")
    assert made.found is not None
    # that something does not help cannot be shown but by help that is too small to count
    verdict = CONTRADICTED if made.found.low > 0 else CONFIRMED if made.found.high < margins.help else UNDECIDED
    verdict = verdict if made.found.error else UNDECIDED
    limit = f" Help of less than {points(margins.help)} points was taken for none, before measuring."
    return replace(made, verdict=verdict, sentence=made.sentence + limit)


def _f5(evidence: Evidence, margins: Margins) -> Finding:
    start, last = CURVE.parent, CURVE
    if not (evidence.has_learnt(last) and evidence.has_learnt(start)):
        return _missing("F5", "figure3")
    learnt, held = evidence.learnt(last, start, LEARNT), evidence.learnt(last, start, MAIN)
    gap, train, test = compare.apart(learnt, held), compare.level(learnt), compare.level(held)
    by_heart = train.value >= margins.learnt
    if not gap.error:
        verdict = UNDECIDED
    elif gap.low > 0 and by_heart:
        verdict = CONFIRMED
    elif gap.high < margins.gap:
        verdict = CONTRADICTED
    else:
        verdict = UNDECIDED
    reach = "reaches" if by_heart else "does not reach"
    sentence = (
        f"After three epochs of dDPO the reward against the dSFT model ranks {points(train.value)}% of the pairs it learnt rightly and "
        f"{points(test.value)}% of held-out ones, a gap of {said(gap, PRIMARY)}; the train accuracy {reach} {margins.learnt:.0%}."
    )
    once = replace(CURVE, dpo=1)
    beside: tuple[str, ...] = ()
    if evidence.has_learnt(once):
        first = compare.level(evidence.learnt(once, start, LEARNT))
        beside = (f"after one epoch, by a run of its own: {points(first.value)}% of the pairs it learnt",)
    return Finding("F5", verdict, sentence, "reward accuracy against the dSFT model, learnt pairs less held-out ones", gap, beside)


def _f6(evidence: Evidence) -> Finding:
    once = replace(CURVE, dpo=1)
    if not evidence.has(CURVE, once):
        return _missing("F6", "figure3")
    return _compared("F6", evidence, CURVE, once, PRIMARY, 1, "Three epochs of dDPO against one, both from one epoch of dSFT")


def _f7(evidence: Evidence) -> Finding:
    longer = [(Model(sft=sft, dpo=3), Model(sft=sft, dpo=1)) for sft in (2, 3)]
    if not evidence.has(*(model for pair in longer for model in pair)):
        return _missing("F7", "figure3")
    three, one = (compare.mean_of([evidence.cells(pair[i], PRIMARY) for pair in longer]) for i in (0, 1))
    found = compare.difference(three, one)
    sentence = f"Three epochs of dDPO against one after two or three epochs of dSFT: {said(found, PRIMARY)}, in {MEASURES[PRIMARY].on}."
    beside = tuple(f"after {m.sft} epochs of dSFT: {said(evidence.difference(m, n, PRIMARY), PRIMARY)}" for m, n in longer)
    return Finding("F7", decide(found, wanted=-1), sentence, PRIMARY, found, beside)


def _needs_tasks(name: str) -> Finding:
    """What a model of this size would answer at chance, or what no measure here is of."""
    if name == "F2":
        text = (
            "Not examined at this scale: a base that has read little answers the four tasks at chance. It takes one that does "
            "not, and `zephyr evaluate MODEL --on open-llm` for it and for each arm."
        )
    else:
        text = (
            "Not examined at this scale: no measure here is of a category. It takes a judge: `zephyr evaluate MODEL --on mt-bench`, "
            "whose scores by category `zephyr reproduce figure1 --scores NAME=FOLDER` sets on the radar."
        )
    return Finding(name, NOT_EXAMINED, text)
