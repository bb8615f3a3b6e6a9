"""MT-Bench as a judge is asked it, each turn of an answer by itself or beside a baseline's in both orders; and the rows that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zephyr.errors import DataError, UsageError
from zephyr.evals.asks import CANARY, Ask, Heard, said
from zephyr.evals.mt_bench import files, pairs, prompts, verdicts
from zephyr.evals.mt_bench.records import WITH_REFERENCE, Answer, Id, Judgment, PairJudgment, Question
from zephyr.records import Row

Answers = Mapping[Id, Answer]


@dataclass(frozen=True, eq=False)
class Turn(Ask):
    """A turn of an answer, to be judged from 1 to 10."""

    question: Question
    turn: int
    template: str


@dataclass(frozen=True, eq=False)
class Game(Ask):
    """A turn of an answer beside the baseline's; in the first game the model's is shown first, in the second the baseline's."""

    question: Question
    turn: int
    template: str
    baseline: str
    game: int


def answers_of(path: Path, wanted: str | None, setting: str) -> tuple[str, dict[Id, Answer]]:
    """(name, answers) of one model: in a file of FastChat's, or in what the stage `answer` has made.

    Args:
        path: a file, or the folder of that artifact.
        wanted: whose; None where there is only one.
        setting: which says whose it is to be, for the error.

    Raises:
        UsageError: there are several models and none was chosen, or the one that was is not among them.
        DataError: a row that does not fit; a folder without answers.
    """
    parts = sorted((path / "data").glob("mt_bench.*.jsonl")) if path.is_dir() else [path]
    if not parts:
        raise DataError(f"{path}: no answers to MT-Bench in it (data/mt_bench.MODEL.jsonl)")
    found = {model: theirs for part in parts for model, theirs in files.read_answers(part).items()}
    if wanted is None and len(found) == 1:
        wanted = next(iter(found))
    if wanted is None or wanted not in found:
        said = "answers of several models" if wanted is None else f"no answers of {wanted}"
        raise UsageError(f"{path}: {said}; set {setting} to one of {', '.join(sorted(found))}")
    return wanted, found[wanted]


def complete(answers: Answers, questions: Mapping[Id, Question], where: object) -> Answers:
    """The answers, if there is one to every turn of every question; an empty one is one.

    Raises:
        DataError: one is missing.
    """
    if lacking := [text for text in files.missing_answers(dict(answers), dict(questions)) if "empty" not in text]:
        raise DataError(f"{where}: {lacking[0]}")
    return answers


def refuse_missing(
    references: Answers, questions: Mapping[Id, Question], templates: Mapping[str, prompts.Template], where: object, *, pairs: bool
) -> None:
    """Refuse references that lack an answer by which the judge is to judge; `where` they are.

    Raises:
        DataError: naming the first question and turn that has none.
    """
    for _, key, _, template, reference in _each(("",), questions, templates, references, pairs=pairs):
        _, shown, turns = template.kind
        if shown and (reference is None or len(reference.turns) < turns):
            lacking = "there is none" if reference is None else f"it has no turn {len(reference.turns) + 1}"
            raise DataError(f"{where}: question {key}: {template.name} needs a reference answer, and {lacking}")


def turns(
    answers: Mapping[str, Answers],
    questions: Mapping[Id, Question],
    templates: Mapping[str, prompts.Template],
    references: Answers,
    seed: int,
) -> Iterator[Turn]:
    """A question to the judge for each turn of each answer, by model.

    Raises:
        DataError: a reference is missing.
    """
    for model, key, turn, template, reference in _each(answers, questions, templates, references, pairs=False):
        question = questions[key]
        messages = prompts.messages(template, question, [answers[model][key]], reference=reference, seed=seed)
        yield Turn(f"mt-bench {key}", f"turn {turn}", model, messages, question, turn, template.name)


def games(
    answers: Mapping[str, Answers],
    baseline: tuple[str, Answers],
    questions: Mapping[Id, Question],
    templates: Mapping[str, prompts.Template],
    references: Answers,
    seed: int,
) -> Iterator[Game]:
    """Two questions to the judge for each turn of each answer: beside the baseline's, in both orders.

    Raises:
        DataError: a reference is missing.
        UsageError: a template by which the judge gives two scores and names no winner.
    """
    name, theirs = baseline
    for model, key, turn, template, reference in _each(answers, questions, templates, references, pairs=True):
        if template.output_format != "[[A]]":
            raise UsageError(f"judge prompt {template.name}: asks for {template.output_format}, not for [[A]], [[B]] or [[C]]")
        question, ours = questions[key], answers[model]
        for game, shown in ((1, [ours[key], theirs[key]]), (2, [theirs[key], ours[key]])):
            messages = prompts.messages(template, question, shown, reference=reference, seed=seed)
            subject = f"turn {turn}, beside {name}, {'first' if game == 1 else 'second'}"
            yield Game(f"mt-bench {key}", subject, model, messages, question, turn, template.name, name, game)


def _each(
    models: Iterable[str], questions: Mapping[Id, Question], templates: Mapping[str, prompts.Template], references: Answers, *, pairs: bool
) -> Iterator[tuple[str, Id, int, prompts.Template, Answer | None]]:
    """Every turn of every question, by model: with the template of its judgment and the reference that goes with it."""
    for model in models:
        for key, question in questions.items():
            reference = references.get(question.question_id) if question.category in WITH_REFERENCE else None
            for turn in range(1, len(question.turns) + 1):
                yield model, key, turn, prompts.choose(templates, pairs=pairs, category=question.category, turn=turn), reference


def baseline_name(name: str, judged: Mapping[str, Any]) -> str:
    """What a baseline is called in the tables: another run's `ddpo` is not ours."""
    return name if name not in judged else f"baseline-{name}"


# --- what came of it -------------------------------------------------------------------------------------------


def _text(reply: Heard, compatible: bool) -> str:
    return reply.text if compatible else said(reply.text, reply.finish_reason)


def judgment(ask: Turn, reply: Heard, judge: str, *, compatible: bool) -> Judgment:
    """A row of FastChat's; the score is by our strict reading, or the original's, and -1 where there is none."""
    text = _text(reply, compatible)
    score = verdicts.single_compatible(text) if compatible else verdicts.single(text).score
    return Judgment(
        where=f"mt_bench_judgments.jsonl: question {ask.question.question_id}, turn {ask.turn}",
        question_id=ask.question.question_id,
        model=ask.model,
        turn=ask.turn,
        judge=(judge, ask.template),
        user_prompt=ask.messages[-1]["content"],
        judgment=text,
        score=-1 if score is None else score,
        served=reply.served,
    )


def pair_judgments(replies: Mapping[Game, Heard], judge: str, *, compatible: bool) -> list[PairJudgment]:
    """Rows of FastChat's, one for the two games of a turn."""
    both: dict[tuple[str, Id, int], dict[int, Game]] = {}
    for ask in replies:
        both.setdefault((ask.model, ask.question.question_id, ask.turn), {})[ask.game] = ask
    found = []
    for (model, key, turn), played in both.items():
        first, second = played[1], played[2]
        heard = replies[first], replies[second]
        unread = PairJudgment(
            where=f"mt_bench_pair_judgments.jsonl: question {key}, turn {turn}",
            question_id=key,
            model_1=model,
            model_2=first.baseline,
            turn=turn,
            judge=(judge, first.template),
            winners=("error", "error"),
            user_prompts=(first.messages[-1]["content"], second.messages[-1]["content"]),
            judgments=(_text(heard[0], compatible), _text(heard[1], compatible)),
            served=(heard[0].served, heard[1].served),
        )
        game = pairs.read(unread, compatible=compatible)
        found.append(replace(unread, winners=(game.first, game.second)))
    return found


def score_pairs(
    judgments: Sequence[PairJudgment], answers: Mapping[str, Answers], questions: Mapping[Id, Question] | None, *, compatible: bool
) -> dict[str, Row]:
    """Win rates, position bias, and how often the longer answer wins, by model; the baseline's, without the canary's games, among them."""
    lengths = {(m, key, i + 1): len(text) for m, mine in answers.items() for key, a in mine.items() for i, text in enumerate(a.turns)}
    found = pairs.score(judgments, compatible=compatible, questions=questions)
    for model, result in found.items():
        mine = [j for j in judgments if model in (j.model_1, j.model_2) and (model == CANARY or CANARY not in (j.model_1, j.model_2))]
        result["longer_wins"] = pairs.longer_wins(mine, lengths, compatible=compatible)
        result["against"] = sorted({name for j in mine for name in (j.model_1, j.model_2)} - {model})
    return found
