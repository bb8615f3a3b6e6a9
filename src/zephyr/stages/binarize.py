"""Scores become pairs: chosen = the best answer, rejected = one of the others at random (paper, section 4.1), or as the recipe says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zephyr import pairs, schemas, sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.recipe import BinarizeConfig, DataSource, Invalid, PairPolicy, Recipe, Share
from zephyr.records import Preference, RatedPrompt, parse_feedback
from zephyr.sources import Located
from zephyr.stages import From, Inputs, Needs

if TYPE_CHECKING:
    from zephyr.text.contamination import Benchmarks

VERSION = 6  # 6: what a turn says beside its role and content is refused where it would vanish
AGAINST = "against "  # how the names of inputs begin that hold a benchmark's prompts
Feedback = RatedPrompt | Preference


class Config(PairPolicy):
    """Settings of this stage."""

    seed: int
    test_fraction: Share
    invalid: Invalid


def _section(recipe: Recipe) -> BinarizeConfig:
    assert recipe.binarize is not None
    return recipe.binarize


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    policy = {name: getattr(s, name) for name in PairPolicy.model_fields if name in s.model_fields_set}
    return Config(seed=recipe.seed, test_fraction=s.test_fraction, invalid=s.invalid, **policy)


def needs(recipe: Recipe) -> Needs:
    """Ratings, or ready-made pairs from outside; and the benchmarks whose prompts are left out."""
    section = _section(recipe)
    benchmarks = recipe.benchmarks if section.decontaminate else {}
    against = {f"{AGAINST}{name}": [source] for name, source in benchmarks.items()}
    return Needs(data={"ratings": section.data or From("rate"), **against})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Make one pair a prompt, or check ready-made pairs; every prompt that gives none is dropped with its reason."""
    by_split = sources.collect(inputs.data["ratings"], parse_feedback, out, invalid=config.invalid, test_fraction=config.test_fraction)
    benchmarks = _benchmarks(inputs.data)
    made: list[Preference] = []
    partial = 0
    for split, items in by_split.items():
        clean = [item for item in items if not (benchmarks and _is_contaminated(item, benchmarks, out))]
        partial += sum(_partial(item.record, config) for item in clean)
        found = [Located(item.where, pair) for item in clean if (pair := _pair(item, config, out)) is not None]
        kept = _capped(found, config, out) if split == "train" else [item.record for item in found]
        out.write_rows(split, [pair.row() for pair in kept], schemas.preferences())
        made += kept
    if not made:
        raise DataError(f"no pair is left{out.why_dropped()}")
    if partial:
        out.note(f"{partial} answers lack some of the weighted aspects and were ranked by the others.")
    _note_unknown_sources(config, by_split, out)
    out.manifest.results = _results(made)


# --- which pairs -----------------------------------------------------------------------------------------------


def _pair(item: Located[Feedback], config: Config, out: Draft) -> Preference | None:
    """The pair of a row, or None with the row dropped and counted."""
    record = item.record
    found = pairs.pair_of(record, config, config.seed) if isinstance(record, RatedPrompt) else pairs.checked(record, config)
    if isinstance(found, Preference):
        return found
    out.drop(found.reason, item.where, record.row())
    return None


def _partial(record: Feedback, config: Config) -> int:
    """How many answers are ranked by some of the weighted aspects alone."""
    if not isinstance(record, RatedPrompt):
        return 0
    return sum(pairs.is_partial(c.rating, config) for c in record.completions if c.response.strip())


def _capped(found: Sequence[Located[Preference]], config: Config, out: Draft) -> list[Preference]:
    """The pairs without those that are too many of their source; they are dropped and counted."""
    over = set(pairs.over_caps([item.record for item in found], config, config.seed))
    for i in sorted(over):
        record = found[i].record
        cap = pairs.cap_of(record.source, config)
        out.drop(f"more than max_per_source, {cap} of {record.source or 'no source'}", found[i].where, record.row())
    return [item.record for i, item in enumerate(found) if i not in over]


def _note_unknown_sources(config: Config, by_split: Mapping[str, Sequence[Located[Feedback]]], out: Draft) -> None:
    there = {item.record.source for items in by_split.values() for item in items}
    if unknown := sorted(set(config.max_per_source) - there - {"*"}):
        out.note(f"binarize.max_per_source names {', '.join(unknown)}, and no row has it as its `source`: they have {sorted(there)}.")


# --- benchmarks --------------------------------------------------------------------------------------------------


def _benchmarks(data: Mapping[str, Sequence[DataSource]]) -> Benchmarks | None:
    """The prompts of the benchmarks among the inputs, None where there is no benchmark."""
    against = {name.removeprefix(AGAINST): given[0] for name, given in data.items() if name.startswith(AGAINST)}
    if not against:
        return None
    from zephyr.text.contamination import Benchmarks

    return Benchmarks.read(against)


def _is_contaminated(item: Located[Feedback], benchmarks: Benchmarks, out: Draft) -> bool:
    """Whether something the user says is a prompt of a benchmark; the row is then dropped and counted."""
    hit = next((hit for text in _asked(item.record) if (hit := benchmarks.find(text))), None)
    if hit is not None:
        out.drop(f"prompt found in {hit.benchmark} ({hit.kind})", item.where, item.record.row())
    return hit is not None


def _asked(record: Feedback) -> list[str]:
    """All that the user says."""
    if isinstance(record, RatedPrompt):
        return [record.prompt]
    return list(dict.fromkeys([record.prompt, *(m["content"] for m in record.chosen if m["role"] == "user")]))


# --- results -----------------------------------------------------------------------------------------------------


def _results(made: Sequence[Preference]) -> dict[str, Any]:
    gaps = [p.score_chosen - p.score_rejected for p in made if p.score_chosen is not None and p.score_rejected is not None]
    ranks = Counter(p.rejected_rank for p in made if p.rejected_rank is not None)
    return {
        "chosen_longer": sum(len(p.chosen[-1]["content"]) > len(p.rejected[-1]["content"]) for p in made) / len(made),
        "mean_score_gap": sum(gaps) / len(gaps) if gaps else None,
        "equal_scores": sum(gap == 0 for gap in gaps),
        "without_scores": len(made) - len(gaps),
        "rejected_ranks": {str(rank): n for rank, n in sorted(ranks.items())},
        "by_source": dict(sorted(Counter(p.source for p in made).items())),
    }
