"""A teacher scores every answer: paper, section 3, step 2."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.progress import bar
from zephyr.recipe import Invalid, RateConfig, Recipe, Section, Share, TeacherConfig
from zephyr.records import RatedPrompt, Rating, parse_rated_prompt
from zephyr.stages import From, Inputs, Needs, teacher_inputs
from zephyr.teachers import Request, Teacher, make_teacher
from zephyr.teachers.rubric import ask, ask_again, parse_reply

VERSION = 3
Place = tuple[str, int]  # the id of a prompt, and which of its answers


class Config(Section):
    """Settings of this stage."""

    seed: int
    teacher: TeacherConfig
    invalid: Invalid
    max_unparsed: Share


def _section(recipe: Recipe) -> RateConfig:
    assert recipe.rate is not None
    return recipe.rate


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    return Config(seed=recipe.seed, teacher=_judge(s.teacher), invalid=s.invalid, max_unparsed=s.max_unparsed)


def _judge(teacher: TeacherConfig) -> TeacherConfig:
    """The teacher as a judge: one that thinks takes the likeliest rating, not a sample, unless the recipe sets a temperature."""
    if teacher.kind == "replay" or "temperature" in teacher.model_fields_set:
        return teacher
    return teacher.model_copy(update={"temperature": 0.0})


def needs(recipe: Recipe) -> Needs:
    """The answers, and what the teacher reads: a recording, or a model."""
    section = _section(recipe)
    data, models = teacher_inputs("teacher", section.teacher)
    return Needs(data={"completions": section.data or From("complete"), **data}, models=models)


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask for a rating of every answer; what cannot be read is asked for once more, then set aside and counted."""
    by_split = sources.collect(
        inputs.data["completions"], lambda row: parse_rated_prompt(row, rated=False), out, invalid=config.invalid, test_fraction=0.0
    )
    prompts = {item.record.prompt_id: item.record for items in by_split.values() for item in items}
    teacher = make_teacher("the rating teacher", config.teacher, config.seed)
    requests = _requests(prompts.values(), config.seed, out)
    heard = _ask(teacher, requests, out)
    _count(heard, prompts, out)
    if len(heard.unread) > config.max_unparsed * len(requests):
        first = next(problem for _, problem in heard.unread.values())
        raise DataError(
            f"{len(heard.unread)} of {len(requests)} ratings could not be read (the first: {first}), more than rate.max_unparsed "
            f"({config.max_unparsed:.0%}) allows; use a stronger teacher, or raise the limit"
        )
    if heard.refused and not heard.ratings:
        raise DataError(
            f"none of {len(heard.refused)} answers can be put into the teacher's chat format (the first: "
            f"{next(iter(heard.refused.values()))}); use a teacher with another chat template"
        )
    for split, items in by_split.items():
        rows = []
        for item in items:
            rated = _rated(item.record, heard.ratings)
            if len(rated.completions) < 2:
                out.drop("fewer than two rated answers", item.where, item.record.row())
                continue
            rows.append(rated.row())
        out.write_rows(split, rows, schemas.ratings())
    out.manifest.results = {
        "mean_by_model": _by_model(prompts, heard.ratings),
        "unparsed": len(heard.unread),
        "replayed": config.teacher.kind == "replay",
    }


def _requests(prompts: Iterable[RatedPrompt], seed: int, out: Draft) -> dict[Place, Request]:
    """A request for every answer that says something; an empty one has nothing to rate, and is counted."""
    requests = {}
    for p in prompts:
        for i, c in enumerate(p.completions):
            if c.response.strip():
                requests[p.prompt_id, i] = Request("rate", p.prompt_id, ask(p.prompt, c.response, seed), c.response, c.model)
            else:
                out.drop("the answer is empty", f"prompt {p.prompt_id[:16]}, answer {i}", c.row())
    return requests


@dataclass
class Heard:
    """What came of the requests: ratings, replies that could not be read even the second time, and what could not be asked.

    `unread` has the reply and what is wrong with it, `refused` why the request cannot be put into the teacher's chat format.
    """

    ratings: dict[Place, Rating] = field(default_factory=dict)
    unread: dict[Place, tuple[str, str]] = field(default_factory=dict)
    refused: dict[Place, str] = field(default_factory=dict)


def _ask(teacher: Teacher, requests: Mapping[Place, Request], out: Draft) -> Heard:
    """Ask for every rating, and once more for those that could not be read."""
    heard = Heard()
    waiting = dict(requests)
    with bar("ratings", len(requests), "answers") as progress:
        for _ in range(2):
            place = {request: key for key, request in waiting.items()}
            before, heard.unread = heard.unread, {}
            for reply in teacher.answer(list(waiting.values())):
                key = place.pop(reply.request)
                out.manifest.tokens += reply.tokens
                if reply.finish_reason == "refused" and key in before:
                    heard.unread[key] = before[key]  # what it said the first time cannot be quoted to it
                elif reply.finish_reason == "refused":
                    heard.refused[key] = reply.problem
                else:
                    try:
                        heard.ratings[key] = parse_reply(reply.text)
                    except DataError as error:
                        heard.unread[key] = reply.text, str(error)
                        continue
                progress.advance()
            if place:
                raise DataError(f"the teacher left {len(place)} of {len(waiting)} requests without a reply")
            if not heard.unread:
                break
            waiting = {key: ask_again(waiting[key], text, problem) for key, (text, problem) in heard.unread.items()}
    return heard


def _count(heard: Heard, prompts: Mapping[str, RatedPrompt], out: Draft) -> None:
    """Set aside the answers that got no rating."""
    for (pid, i), (text, problem) in heard.unread.items():
        out.drop("the teacher's reply could not be read", f"prompt {pid[:16]}, answer {i}", {"reply": text, "error": problem})
    for (pid, i), problem in heard.refused.items():
        row = {"prompt": prompts[pid].prompt, **prompts[pid].completions[i].row(), "error": problem}
        out.drop("the answer or its prompt does not go into the teacher's chat format", f"prompt {pid[:16]}, answer {i}", row)


def _rated(prompt: RatedPrompt, ratings: Mapping[Place, Rating]) -> RatedPrompt:
    done = tuple(
        replace(c, rating=ratings[prompt.prompt_id, i]) for i, c in enumerate(prompt.completions) if (prompt.prompt_id, i) in ratings
    )
    return replace(prompt, completions=done)


def _by_model(prompts: Mapping[str, RatedPrompt], ratings: Mapping[Place, Rating]) -> dict[str, dict[str, float]]:
    grouped: dict[str, list[Rating]] = defaultdict(list)
    for (pid, i), rating in ratings.items():
        grouped[prompts[pid].completions[i].model].append(rating)
    return {
        model: {
            "mean": sum(r.mean or 0.0 for r in rs) / len(rs),
            "overall": sum(r.overall_score or 0.0 for r in rs) / len(rs),
            "n": len(rs),
        }
        for model, rs in sorted(grouped.items())
    }
