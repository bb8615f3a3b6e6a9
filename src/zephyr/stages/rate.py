"""A teacher scores every answer: paper, section 3, step 2."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.evals import hygiene
from zephyr.progress import Bar, bar
from zephyr.recipe import BudgetConfig, DataSource, Invalid, RateConfig, Recipe, Section, Share, TeacherConfig
from zephyr.records import RatedPrompt, Rating, parse_rated_prompt, seeded_unit
from zephyr.sources import Located
from zephyr.stages import From, Inputs, Needs, teacher_inputs
from zephyr.teachers import Reply, Request, ask, rubric

VERSION = 8  # 8: of answers from outside, whose source names no split, a share of the prompts is kept for the test
TEACHER = "judge"  # its name in the journal
FIRST_LOOK = 64  # requests after which a teacher that cannot be read is stopped, before the rest is paid for
Place = tuple[str, int]  # the id of a prompt, and which of its answers


class Config(Section):
    """Settings of this stage."""

    seed: int
    teacher: TeacherConfig
    protocol: Literal["each", "together"]
    test_fraction: Share
    invalid: Invalid
    max_unparsed: Share
    budget: BudgetConfig = Field(exclude=True)


def _section(recipe: Recipe) -> RateConfig:
    assert recipe.rate is not None
    return recipe.rate


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    return Config(
        seed=recipe.seed,
        teacher=_judge(s.teacher),
        protocol=s.protocol,
        test_fraction=s.test_fraction,
        invalid=s.invalid,
        max_unparsed=s.max_unparsed,
        budget=recipe.budget,
    )


def _judge(teacher: TeacherConfig) -> TeacherConfig:
    """The teacher as a judge: one that thinks takes the likeliest rating, not a sample, unless the recipe sets a temperature."""
    if teacher.kind == "replay" or "temperature" in teacher.model_fields_set:
        return teacher
    return teacher.model_copy(update={"temperature": 0.0})


def _called(teacher: TeacherConfig) -> str:
    """The teacher as it was asked for."""
    if teacher.kind == "replay":
        return "the feedback's teacher, whose ratings are recorded"
    return f"the feedback's teacher, {teacher.model if teacher.kind == 'api' else Path(teacher.path).name}"


def needs(recipe: Recipe) -> Needs:
    """The answers, and what the teacher reads: a recording, or a model."""
    section = _section(recipe)
    data, models = teacher_inputs("teacher", section.teacher)
    return Needs(data={"completions": section.data or From("complete"), **data}, models=models)


@dataclass(frozen=True, eq=False)
class Question:
    """One request, and the answers it asks to be rated, in the order shown."""

    request: Request
    places: tuple[Place, ...]


def questions(config: Config, prompts: Iterable[RatedPrompt]) -> list[Question]:
    """What the teacher is asked: for a rating of each answer, or of all to a prompt in an order drawn for it. Empty answers have none."""
    found = []
    for p in prompts:
        places = [(p.prompt_id, i) for i, c in enumerate(p.completions) if c.response.strip()]
        if config.protocol == "each":
            for place in places:
                c = p.completions[place[1]]
                found.append(Question(rubric.ask(p.prompt_id, p.prompt, c.response, c.model, config.seed), (place,)))
        elif places:
            places.sort(key=lambda place: seeded_unit(config.seed, "shown", p.prompt_id, p.completions[place[1]].model, place[1]))
            texts = [p.completions[i].response for _, i in places]
            found.append(Question(rubric.ask_together(p.prompt_id, p.prompt, texts, config.seed), tuple(places)))
    return found


def collect(config: Config, data: Sequence[DataSource], out: Draft) -> dict[str, list[Located[RatedPrompt]]]:
    """The prompts and their answers, by split."""
    parse = partial(parse_rated_prompt, rated=False)
    return sources.collect(data, parse, out, invalid=config.invalid, test_fraction=config.test_fraction)


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask for a rating of every answer; what cannot be read is asked for once more, then set aside and counted."""
    by_split = collect(config, inputs.data["completions"], out)
    prompts = {item.record.prompt_id: item.record for items in by_split.values() for item in items}
    asked = questions(config, prompts.values())
    digests = {TEACHER: inputs.models["teacher"].digest} if config.teacher.kind == "local" else {}
    heard = Heard(left=len(asked))
    with ask.opened(
        "rate", {TEACHER: config.teacher}, folder=out.final.parent, budget=config.budget, seed=config.seed, digests=digests
    ) as teachers:
        with bar("ratings", len(asked), "calls") as progress:
            _hear(teachers, asked[:FIRST_LOOK], heard, progress)
            _refuse_unread(heard, config.max_unparsed, len(asked[:FIRST_LOOK]), last=len(asked) <= FIRST_LOOK)
            _hear(teachers, asked[FIRST_LOOK:], heard, progress)
        bill = teachers.bill()
    out.manifest.tokens += heard.tokens
    _refuse_unread(heard, config.max_unparsed, len(asked), last=True)
    _count(heard, prompts, out)
    if (heard.refused or heard.lost) and not heard.ratings:
        first = next(iter((heard.refused or heard.lost).values()))
        raise DataError(f"none of {len(asked)} requests could be put to the teacher (the first: {first}); use another teacher")
    for split, items in by_split.items():
        rows = []
        for item in items:
            rated = _rated(item.record, heard)
            if len(rated.completions) < 2:
                out.drop("fewer than two rated answers", item.where, item.record.row())
                continue
            rows.append(rated.row())
        out.write_rows(split, rows, schemas.ratings())
    served = hygiene.served(heard.by.values())
    for text in hygiene.served_warnings(_called(config.teacher), served, "ratings"):
        out.note(text)
    out.manifest.results = {
        "mean_by_model": _by_model(prompts, heard.ratings),
        "unparsed": len(heard.unread),
        "asked_twice": heard.asked_twice,
        "replayed": config.teacher.kind == "replay",
        "bill": bill,
        **({"served": served} if served else {}),
    }


@dataclass
class Heard:
    """What came of the requests.

    Attributes:
        ratings: of each answer that got one.
        shown: where each of them stood, from 0, when several were rated together.
        by: the model that rated each of them, as its server calls it.
        unread: requests whose reply could not be read even the second time: the reply, and what is wrong with it.
        refused: requests that cannot be put to the teacher, and why.
        lost: requests that may have been paid for, and whose answer is lost.
        asked_twice: how many replies could not be read the first time.
        tokens: sent and received.
        left: requests of which nothing is known yet.
    """

    ratings: dict[Place, Rating] = field(default_factory=dict)
    shown: dict[Place, int] = field(default_factory=dict)
    by: dict[Place, str] = field(default_factory=dict)
    unread: dict[Question, tuple[str, str]] = field(default_factory=dict)
    refused: dict[Question, str] = field(default_factory=dict)
    lost: dict[Question, str] = field(default_factory=dict)
    asked_twice: int = 0
    tokens: int = 0
    left: int = 0


def _hear(teachers: ask.Teachers, asked: Sequence[Question], heard: Heard, progress: Bar) -> None:
    """Ask everything, and once more what could not be read."""
    again = []
    for question, reply in _replies(teachers, asked, heard):
        if problem := _take(question, reply, heard):
            again.append((question, reply.text, problem))
        else:
            heard.left -= 1
            progress.advance(text=teachers.status(heard.left))
    heard.asked_twice += len(again)
    before = {question: (text, problem) for question, text, problem in again}
    second = [replace(question, request=rubric.ask_again(question.request, text, problem)) for question, text, problem in again]
    first_of = dict(zip(second, before, strict=True))
    for question, reply in _replies(teachers, second, heard):
        if reply.is_refused:  # what it said the first time cannot be quoted to it
            heard.unread[question] = before[first_of[question]]
        elif problem := _take(question, reply, heard):
            heard.unread[question] = reply.text, problem
        heard.left -= 1
        progress.advance(text=teachers.status(heard.left))


def _replies(teachers: ask.Teachers, asked: Sequence[Question], heard: Heard) -> Iterable[tuple[Question, Reply]]:
    waiting = {question.request: question for question in asked}
    for _, reply in teachers.replies({TEACHER: list(waiting)}):
        heard.tokens += reply.tokens
        yield waiting.pop(reply.request), reply
    if waiting:
        raise DataError(f"the teacher left {len(waiting)} of {len(asked)} requests without a reply")


def _take(question: Question, reply: Reply, heard: Heard) -> str:
    """Take a reply in; returns what is wrong with it where it cannot be read."""
    if reply.is_refused:
        heard.refused[question] = reply.problem
    elif reply.is_lost:
        heard.lost[question] = reply.problem
    else:
        try:
            ratings = _parse(question, reply.text)
        except DataError as error:
            return f"{error}" + (" (it was cut off at max_new_tokens)" if reply.finish_reason == "length" else "")
        heard.ratings.update(zip(question.places, ratings, strict=True))
        heard.by.update(dict.fromkeys(question.places, reply.served))
        if question.request.subject == "":
            heard.shown.update({place: i for i, place in enumerate(question.places)})
    return ""


def _parse(question: Question, text: str) -> list[Rating]:
    together = question.request.subject == ""  # an empty answer is never asked about
    return rubric.parse_together(text, len(question.places)) if together else [rubric.parse_reply(text)]


def _refuse_unread(heard: Heard, limit: float, asked: int, *, last: bool) -> None:
    """Stop where more replies cannot be read than is allowed; before the last, only where chance does not explain it.

    Raises:
        DataError: how many, and the first.
    """
    chance = 0.0 if last else 3 * (asked * limit * (1 - limit)) ** 0.5
    if len(heard.unread) > limit * asked + chance:
        text, problem = next(iter(heard.unread.values()))
        raise DataError(
            f"{len(heard.unread)} of {'' if last else 'the first '}{asked} ratings could not be read (the first: {problem}; twice, it "
            f"begins {text[:60]!r}), more than rate.max_unparsed ({limit:.0%}) allows; use a stronger teacher, or raise the limit"
        )


def _count(heard: Heard, prompts: Mapping[str, RatedPrompt], out: Draft) -> None:
    """Set aside the answers that got no rating."""
    for prompt in prompts.values():
        for i, c in enumerate(prompt.completions):
            if not c.response.strip():
                out.drop("the answer is empty", _place((prompt.prompt_id, i)), c.row())
    for question, (text, problem) in heard.unread.items():
        for place in question.places:
            out.drop("the teacher's reply could not be read", _place(place), {"reply": text, "error": problem})
    for reason, found in (
        ("the request could not be put to the teacher", heard.refused),
        ("the rating may have been paid for, and is lost", heard.lost),
    ):
        for question, problem in found.items():
            for pid, i in question.places:
                row = {"prompt": prompts[pid].prompt, **prompts[pid].completions[i].row(), "error": problem}
                out.drop(reason, _place((pid, i)), row)


def _place(place: Place) -> str:
    return f"prompt {place[0][:16]}, answer {place[1]}"


def _rated(prompt: RatedPrompt, heard: Heard) -> RatedPrompt:
    done = tuple(
        replace(c, rating=heard.ratings[place], position=heard.shown.get(place), rated_by=heard.by[place])
        for i, c in enumerate(prompt.completions)
        if (place := (prompt.prompt_id, i)) in heard.ratings
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
