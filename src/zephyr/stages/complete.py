"""Several models answer each prompt: paper, section 3, step 2."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.progress import bar
from zephyr.recipe import BudgetConfig, CompleteConfig, DataSource, Invalid, ModelConfig, Principle, Recipe, Section, Share, TeacherConfig
from zephyr.records import Completion, Message, Prompt, RatedPrompt, parse_prompt, seeded_unit
from zephyr.stages import Inputs, Needs, teacher_inputs
from zephyr.teachers import Reply, Request, ask, principles

VERSION = 6  # 6: a row that is given for the test is in it as such, also where it was drawn before; a file may be given for two columns


class Config(Section):
    """Settings of this stage."""

    seed: int
    pool: dict[str, TeacherConfig]
    models_per_prompt: int
    principles: list[Principle]
    test_fraction: Share
    invalid: Invalid
    budget: BudgetConfig = Field(exclude=True)


def _section(recipe: Recipe) -> CompleteConfig:
    assert recipe.complete is not None
    return recipe.complete


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    return Config(
        seed=recipe.seed,
        pool=s.pool,
        models_per_prompt=s.models_per_prompt,
        principles=s.principles,
        test_fraction=s.test_fraction,
        invalid=s.invalid,
        budget=recipe.budget,
    )


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


def requests(config: Config, prompts: Iterable[Prompt]) -> dict[str, list[Request]]:
    """What each teacher of the pool is asked: the prompts it was drawn for, each under a principle drawn for it."""
    asked: dict[str, list[Request]] = {name: [] for name in sorted(config.pool)}
    for prompt in prompts:
        for name in draw(sorted(config.pool), config.models_per_prompt, config.seed, prompt.prompt_id):
            _, system = _principle(config, prompt.prompt_id, name)
            turns: tuple[Message, ...] = ({"role": "user", "content": prompt.prompt},)
            if system:
                turns = ({"role": "system", "content": system}, *turns)
            asked[name].append(Request("complete", prompt.prompt_id, turns))
    return asked


def _principle(config: Config, prompt_id: str, name: str) -> tuple[str, str]:
    """(principle, system prompt); what was recorded was asked under its own."""
    return ("", "") if config.pool[name].kind == "replay" else principles.draw(config.principles, config.seed, prompt_id, name)


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask the drawn models for each prompt and keep every answer with its finish reason."""
    by_split = sources.collect(inputs.data["prompts"], parse_prompt, out, invalid=config.invalid, test_fraction=config.test_fraction)
    prompts = {item.record.prompt_id: item.record for items in by_split.values() for item in items}
    asked = requests(config, prompts.values())
    answers: dict[str, dict[str, Completion]] = defaultdict(dict)
    lost: set[tuple[str, str]] = set()  # (prompt_id, model)
    digests = {name: inputs.models[f"teacher {name}"].digest for name, t in config.pool.items() if t.kind == "local"}
    with ask.opened("complete", config.pool, folder=out.final.parent, budget=config.budget, seed=config.seed, digests=digests) as teachers:
        total = sum(map(len, asked.values()))
        with bar("answers", total, "answers") as progress:
            for done, (name, reply) in enumerate(teachers.replies(asked), 1):
                if reply.is_lost:
                    lost.add((reply.request.prompt_id, name))
                    out.drop("the answer may have been paid for, and is lost", f"prompt {reply.request.prompt_id[:16]}", {"model": name})
                answers[reply.request.prompt_id][name] = _completion(config, name, reply)
                out.manifest.tokens += reply.tokens
                progress.advance(text=teachers.status(total - done))
        bill = teachers.bill()
    _refuse_missing(asked, answers, prompts)
    for split, items in by_split.items():
        rows = []
        for item in items:
            p = item.record
            given = {name: c for name, c in answers[p.prompt_id].items() if (p.prompt_id, name) not in lost}
            if not given:
                out.drop("all its answers are lost", item.where, p.row())
                continue
            order = sorted(given, key=lambda name: seeded_unit(config.seed, "position", p.prompt_id, name))
            rows.append(RatedPrompt(p.prompt, p.prompt_id, tuple(given[n] for n in order), p.source, p.category).row())
        out.write_rows(split, rows, schemas.completions())
    every = [c for given in answers.values() for c in given.values()]
    out.manifest.results = {
        "by_model": dict(sorted(Counter(c.model for c in every).items())),
        "by_principle": dict(sorted(Counter(c.principle for c in every if c.principle).items())),
        "finish_reasons": dict(sorted(Counter(c.finish_reason for c in every).items())),
        "empty": sum(not c.response.strip() for c in every),
        "replayed": all(t.kind == "replay" for t in config.pool.values()),
        "bill": bill,
    }


def _completion(config: Config, name: str, reply: Reply) -> Completion:
    principle, system = _principle(config, reply.request.prompt_id, name)
    return Completion(name, reply.text, reply.principle or principle, reply.finish_reason, system_prompt=system)


def _refuse_missing(
    asked: Mapping[str, Sequence[Request]], answers: Mapping[str, Mapping[str, Completion]], prompts: Mapping[str, Prompt]
) -> None:
    missing = [(name, r.prompt_id) for name, theirs in asked.items() for r in theirs if name not in answers.get(r.prompt_id, {})]
    if missing:
        name, prompt_id = missing[0]
        raise DataError(f"{len(missing)} answers are missing (first: that of {name} to {prompts[prompt_id].prompt[:60]!r})")
