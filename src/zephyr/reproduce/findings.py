"""The paper's findings F1 to F8, each beside what was measured: confirmed, contradicted, undecided, or not examined.

A verdict rests on one comparison and on its 95% interval; what other measures say of the same stands beside it and changes nothing. A
verdict may have a condition, which can only hold it back. The comparisons of F1, F4, F6 and F7 were chosen before anything was measured;
the rules of F3 and F5, the condition of F6 and the margin of F4 after the first demo; all of them before any run of `small`.
Nothing here is about MT-Bench, for there is no judge; the sentence says what it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from zephyr.reproduce import compare, paper
from zephyr.reproduce.compare import Found
from zephyr.reproduce.data import MAIN
from zephyr.reproduce.evidence import ANSWERS, MEASURES, PRIMARY, Evidence, scaled
from zephyr.reproduce.graph import ARMS, BASE, CURVE, Model
from zephyr.reproduce.preset import Margins
from zephyr.reproduce.scores import LEARNT
from zephyr.reproduce.words import level, limit, points, said, trainings

NOT_COMPARED = "Not compared, for it was made with other settings or from other rows"
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
        parts: what the measure is made up of, by model and part.
        not_compared: models that stand in the folder and do not count, and why.
    """

    name: str
    verdict: str
    sentence: str
    measure: str = ""
    found: Found | None = None
    beside: tuple[str, ...] = ()
    parts: Mapping[str, Mapping[str, Found]] = field(default_factory=dict)
    not_compared: tuple[str, ...] = ()

    @property
    def claim(self) -> str:
        """The paper's."""
        return CLAIMS[self.name]

    def json(self) -> dict[str, object]:
        """As one object."""
        return {
            "finding": self.name, "claim": self.claim, "verdict": self.verdict, "sentence": self.sentence, "measure": self.measure,
            "comparison": self.found.json() if self.found else None, "beside": list(self.beside),
            "parts": {model: {part: found.json() for part, found in of.items()} for model, of in self.parts.items()},
            "not_compared": list(self.not_compared),
        }  # fmt: skip


def all_of(evidence: Evidence, margins: Margins) -> list[Finding]:
    """Every finding, in order."""
    return [
        _f1(evidence), _needs_tasks("F2"), _f3(evidence, margins), _f4(evidence, margins), _f5(evidence, margins),
        _f6(evidence, margins), _f7(evidence), _needs_tasks("F8"),
    ]  # fmt: skip


def decide(found: Found, *, wanted: int, margin: float = 0.0) -> str:
    """Confirmed where the whole interval is beyond the margin on the wanted side (1 above, -1 below), contradicted where it is short of it.

    Else undecided; so where there is no interval, for its ends are at infinity then.
    """
    low, high = (found.low, found.high) if wanted > 0 else (-found.high, -found.low)
    return CONFIRMED if low > margin else CONTRADICTED if high < margin else UNDECIDED


# --- comparisons -----------------------------------------------------------------------------------------------


def _beside(evidence: Evidence, first: Model, second: Model, but: str) -> tuple[str, ...]:
    """What other measures say of the same two models."""
    others = [name for name in evidence.measures() if name != but and MEASURES[name].more is not None]
    return tuple(f"{MEASURES[name].label}: {said(evidence.difference(first, second, name), name)}" for name in others)


def _lacking(name: str, evidence: Evidence, what: str, *models: Model) -> Finding | None:
    """Not examined, where a model does not count; None where all do."""
    lacks = evidence.lacks(*models)
    if not lacks:
        return None
    others = tuple(str(lack) for lack in lacks if lack.other)
    command = f"`zephyr reproduce {what}` with the same --out and settings"
    if others:
        return Finding(name, NOT_EXAMINED, f"{NOT_COMPARED}: {'; '.join(others)}. {command} makes it again.", not_compared=others)
    places = [str(lack) for lack in lacks]
    named = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    return Finding(name, NOT_EXAMINED, f"Not in this folder yet ({named}): {command} measures it.")


def _compared(
    name: str, evidence: Evidence, first: Model, second: Model, measure: str, wanted: int, words: str, margin: float = 0.0
) -> Finding:
    """Decided by a difference, as `decide` says."""
    found = evidence.difference(first, second, measure)
    sentence = f"{words}: {said(found, measure, abs(margin))}, in {MEASURES[measure].on}."
    return Finding(name, decide(found, wanted=wanted, margin=margin), sentence, measure, found, _beside(evidence, first, second, measure))


# --- each ------------------------------------------------------------------------------------------------------


def _f1(evidence: Evidence) -> Finding:
    if lacking := _lacking("F1", evidence, "table3", BOTH, DSFT1):
        return lacking
    made = _compared("F1", evidence, BOTH, DSFT1, PRIMARY, 1, "dDPO + dSFT against dSFT-1")
    return replace(made, sentence=made.sentence + " That is what dDPO itself is trained on, not what a judge of its answers would say.")


def _f3(evidence: Evidence, margins: Margins) -> Finding:
    if lacking := _lacking("F3", evidence, "table3", BOTH, NO_DPO):
        return lacking
    words = "With dSFT first against without it, one epoch of dDPO each"
    made = _compared("F3", evidence, BOTH, NO_DPO, "kept", 1, words, margins.template)
    # a base that ends its texts as readily as an answer ends, or a limit that cuts all of them, shows nothing of what was learnt
    taught = evidence.difference(BOTH, BASE, "kept")
    verdict = made.verdict if taught.low > 0 else UNDECIDED
    parts = {
        label: {part: evidence.level(model, part) for part in ANSWERS}
        for label, model in {**ARMS, "the base": BASE}.items()
        if not evidence.lacks(model)
    }
    sentence = made.sentence + limit(margins, "template", "points were taken for the least that counts")
    sentence += f" dDPO + dSFT against the base: {said(taught, 'kept')}."
    if taught.low <= 0:
        sentence += " That dSFT taught the template is not shown, so that nothing is decided"
        sentence += ": the difference may be the base's own habit." if evidence.level(BASE, "kept").value else "."
    sentence += _how_it_fails(evidence, verdict)
    beside = [f"{label}: " + ", ".join(f"{MEASURES[part].label} {level(of[part])}" for part in ANSWERS) for label, of in parts.items()]
    own = evidence.own_would_end()
    most = evidence.experiment.preset.sampling.max_new_tokens
    if own is not None:
        beside.append(f"the dialogues' own answers to the same prompts: {points(own)}% would have ended within the limit of {most} tokens")
    return replace(made, verdict=verdict, sentence=sentence, beside=(*beside, *made.beside), parts=parts)


def _how_it_fails(evidence: Evidence, verdict: str) -> str:
    """The two signs that the paper names, of the arm without dSFT; and whether what it learnt had ends."""
    cut, ran_on = (evidence.level(NO_DPO, part) for part in ("cut", "ran_on"))
    found = f" Without dSFT {points(cut.value)}% of the answers were cut off, and {level(ran_on)} wrote a role token."
    if verdict == CONFIRMED and ran_on.low <= 0:
        found += " Only the first half of the claim was seen."
    read = evidence.read(NO_DPO)
    if read and read.cut:
        found += f" Of the answers that dDPO learnt {points(read.cut_share)}% had lost their end: part of this may be learnt from the cut."
    return found


def _f4(evidence: Evidence, margins: Margins) -> Finding:
    if lacking := _lacking("F4", evidence, "table3", DSFT2, DSFT1):
        return lacking
    made = _compared("F4", evidence, DSFT2, DSFT1, PRIMARY, -1, "dSFT-2 against dSFT-1", -margins.help)
    assert made.found is not None
    # that something does not help cannot be shown but by help that is too small to count, nor the contrary by less than what counts
    sentence = made.sentence + limit(margins, "help", "points of help or less were taken for none")
    half = (made.found.high - made.found.low) / 2
    if made.verdict == UNDECIDED and half > margins.help:
        sentence += f" With an interval of {points(half)} points to either side, no help at all can hardly be told from help that counts."
    if read := evidence.read(DSFT2):
        rest = "" if read.rows == read.of else "; the others did not fit"
        sentence += f" dSFT-2 learnt {read.rows:,} of {read.of:,} preferred answers{rest}."
    return replace(made, sentence=sentence)


def _f5(evidence: Evidence, margins: Margins) -> Finding:
    start, once = CURVE.parent, replace(CURVE, dpo=1)
    if lacking := _lacking("F5", evidence, "table3", start, once):
        return lacking
    train, held, gap = _by_heart(evidence, once, start)
    verdict = UNDECIDED
    if train.high < margins.learnt:
        verdict = CONTRADICTED
    elif train.low >= margins.learnt and gap.low > 0:  # pairs that are ranked rightly though they were not learnt are no sign of it
        verdict = CONFIRMED
    sentence = (
        f"After one epoch of dDPO the reward against the dSFT model ranks {level(train)} of the pairs it learnt rightly "
        f"({train.prompts} prompts, {trainings(train)}) and {level(held)} of held-out ones, a gap of {said(gap, PRIMARY)}."
    )
    sentence += limit(margins, "learnt", "percent were taken for learnt by heart")
    if read := evidence.read(once):
        sentence += f" One epoch was {read.updates:,} updates here; the paper's are about {paper.DPO_UPDATES:,}."
    parts = {"one epoch": {"learnt": train, "held out": held}}
    if later := _lacking("F5", evidence, "figure3", start, CURVE):
        beside = f"after three epochs: {later.sentence[0].lower()}{later.sentence[1:]}"
    else:
        longer, longer_held, longer_gap = _by_heart(evidence, CURVE, start)
        beside = (
            f"after three epochs, by a run of its own: {level(longer)} of the pairs it learnt, {level(longer_held)} of held-out ones, "
            f"a gap of {said(longer_gap, PRIMARY)}"
        )
        parts["three epochs"] = {"learnt": longer, "held out": longer_held}
    measure = "reward accuracy against the dSFT model, on the pairs it learnt"
    return Finding("F5", verdict, sentence, measure, train, (beside,), parts)


def _by_heart(evidence: Evidence, model: Model, start: Model) -> tuple[Found, Found, Found]:
    """Accuracy against the model that dDPO started from, on the pairs it learnt and on held-out ones, and the gap."""
    learnt, held = evidence.learnt(model, start, LEARNT), evidence.learnt(model, start, MAIN)
    shares = compare.share_of(learnt), compare.share_of(held)
    return *shares, compare.of_shares(compare.apart(learnt, held), min(of.prompts for of in shares))


def _f6(evidence: Evidence, margins: Margins) -> Finding:
    start, once = CURVE.parent, replace(CURVE, dpo=1)
    if lacking := _lacking("F6", evidence, "figure3", CURVE, once, start):
        return lacking
    made = _compared("F6", evidence, CURVE, once, PRIMARY, 1, "Three epochs of dDPO against one, both from one epoch of dSFT")
    train, _, _ = _by_heart(evidence, CURVE, start)
    verdict, sentence = made.verdict, f"{made.sentence} After three {level(train)} of the pairs it learnt are ranked rightly."
    sentence += limit(margins, "learnt", "percent were taken for overfitted")
    if train.low < margins.learnt:
        verdict = UNDECIDED
        none = train.high < margins.learnt
        sentence += " There was no overfitting to do harm" if none else " That there was an overfitting to do harm is not shown"
        sentence += ", so that nothing is decided."
    return replace(made, verdict=verdict, sentence=sentence, parts={"three epochs": {"learnt": train}})


def _f7(evidence: Evidence) -> Finding:
    longer = [(Model(sft=sft, dpo=3), Model(sft=sft, dpo=1)) for sft in (2, 3)]
    if lacking := _lacking("F7", evidence, "figure3", *(model for pair in longer for model in pair)):
        return lacking
    three, one = (compare.mean_of([evidence.cells(pair[i], PRIMARY) for pair in longer]) for i in (0, 1))
    found = scaled(compare.difference(three, one), PRIMARY)
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
