"""A teacher scores every answer: paper, section 3, step 2."""

from __future__ import annotations

from collections import defaultdict

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.progress import bar
from zephyr.recipe import Invalid, RateConfig, Recipe, Section, Share, TeacherConfig
from zephyr.records import Completion, RatedPrompt, Rating, parse_rated_prompt
from zephyr.stages import From, Inputs, Needs
from zephyr.teachers import Request, make_teacher
from zephyr.teachers.rubric import ask, ask_again, parse_reply

VERSION = 1


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
    return Config(seed=recipe.seed, teacher=s.teacher, invalid=s.invalid, max_unparsed=s.max_unparsed)


def needs(recipe: Recipe) -> Needs:
    """The answers, and the file that a replaying teacher reads."""
    section = _section(recipe)
    return Needs(data={"completions": section.data or From("complete"), "teacher": section.teacher.recordings()})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask for a rating of every answer; what cannot be read is asked for once more, then set aside and counted."""
    by_split = sources.collect(
        inputs.data["completions"], lambda row: parse_rated_prompt(row, rated=False), out, invalid=config.invalid, test_fraction=0.0
    )
    prompts = {item.record.prompt_id: item.record for items in by_split.values() for item in items}
    teacher = make_teacher("the rating teacher", config.teacher, config.seed)
    # an empty answer has nothing to rate; it stays in the completions, marked there
    open_requests = {
        (p.prompt_id, i): Request("rate", p.prompt_id, ask(p.prompt, c.response, config.seed), c.response)
        for p in prompts.values()
        for i, c in enumerate(p.completions)
        if c.response.strip()
    }
    total = len(open_requests)
    ratings: dict[tuple[str, int], Rating] = {}
    with bar("ratings", total, "answers") as progress:
        for attempt in (1, 2):
            place = {id(request): key for key, request in open_requests.items()}
            failed: dict[tuple[str, int], Request] = {}
            for reply in teacher.answer(list(open_requests.values())):
                key = place[id(reply.request)]
                out.manifest.tokens += reply.tokens
                try:
                    ratings[key] = parse_reply(reply.text)
                    progress.advance()
                except DataError as error:
                    failed[key] = ask_again(reply.request, reply.text, str(error))
                    if attempt == 2:
                        out.drop("the teacher's reply could not be read", f"prompt {key[0][:16]}, answer {key[1]}", {"reply": reply.text, "error": str(error)})
            open_requests = failed
            if not failed:
                break
    if total and len(open_requests) > config.max_unparsed * total:
        raise DataError(
            f"{len(open_requests)} of {total} ratings could not be read, more than rate.max_unparsed ({config.max_unparsed:.0%}) allows; "
            "use a stronger teacher, or raise the limit"
        )
    for split, items in by_split.items():
        rows = []
        for item in items:
            rated = _rated(item.record, ratings)
            if len(rated.completions) < 2:
                out.drop("fewer than two rated answers", item.where, item.record.row())
                continue
            rows.append(rated.row())
        out.write_rows(split, rows, schemas.ratings())
    out.manifest.results = {"mean_by_model": _by_model(prompts, ratings), "unparsed": len(open_requests), "replayed": config.teacher.kind == "replay"}


def _rated(prompt: RatedPrompt, ratings: dict[tuple[str, int], Rating]) -> RatedPrompt:
    done = tuple(
        Completion(c.model, c.response, c.principle, c.finish_reason, ratings[prompt.prompt_id, i])
        for i, c in enumerate(prompt.completions)
        if (prompt.prompt_id, i) in ratings
    )
    return RatedPrompt(prompt.prompt, prompt.prompt_id, done, prompt.source, prompt.category)


def _by_model(prompts: dict[str, RatedPrompt], ratings: dict[tuple[str, int], Rating]) -> dict[str, dict[str, float]]:
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
