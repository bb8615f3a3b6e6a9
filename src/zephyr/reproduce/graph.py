"""What has to be made for an experiment. A model is named by what was done to the base; equal names are one model, made once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["sft", "reference", "dpo", "scores"]


@dataclass(frozen=True, order=True)
class Model:
    """A model by its history: epochs of each training, in this order, each training with a schedule of its own.

    Args:
        sft: epochs on the dialogues (dSFT).
        best: epochs of the same on the preferred answers of the pairs (the second step of dSFT-2).
        dpo: epochs of dDPO on the pairs.
    """

    sft: int = 0
    best: int = 0
    dpo: int = 0

    @property
    def name(self) -> str:
        """`base`, `sft1`, `sft1-best1`, `sft1-dpo3`: the folder it is made in."""
        return "-".join(f"{what}{n}" for what, n in (("sft", self.sft), ("best", self.best), ("dpo", self.dpo)) if n) or "base"

    @property
    def parent(self) -> Model:
        """What its last training starts from; that of the base is the base."""
        if self.dpo:
            return replace(self, dpo=0)
        return replace(self, best=0) if self.best else replace(self, sft=0)

    @property
    def is_base(self) -> bool:
        """Whether nothing was done to it."""
        return self == Model()


BASE = Model()

# Table 3; every arm of dDPO is one epoch, as in the paper
ARMS = {
    "dDPO \N{MINUS SIGN} dSFT": Model(dpo=1),
    "dSFT-1": Model(sft=1),
    "dSFT-2": Model(sft=1, best=1),
    "dDPO + dSFT": Model(sft=1, dpo=1),
}
# Figure 3: the curve on the left is of the model whose dDPO lasts longest; the grid on the right, each model a run of its own
CURVE = Model(sft=1, dpo=3)
GRID = tuple(Model(sft=sft, dpo=dpo) for sft in (1, 2, 3) for dpo in (0, 1, 2, 3))
# the appendix: dSFT and dDPO side by side, and dDPO without dSFT, which is said to run on
SHOWN = (Model(sft=1), Model(sft=1, dpo=1), Model(dpo=1))

EXPERIMENTS: dict[str, tuple[Model, ...]] = {"table3": tuple(ARMS.values()), "figure3": GRID, "samples": SHOWN}
# of these what they say of the pairs they were trained on is measured too: how far they learnt them by heart in one epoch, and in three
BY_HEART = (Model(sft=1), Model(sft=1, dpo=1), CURVE)
# experiments that show the first seed alone
OF_ONE_SEED = ("samples",)


@dataclass(frozen=True)
class Step:
    """One piece of work: a stage of the path that makes `model` (or what is needed for it), or its scores."""

    kind: Kind
    model: Model

    @property
    def folder(self) -> str:
        """Where it writes, under the folder of its seed."""
        return self.model.name if self.kind in ("sft", "dpo") else f"{self.model.name}.{self.kind}"

    @property
    def described(self) -> str:
        """In words, for the one who waits."""
        m = self.model
        if self.kind == "dpo":
            return f"{_epochs(m.dpo)} of dDPO from {m.parent.name}"
        if self.kind == "sft":
            return (
                f"{_epochs(m.best)} of dSFT on the preferred answers, from {m.parent.name}"
                if m.best
                else f"{_epochs(m.sft)} of dSFT from base"
            )
        return f"the reference's log-probabilities, {m.name}" if self.kind == "reference" else f"scores of {m.name}"


def _epochs(n: int) -> str:
    return "one epoch" if n == 1 else f"{n} epochs"


def models_of(experiments: Iterable[str]) -> list[Model]:
    """The models that experiments compare, each once, in order."""
    return list(dict.fromkeys(model for name in experiments for model in EXPERIMENTS[name]))


def steps(models: Iterable[Model]) -> list[Step]:
    """What is done for each seed, in an order in which everything is there when it is needed, nothing twice."""
    return list(dict.fromkeys(step for model in models for step in _of(model, scored=True)))


def _of(model: Model, *, scored: bool) -> Iterator[Step]:
    if not model.is_base:
        yield from _of(model.parent, scored=False)
        if model.dpo:
            # the reference of the pairs is the model that dDPO starts from, whatever the number of its epochs
            yield Step("reference", model.parent)
        yield Step("dpo" if model.dpo else "sft", model)
    if scored and not model.is_base:
        yield Step("scores", model)
