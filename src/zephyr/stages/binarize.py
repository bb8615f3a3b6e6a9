"""Scores become pairs: chosen = the best answer, rejected = one of the others at random (paper, section 4.1)."""

from __future__ import annotations

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.recipe import BinarizeConfig, Invalid, Recipe, Section, Share
from zephyr.records import Completion, Message, Preference, RatedPrompt, parse_feedback, score_of, seeded_unit
from zephyr.sources import Located
from zephyr.stages import From, Inputs, Needs

VERSION = 2


class Config(Section):
    """Settings of this stage."""

    seed: int
    score: str
    rejected: str
    test_fraction: Share
    invalid: Invalid


def _section(recipe: Recipe) -> BinarizeConfig:
    assert recipe.binarize is not None
    return recipe.binarize


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    return Config(seed=recipe.seed, score=s.score, rejected=s.rejected, test_fraction=s.test_fraction, invalid=s.invalid)


def needs(recipe: Recipe) -> Needs:
    """Ratings, or ready-made pairs from outside."""
    return Needs(data={"ratings": _section(recipe).data or From("rate")})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Make one pair a prompt, or check ready-made pairs; a tie is no preference and is left out."""
    by_split = sources.collect(inputs.data["ratings"], parse_feedback, out, invalid=config.invalid, test_fraction=config.test_fraction)
    pairs: list[Preference] = []
    for split, items in by_split.items():
        kept = [pair for item in items if (pair := _pair(item, config, out)) is not None]
        out.write_rows(split, [pair.row() for pair in kept], schemas.preferences())
        pairs += kept
    if not pairs:
        raise DataError(f"no pair is left{out.why_dropped()}")
    gaps = [p.score_chosen - p.score_rejected for p in pairs if p.score_chosen is not None and p.score_rejected is not None]
    out.manifest.results = {
        "chosen_longer": sum(len(p.chosen[-1]["content"]) > len(p.rejected[-1]["content"]) for p in pairs) / len(pairs),
        "mean_score_gap": sum(gaps) / len(gaps) if gaps else None,
    }


def _pair(item: Located[RatedPrompt | Preference], config: Config, out: Draft) -> Preference | None:
    record = item.record
    if isinstance(record, RatedPrompt):
        return binarize(record, item.where, config, out)
    if record.score_chosen is not None and record.score_rejected is not None:
        if record.score_chosen == record.score_rejected:
            out.drop("the scores tie", item.where, record.row())
            return None
        if record.score_chosen < record.score_rejected:
            out.drop("the rejected answer has the higher score", item.where, record.row())
            return None
    return record


def binarize(record: RatedPrompt, where: str, config: Config, out: Draft) -> Preference | None:
    """One pair of a prompt's answers, or None with the prompt dropped and counted.

    Chosen is the answer with the highest score; among several, one by the seeded hash of prompt and model. Rejected
    is drawn among the answers that score strictly less and say something else: random by hash, or the lowest.
    """
    scored = [(score, c) for c in record.completions if (score := score_of(c.rating, config.score)) is not None and c.response.strip()]
    if len(scored) < 2:
        out.drop("fewer than two rated answers", where, record.row())
        return None

    def tie_break(c: Completion, purpose: str) -> float:
        return seeded_unit(config.seed, purpose, record.prompt_id, c.model, c.response)

    top, chosen = max(scored, key=lambda sc: (sc[0], -tie_break(sc[1], "chosen")))
    lower = [(s, c) for s, c in scored if s < top]
    others = [(s, c) for s, c in lower if c.response.strip() != chosen.response.strip()]
    if not others:
        out.drop("every answer that scores less says the same as the best" if lower else "all answers tie", where, record.row())
        return None
    if config.rejected == "lowest":
        low, rejected = min(others, key=lambda sc: (sc[0], tie_break(sc[1], "rejected")))
    else:  # random, not the worst: paper, section 4.1
        low, rejected = min(others, key=lambda sc: tie_break(sc[1], "rejected"))
    user: Message = {"role": "user", "content": record.prompt}
    return Preference(
        prompt=record.prompt,
        prompt_id=record.prompt_id,
        chosen=(user, {"role": "assistant", "content": chosen.response}),
        rejected=(user, {"role": "assistant", "content": rejected.response}),
        score_chosen=top,
        score_rejected=low,
        chosen_model=chosen.model,
        rejected_model=rejected.model,
        source=record.source,
        category=record.category,
    )
