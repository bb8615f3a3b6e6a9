"""What `complete` and `rate` will ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.recipe import APIConfig, DataSource, Recipe
from zephyr.records import Completion, Prompt, RatedPrompt, parse_prompt
from zephyr.spending.lines import CHARACTERS_A_TOKEN, Line, is_done, line_of, tokens_of
from zephyr.stages import complete, rate
from zephyr.teachers import Request


def of_complete(recipe: Recipe, run_dir: Path, draft: Draft) -> list[Line]:
    """What the models of the pool are asked, those of them that are behind servers."""
    if recipe.complete is None or not any(t.kind == "api" for t in recipe.complete.pool.values()) or is_done(recipe, "complete", run_dir):
        return []
    asked = complete.requests(complete.configure(recipe), _prompts(recipe.complete.prompts, recipe, draft))
    return [
        line_of("complete", name, teacher, asked[name], run_dir)
        for name, teacher in recipe.complete.pool.items()
        if isinstance(teacher, APIConfig)
    ]


def of_rate(recipe: Recipe, run_dir: Path, draft: Draft) -> list[Line]:
    """What the teacher is asked about the answers: those that are there, or as long as they are taken to be."""
    if recipe.rate is None or recipe.rate.teacher.kind != "api" or is_done(recipe, "rate", run_dir):
        return []
    config = rate.configure(recipe)
    assert isinstance(config.teacher, APIConfig)
    data = recipe.rate.data
    if not data and is_done(recipe, "complete", run_dir):
        data = [DataSource(path=str(run_dir / "complete"))]
    if data:
        rows = [item.record for items in rate.collect(config, data, draft).values() for item in items]
        return [line_of("rate", rate.TEACHER, config.teacher, _asked(config, rows), run_dir)]
    return [_unwritten(recipe, config, run_dir, draft)]


def _unwritten(recipe: Recipe, config: rate.Config, run_dir: Path, draft: Draft) -> Line:
    """Ratings of answers that are not written yet: each is taken to be as long as it may be, or as those before it were."""
    assert recipe.complete is not None and isinstance(config.teacher, APIConfig)
    pool = recipe.complete.pool
    length = sum(tokens_of(name, teacher, run_dir) for name, teacher in pool.items()) / len(pool)
    most = max(tokens_of(name, teacher, run_dir, most=True) for name, teacher in pool.items())
    names = [f"answer {i}" for i in range(recipe.complete.models_per_prompt)]
    prompts = _prompts(recipe.complete.prompts, recipe, draft)

    def asked(tokens: float) -> Iterable[Request]:
        size = round(tokens * CHARACTERS_A_TOKEN)
        given = tuple(Completion(name, f"{name} ".ljust(size, "x")) for name in names)
        return _asked(config, (RatedPrompt(p.prompt, p.prompt_id, given) for p in prompts))

    guess = f"the answers are not written yet; each is taken to have {length:,.0f} tokens, {most:,.0f} at most"
    line = line_of("rate", rate.TEACHER, config.teacher, asked(length), run_dir, guess)
    longest = line_of("rate", rate.TEACHER, config.teacher, asked(most), run_dir)
    return replace(line, prompt_tokens_most=longest.prompt_tokens_most, usd_most=longest.usd_most)


def _asked(config: rate.Config, rows: Iterable[RatedPrompt]) -> Iterator[Request]:
    """The requests for ratings, made one prompt at a time: all together hold every answer once more, as long as it may be."""
    for row in rows:
        yield from (question.request for question in rate.questions(config, [row]))


def _prompts(data: Sequence[DataSource], recipe: Recipe, draft: Draft) -> list[Prompt]:
    section = recipe.complete
    assert section is not None
    found = sources.collect(data, parse_prompt, draft, invalid=section.invalid, test_fraction=section.test_fraction)
    return [item.record for items in found.values() for item in items]
