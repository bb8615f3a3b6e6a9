"""Several models answer each prompt: paper, section 3, step 2."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.progress import bar
from zephyr.recipe import CompleteConfig, DataSource, Invalid, ModelConfig, Recipe, Section, Share, TeacherConfig
from zephyr.records import Completion, RatedPrompt, parse_prompt, seeded_unit
from zephyr.stages import Inputs, Needs, teacher_inputs
from zephyr.teachers import Reply, Request, make_teacher

VERSION = 3


class Config(Section):
    """Settings of this stage."""

    seed: int
    pool: dict[str, TeacherConfig]
    models_per_prompt: int
    test_fraction: Share
    invalid: Invalid


def _section(recipe: Recipe) -> CompleteConfig:
    assert recipe.complete is not None
    return recipe.complete


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    return Config(seed=recipe.seed, pool=s.pool, models_per_prompt=s.models_per_prompt, test_fraction=s.test_fraction, invalid=s.invalid)


def needs(recipe: Recipe) -> Needs:
    """The prompts, and what the teachers read: recordings, or models."""
    section = _section(recipe)
    data: dict[str, list[DataSource]] = {"prompts": section.prompts}
    models: dict[str, ModelConfig] = {}
    for name, teacher in section.pool.items():
        its_data, its_models = teacher_inputs(f"teacher {name}", teacher)
        data.update(its_data)
        models.update(its_models)
    return Needs(data=data, models=models)


def draw(pool: list[str], count: int, seed: int, prompt_id: str) -> list[str]:
    """`count` models of the pool for one prompt: by a hash of seed, prompt and model, in the pool's order."""
    drawn = set(sorted(pool, key=lambda name: seeded_unit(seed, "draw", prompt_id, name))[:count])
    return [name for name in pool if name in drawn]


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask the drawn models for each prompt and keep every answer with its finish reason."""
    by_split = sources.collect(inputs.data["prompts"], parse_prompt, out, invalid=config.invalid, test_fraction=config.test_fraction)
    prompts = {item.record.prompt_id: item.record for items in by_split.values() for item in items}
    drawn = {pid: draw(sorted(config.pool), config.models_per_prompt, config.seed, pid) for pid in prompts}
    answers: dict[str, dict[str, Completion]] = defaultdict(dict)
    with bar("answers", sum(map(len, drawn.values())), "answers") as progress:
        for name, teacher_config in sorted(config.pool.items()):
            requests = [
                Request("complete", pid, ({"role": "user", "content": prompts[pid].prompt},))
                for pid, names in drawn.items()
                if name in names
            ]
            for reply in _replies(name, teacher_config, config.seed, requests):
                answers[reply.request.prompt_id][name] = Completion(name, reply.text, finish_reason=reply.finish_reason)
                out.manifest.tokens += reply.tokens
                progress.advance()
    missing = [pid for pid, names in drawn.items() if set(answers[pid]) != set(names)]
    if missing:
        raise DataError(f"{len(missing)} prompts lack an answer (first: {prompts[missing[0]].prompt[:60]!r})")
    for split, items in by_split.items():
        rows = []
        for item in items:
            p = item.record
            order = sorted(answers[p.prompt_id], key=lambda name: seeded_unit(config.seed, "position", p.prompt_id, name))
            rows.append(RatedPrompt(p.prompt, p.prompt_id, tuple(answers[p.prompt_id][n] for n in order), p.source, p.category).row())
        out.write_rows(split, rows, schemas.ratings())
    every = [c for given in answers.values() for c in given.values()]
    out.manifest.results = {
        "by_model": dict(sorted(Counter(c.model for c in every).items())),
        "finish_reasons": dict(sorted(Counter(c.finish_reason for c in every).items())),
        "replayed": all(t.kind == "replay" for t in config.pool.values()),
    }


def _replies(name: str, config: TeacherConfig, seed: int, requests: Sequence[Request]) -> Iterator[Reply]:
    """A teacher's replies. It is held here alone, so that its model is gone before the next one is loaded."""
    yield from make_teacher(name, config, seed).answer(requests)
