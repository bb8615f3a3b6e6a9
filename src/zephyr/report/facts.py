"""What the manifests say: the part that the page and the model card share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.artifacts import Artifact, Manifest
from zephyr.hashes import sha256_text
from zephyr.models import registry
from zephyr.report.numbers import bounds, count, finite, fixed, interval, percent

LABELS = {"base": "base", "dsft": "dSFT", "ddpo": "dDPO"}
SAFETY = "Safety was not assessed: nothing in this run measures whether the model gives harmful, false or biased answers."
JUDGES = (
    "Language models that judge answers favour verbose ones, and models distilled from them. Agreement with their ratings is "
    "not the same as being right or useful."
)
TUNED = (
    "The student was already instruction-tuned before this run: the base is not a raw language model, "
    "and what it could already do is not to this run's credit."
)


def dig(value: object, *keys: str) -> Any:
    """The value at a path of keys in nested mappings, None where the path ends early."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


@dataclass(frozen=True)
class Run:
    """The artifacts of a run, whichever there are, by the name of their stage."""

    artifacts: Mapping[str, Artifact]

    def manifest(self, stage: str) -> Manifest | None:
        """What a stage says of its work; None where it is not part of the run."""
        artifact = self.artifacts.get(stage)
        return artifact.manifest if artifact else None

    def result(self, stage: str, *keys: str) -> Any:
        """A measured value, None where it was not measured."""
        manifest = self.manifest(stage)
        return dig(manifest.results, *keys) if manifest else None

    def setting(self, stage: str, *keys: str) -> Any:
        """A setting a stage ran with, None where it has none of that name."""
        manifest = self.manifest(stage)
        return dig(manifest.config, *keys) if manifest else None

    def rows(self, stage: str, split: str) -> int | None:
        """How many rows of a split a stage made."""
        manifest = self.manifest(stage)
        return manifest.rows_out.get(split) if manifest else None

    @property
    def dialogues(self) -> int | None:
        """How many dialogues dSFT learnt from. Its own rows are packs; where it does not tell, it is what curate gave it."""
        used = finite(self.result("sft", "dialogues", "train"))
        return int(used) if used is not None else self.rows("curate", "train")

    @property
    def pairs(self) -> int | None:
        """How many pairs dDPO learnt from."""
        return self.rows("dpo", "train")

    @property
    def objective(self) -> str:
        """What dDPO minimized; `dpo` where no manifest tells."""
        return str(self.setting("dpo", "dpo", "objective") or "dpo")

    @property
    def models(self) -> list[str]:
        """The models that were evaluated, from base to last."""
        found = self.result("evaluate", "models")
        return [name for name in LABELS if name in found] if isinstance(found, list) else []

    @property
    def _base(self) -> Mapping[str, str]:
        """What the manifests say of the student before the run; {} where none does."""
        for stage, parent in (("sft", "base"), ("evaluate", "base"), ("dpo", "policy"), ("reference", "policy")):
            if parent == "policy" and "sft" in self.artifacts:
                continue  # what dDPO starts from is then ours, not the base
            if (manifest := self.manifest(stage)) and dig(manifest.parents, parent, "path"):
                return manifest.parents[parent]
        return {}

    @property
    def base(self) -> str | None:
        """The student before the run, as the recipe names it; None where no manifest tells."""
        return self._base.get("path")

    @property
    def base_is_on_the_hub(self) -> bool:
        """Whether the base was a name of the hub: its digest is that of the name, where that of a folder is of its files."""
        revision = self._base.get("revision")
        return self._base.get("digest") == sha256_text(f"hub:{self.base}@{revision}")

    @property
    def base_name(self) -> str | None:
        """The base as a reader should see it: a local folder by its last name, everything else in full."""
        base = self.base
        if base is None or self.base_is_on_the_hub or self.known_base:
            return base
        parts = Path(base).parts
        return "/".join(parts[-2:]) if parts[-1] == "model" and len(parts) > 1 else parts[-1]  # `model` alone says nothing

    @property
    def known_base(self) -> registry.Packaged | None:
        """What is known of the base, where it is a model that comes with a name of ours."""
        return registry.KNOWN.get(self.base or "")

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(stage, sentence) of everything a stage wants the reader to know, each sentence once."""
        seen: dict[str, str] = {}
        for stage, artifact in self.artifacts.items():
            for note in artifact.manifest.notes:
                seen.setdefault(note, stage)
        return [(stage, note) for note, stage in seen.items()]

    @property
    def instruction_tuned(self) -> bool:
        """Whether the student had been taught to follow instructions before."""
        noted = any("instruction-tuned" in note.lower() for _, note in self.notes)
        return noted or (self.known_base is not None and self.known_base.instruction_tuned)

    @property
    def replayed(self) -> str | None:
        """A sentence on what was replayed instead of asked of a model; None where nothing was."""
        what = [name for name, stage in (("answers", "complete"), ("ratings", "rate")) if self.result(stage, "replayed") is True]
        if not what:
            return None
        return (
            f"The {' and '.join(what)} that the feedback is made of are replayed from recorded texts, not live models: "
            "no teacher was asked for them during this run."
        )

    def limits(self) -> list[str]:
        """What every reader has to know before the numbers are used."""
        tuned_said = any("instruction-tuned" in note.lower() for _, note in self.notes)
        own = [TUNED] if self.instruction_tuned and not tuned_said else []
        return [*filter(None, [self.replayed]), *own, *(note for _, note in self.notes), SAFETY, JUDGES]

    def scorers(self) -> list[tuple[str, str]]:
        """(key, label) of the scorers whose accuracy was measured, the last model first, length alone last."""
        found = self.result("evaluate", "reward_accuracy") or {}
        return [(key, self.scorer(key)) for key in ("ddpo", "dsft", "length") if key in found]

    def scorer(self, key: str) -> str:
        """What gives the reward: a model against the one before it, or length alone."""
        if key == "length":
            return "length alone (longer wins)"
        before = "dSFT" if key == "ddpo" and ("dsft" in self.models or not self.models) else "base"
        return f"{LABELS.get(key, key)} against {before}"


def nll_sentence(run: Run) -> str:
    """How the likelihood of the test dialogues changed, in one sentence; "" where it was not measured."""
    before, after = (finite(run.result("evaluate", "nll", name, "nll_per_token")) for name in ("base", "dsft"))
    if before is None or after is None:
        return ""
    verb = "fell" if after < before else "rose" if after > before else "stayed"
    return f"The test loss {verb} from {fixed(before)} (base) to {fixed(after)} (dSFT) nats a token."


def accuracy_sentence(run: Run) -> str:
    """Whether the implicit reward does better than chance, with its interval; "" where it was not measured."""
    found = run.result("evaluate", "reward_accuracy", "ddpo")
    value, ends = finite(dig(found, "accuracy")), bounds(dig(found, "ci95"))
    if value is None:
        return ""
    if ends is None:
        verdict = "it has no interval, so nothing can be said about chance"
    elif ends[0] > 0.5:
        verdict = "above one half with its whole interval"
    elif ends[1] < 0.5:
        verdict = "below one half with its whole interval"
    else:
        verdict = "the interval includes one half, which is chance"
    shown = f" {interval(ends, percent)}" if ends else ""
    length = finite(run.result("evaluate", "reward_accuracy", "length", "accuracy"))
    beside = f" A scorer that only counts length gets {percent(length)}." if length is not None else ""
    return f"The dDPO reward orders {percent(value)}{shown} of the test pairs as the ratings do: {verdict}.{beside}"


def rows_out(manifest: Manifest) -> str:
    """`120 train, 40 test`."""
    return ", ".join(f"{count(n)} {split}" for split, n in splits(manifest))


def splits(manifest: Manifest) -> list[tuple[str, int]]:
    """(split, rows) of what a stage made: train, test, then the others by name."""
    order = {"train": 0, "test": 1}
    return sorted(manifest.rows_out.items(), key=lambda item: (order.get(item[0], 2), item[0]))
