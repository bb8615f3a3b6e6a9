"""The steps of an experiment bound to their settings, their inputs and their folders; those the path has a stage for run as that stage.

OUT/rows/{text,dialogues,pairs,other}      what is learnt and what is measured on
OUT/base, base.reference, base.scores      what everything starts from: one for all seeds, as in the paper
OUT/seed-1/sft1, sft1.scores, sft1-dpo1…   a folder for each model, its reference and its scores
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from zephyr import pipeline
from zephyr.artifacts import Draft
from zephyr.errors import UsageError, ZephyrError
from zephyr.models import registry
from zephyr.models.registry import cache_dir
from zephyr.progress import say
from zephyr.recipe import DataSource, ModelConfig
from zephyr.reproduce import base, scores, work
from zephyr.reproduce import data as gathering
from zephyr.reproduce.graph import BASE, BY_HEART, CURVE, Model, Step
from zephyr.reproduce.preset import Preset
from zephyr.reproduce.work import Own
from zephyr.stages import From, Needs, dpo, reference, sft

WAITS = "after what it is made from"
BASE_SEED = 0  # the base is one, whatever the seeds of what is made of it


@dataclass(frozen=True)
class Bound:
    """A stage of the path with its settings and inputs."""

    stage: str
    config: Any
    needs: Needs
    out: Path


@dataclass(frozen=True)
class Experiment:
    """What is made, from what, and where.

    Args:
        preset: how large everything is.
        out: the folder.
        data: the folder of the rows, where the preset takes them from one.
        model: a base that is there already; None for one made from nothing.
    """

    preset: Preset
    out: Path
    data: Path | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if self.preset.data.source == "folder" and self.data is None:
            raise UsageError(f"--preset {self.preset.name}: needs --data, a folder of rows; docs/reproduction.md says which files")
        if self.preset.data.source == "demo" and self.data is not None:
            raise UsageError(f"--preset {self.preset.name}: takes the texts of the package; for rows of a folder take --preset small")

    # --- places --------------------------------------------------------------------------------------------------

    def rows(self, name: str, split: str | None = None) -> list[DataSource]:
        """A part of the rows; of one split, or of all there are."""
        return [DataSource(path=str(self.out / "rows" / name), split=split)]  # type: ignore[arg-type]  # a split of ours

    def place(self, step: Step, seed: int) -> Path:
        """Where a step writes."""
        return (self.out if step.model == BASE else self.out / f"seed-{seed}") / step.folder

    def base(self) -> ModelConfig:
        """What everything starts from: it is made to speak the paper's format, with which it was not trained."""
        return ModelConfig(path=self.model or str(self.out / "base"), chat_template="zephyr")

    def made(self, model: Model, seed: int) -> ModelConfig:
        """A model of the experiment; one that was trained speaks what it was trained with."""
        if model == BASE:
            return self.base()
        return ModelConfig(path=str(self.place(Step("dpo" if model.dpo else "sft", model), seed)), chat_template="tokenizer")

    @property
    def about_base(self) -> str:
        """What is to be said of it beside every result."""
        if self.model is None:
            return "The base was made from nothing for this experiment, on plain text, and was shown no dialogue before."
        known = registry.KNOWN.get(self.model)
        if known and known.instruction_tuned:
            return (
                f"The base, {self.model}, was tuned to follow instructions by its makers: arms without dSFT are not what the paper's are."
            )
        return f"The base is {self.model}; whether it was tuned to follow instructions is not known here."

    # --- what no stage does ------------------------------------------------------------------------------------------

    @cached_property
    def _gathered(self) -> gathering.Rows:
        config = self.preset.data
        return gathering.gathered(config, gathering.inputs(config, self.data))

    def own_rows(self) -> list[tuple[Own, Any]]:
        """The parts of the rows, and what makes each."""
        config = self.preset.data
        inputs = gathering.inputs(config, self.data)
        return [
            (Own("rows", gathering.VERSION, gathering.Config(data=config), self.out / "rows" / name, inputs), partial(self._write, name))
            for name in gathering.PARTS
        ]

    def _write(self, name: str, _: pipeline.Work, out: Draft) -> None:
        gathering.write(name, self._gathered, out)

    def own_base(self) -> tuple[Own, Any]:
        """The base, where none was given."""
        config = base.Config(seed=BASE_SEED, train=self.preset.train, base=self.preset.base)
        own = Own("base", base.VERSION, config, self.out / "base", {"text": self.rows("text")})
        return own, lambda made, out: base.run(config, made.inputs.data["text"], out)

    def own_scores(self, model: Model, seed: int) -> tuple[Own, Any]:
        """What is measured of a model."""
        p = self.preset
        given = {scores.DIALOGUES: self.rows("dialogues"), gathering.MAIN: self.rows("pairs")}
        if self._has_other:
            given[gathering.OTHER] = self.rows("other")
        if model in BY_HEART or model == BASE:
            given[scores.LEARNT] = self.rows("pairs")
        config = scores.config_of(
            BASE_SEED if model == BASE else seed, self.made(model, seed).chat_template, p.train, p.sft, p.dpo, p.sampling
        )
        own = Own("scores", scores.VERSION, config, self.place(Step("scores", model), seed), given, {"model": self.made(model, seed)})
        return own, lambda made, out: scores.run(config, made.inputs.data, made.inputs.models["model"], out)

    @property
    def _has_other(self) -> bool:
        manifest = work.manifest_of(self.out / "rows" / "other")
        return bool(manifest and manifest.rows_out.get("test"))

    # --- what a stage does -------------------------------------------------------------------------------------------

    def staged(self, step: Step, seed: int) -> Bound:
        """A step as the stage that it is."""
        p, m = self.preset, step.model
        out = self.place(step, seed)
        if step.kind == "sft":
            section, rows = (p.best, self.rows("pairs", "train")) if m.best else (p.sft, self.rows("dialogues"))
            start = self.made(m.parent, seed)
            chosen = section.model_copy(update={"epochs": m.best or m.sft})
            return Bound(
                "sft",
                sft.Config(seed=seed, chat_template=start.chat_template, train=p.train, sft=chosen),
                Needs({"dialogues": rows}, {"base": start}),
                out,
            )
        if step.kind == "reference":
            policy = self.made(m, seed)
            settings = reference.Config(
                chat_template=policy.chat_template,
                train=p.train,
                max_length=p.dpo.max_length,
                max_prompt_length=p.dpo.max_prompt_length,
                truncation=p.dpo.truncation,
                quantize=p.dpo.quantize,
            )
            return Bound("reference", settings, Needs({"preferences": self.rows("pairs")}, {"policy": policy}), out)
        policy = self.made(m.parent, seed)
        looks = p.curve_every if m == CURVE else p.dpo.evaluate_every
        chosen_dpo = p.dpo.model_copy(update={"epochs": m.dpo, "evaluate_every": looks})
        references = [DataSource(path=str(self.place(Step("reference", m.parent), seed)))]
        return Bound(
            "dpo",
            dpo.Config(seed=seed, chat_template=policy.chat_template, train=p.train, dpo=chosen_dpo),
            # a look at the test pairs costs time, and all models are measured on them afterwards: only the curve is looked at on the way
            Needs({"preferences": self.rows("pairs", None if m == CURVE else "train"), "references": references}, {"policy": policy}),
            out,
        )

    # --- is it there? make it ------------------------------------------------------------------------------------------

    def before(self) -> Iterator[tuple[str, Own, Any]]:
        """What is there before any seed: rows, base, and what the base is measured at."""
        for own, do in self.own_rows():
            yield f"rows of {own.out.name}", own, do
        if self.model is None:
            yield ("base", *self.own_base())
        yield ("scores of base", *self.own_scores(BASE, BASE_SEED))

    def outstanding(self, wanted: Iterable[tuple[Step, int]], *, strict: bool = True) -> dict[Path, str]:
        """Of rows, base and steps those that are not there, or are not what the settings in force make: why, by place, in order.

        What is made from one of them waits for it, though it may stand there.

        Args:
            wanted: steps with their seeds, each after what it is made from.
            strict: raise where something that is not ours stands in a place; else that is the reason.

        Raises:
            ZephyrError: what stands in a place is not ours to replace, or an input is damaged.
        """
        found: dict[Path, str] = {}
        for _, own, _ in self.before():
            if reason := _why(partial(self.why_not_own, own, found), strict=strict):
                found[own.out] = reason
        for step, seed in wanted:
            if reason := _why(partial(self.why_not, step, seed, found), strict=strict):
                found[self.place(step, seed)] = reason
        return found

    def why_not(self, step: Step, seed: int, renewed: Collection[Path] = ()) -> str | None:
        """None if a step is done; else why it is not, in words. What is in `renewed` is to be made again.

        Raises:
            ZephyrError: what stands in its place is not ours to replace, or an input is damaged.
        """
        if step.kind == "scores":
            own, _ = self.own_scores(step.model, seed)
            return self.why_not_own(own, renewed)
        bound = self.staged(step, seed)
        if self._waits([s.path for given in bound.needs.data.values() for s in _sources(given)], bound.needs.models.values(), renewed):
            return WAITS
        cache = cache_dir() / pipeline.FINGERPRINTS
        why = pipeline.why_not_done(pipeline.bind(bound.stage, bound.config, bound.needs, bound.out.parent, bound.out, cache))
        # the stage calls its settings sft; here the second step of dSFT-2 has a section of its own
        return re.sub(r"\bsft\.", "best.", why) if why and step.kind == "sft" and step.model.best else why

    def why_not_own(self, own: Own, renewed: Collection[Path] = ()) -> str | None:
        """The same of a step that is no stage."""
        if self._waits([s.path for given in own.data.values() for s in given], own.models.values(), renewed):
            return WAITS
        return pipeline.why_not_done(own.bound())

    def _waits(self, rows: Iterable[str], models: Iterable[object], renewed: Collection[Path]) -> bool:
        """Whether something that it is made from is yet to be made, or to be made again."""
        paths = [Path(path) for path in (*rows, *(m.path for m in models if isinstance(m, ModelConfig)))]
        return any(path in renewed or (path.is_relative_to(self.out) and not work.is_there(path)) for path in paths)

    def make(self, step: Step, seed: int, number: str = "") -> None:
        """Make a step; `number` says which of how many it is.

        Raises:
            ZephyrError: it failed. What was made before is kept.
            KeyboardInterrupt: with its name, and whether it will go on from a checkpoint.
        """
        say(f"{number}{self.place(step, seed).relative_to(self.out)}: {step.described}")
        if step.kind == "scores":
            own, do = self.own_scores(step.model, seed)
            own.make(do)
        else:
            bound = self.staged(step, seed)
            pipeline.run_single(bound.stage, bound.config, bound.needs, bound.out.parent, bound.out)


def _why(ask: Callable[[], str | None], *, strict: bool) -> str | None:
    try:
        return ask()
    except ZephyrError as error:
        if strict:
            raise
        return str(error)


def _sources(given: From | Sequence[DataSource]) -> Sequence[DataSource]:
    assert not isinstance(given, From), "an experiment names its inputs"
    return given
