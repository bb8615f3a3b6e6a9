"""MT-Bench's files, in FastChat's schemas: questions, answers, references, judgments of one answer and of two.

| file                              | a row                                                                                        |
|-----------------------------------|----------------------------------------------------------------------------------------------|
| question.jsonl                    | question_id, category, turns[2], reference[2]?                                               |
| model_answer/MODEL.jsonl          | question_id, answer_id, model_id, choices: [{index, turns[2]}], tstamp                       |
| reference_answer/JUDGE.jsonl      | the same                                                                                     |
| model_judgment/JUDGE_single.jsonl | question_id, model, judge: [name, prompt], user_prompt, judgment, score, turn, tstamp        |
| model_judgment/JUDGE_pair.jsonl   | question_id, model_1, model_2, judge, turn, tstamp; of both games g1_ and g2_: winner,       |
|                                   | user_prompt, judgment                                                                        |

Ours is `served` in a judgment (g1_served, g2_served): the model that judged as its server calls it, where the server says.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zephyr.errors import DataError
from zephyr.evals import plain_files
from zephyr.evals.counts import agree
from zephyr.evals.mt_bench.records import WINNERS, Answer, Id, Judgment, PairJudgment, Question
from zephyr.records import Row


def read_questions(path: Path) -> dict[Id, Question]:
    """Questions by their ids.

    Raises:
        DataError: a row that does not fit, or an id that is there twice.
    """
    found: dict[Id, Question] = {}
    for where, row in plain_files.rows(path):
        key = _id(where, row)
        if key in found:
            raise DataError(f"{where}: question {key} is there twice")
        found[key] = Question(key, plain_files.text(where, row, "category"), plain_files.texts(where, row.get("turns"), "`turns`"))
    if not found:
        raise DataError(f"{path}: no questions in it")
    return found


def read_answers(path: Path, *, model: str | None = None, questions: dict[Id, Question] | None = None) -> dict[str, dict[Id, Answer]]:
    """Answers by model and question; read by one who wants the answers of `model`, all others are refused.

    Raises:
        DataError: a row that does not fit, an answer that is there twice, one of another model, one to no question of `questions`.
    """
    found: dict[str, dict[Id, Answer]] = {}
    for where, row in plain_files.rows(path):
        answer = _answer(where, row)
        if model is not None and answer.model_id != model:
            raise DataError(f"{where}: an answer of {answer.model_id}, answers of {model} were expected")
        if questions is not None and answer.question_id not in questions:
            raise DataError(f"{where}: an answer to question {answer.question_id}, which is none of the questions")
        mine = found.setdefault(answer.model_id, {})
        if answer.question_id in mine:
            raise DataError(
                f"{where}: a second answer of {answer.model_id} to question {answer.question_id}; give each run a name of its own"
            )
        mine[answer.question_id] = answer
    if not found:
        raise DataError(f"{path}: no answers in it")
    return found


def missing_answers(answers: dict[Id, Answer], questions: dict[Id, Question]) -> list[str]:
    """What a model's answers lack, in words: questions without an answer, turns without one, answers that are empty."""
    said = []
    missing = [key for key in questions if key not in answers]
    if missing:
        said.append(
            f"{len(missing)} of {len(questions)} questions {agree(len(missing), 'has', 'have')} no answer, the first is {missing[0]}"
        )
    short = [key for key, q in questions.items() if key in answers and len(answers[key].turns) < len(q.turns)]
    if short:
        fewer = agree(len(short), "answer has fewer turns than its question", "answers have fewer turns than their question")
        said.append(f"{len(short)} {fewer}, the first is that to {short[0]}")
    empty = [key for key in questions if key in answers and not all(turn.strip() for turn in answers[key].turns)]
    if empty:
        said.append(f"{len(empty)} {agree(len(empty), 'answer is', 'answers are')} empty in a turn, the first is that to {empty[0]}")
    return said


def write(path: Path, values: Iterable[Answer | Judgment | PairJudgment]) -> None:
    """Answers or judgments as FastChat reads them."""
    plain_files.write_lines(path, (value.row() for value in values))


def read_judgments(path: Path) -> list[Judgment] | list[PairJudgment]:
    """The judgments of a file, all of single answers or all of pairs.

    Raises:
        DataError: a row that does not fit, or both kinds in one file.
    """
    singles: list[Judgment] = []
    pairs: list[PairJudgment] = []
    for where, row in plain_files.rows(path):
        if "model_1" in row:
            pairs.append(_pair(where, row))
        else:
            singles.append(_single(where, row))
        if singles and pairs:
            raise DataError(f"{where}: judgments of pairs and of single answers in one file; score them apart")
    if not singles and not pairs:
        raise DataError(f"{path}: no judgments in it")
    return singles or pairs


def _single(where: str, row: Row) -> Judgment:
    judgment, score = _text_or_none(where, row, "judgment"), row.get("score")
    if score is not None and not plain_files.is_number(score):
        raise DataError(f"{where}: `score` must be a number (-1 where there is no verdict), found {score!r}")
    if judgment is None and score is None:
        raise DataError(f"{where}: neither a `judgment` nor a `score`")
    return Judgment(
        where,
        _id(where, row),
        _model(where, row, "model"),
        _turn(where, row),
        _judge(where, row),
        _text_or_none(where, row, "user_prompt"),
        judgment,
        score,
        _tstamp(row),
        _text_or_none(where, row, "served") or "",
    )


def _pair(where: str, row: Row) -> PairJudgment:
    def both(key: str) -> tuple[str | None, str | None]:
        return _text_or_none(where, row, f"g1_{key}"), _text_or_none(where, row, f"g2_{key}")

    first, second = both("winner")
    for key, winner in (("g1_winner", first), ("g2_winner", second)):
        if winner not in WINNERS:
            raise DataError(f"{where}: `{key}` must be one of {', '.join(WINNERS)}, found {winner!r}")
    models = _model(where, row, "model_1"), _model(where, row, "model_2")
    if models[0] == models[1]:
        raise DataError(f"{where}: {models[0]} is compared with itself")
    assert first is not None and second is not None
    judge, prompts, judgments, served = _judge(where, row), both("user_prompt"), both("judgment"), both("served")
    return PairJudgment(
        where, _id(where, row), *models, _turn(where, row), judge, (first, second), prompts, judgments, _tstamp(row),
        (served[0] or "", served[1] or ""),
    )  # fmt: skip


def _answer(where: str, row: Row) -> Answer:
    turns: Any = row.get("turns")  # short form: without the list of choices
    if "choices" in row:
        choices = row["choices"]
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise DataError(f"{where}: `choices` must be a list of objects with `turns`")
        turns = choices[0].get("turns")
    model = _model(where, row, "model_id")
    return Answer(_id(where, row), model, plain_files.texts(where, turns, "`turns`"), str(row.get("answer_id") or ""), _tstamp(row))


def _id(where: str, row: Row) -> Id:
    value = row.get("question_id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where}: `question_id` must be a number or a text, found {type(value).__name__}")
    return value


def _model(where: str, row: Row, key: str) -> str:
    name = plain_files.text(where, row, key)
    if not name.strip():
        raise DataError(f"{where}: `{key}` is empty; it must name the model")
    return name


def _turn(where: str, row: Row) -> int:
    value = row.get("turn", 1 if "model_1" in row else None)  # pairs whose answers were scored apart carry none
    if isinstance(value, bool) or value not in (1, 2):
        raise DataError(f"{where}: `turn` must be 1 or 2, found {value!r}")
    return int(value)


def _judge(where: str, row: Row) -> tuple[str, str]:
    value = row.get("judge")
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return value[0], value[1]
    if value is None or isinstance(value, str):
        return value or "", ""
    raise DataError(f"{where}: `judge` must be [name, prompt], found {value!r}")


def _tstamp(row: Row) -> float:
    value = row.get("tstamp")
    return float(value) if isinstance(value, int | float) and plain_files.is_number(value) else 0.0


def _text_or_none(where: str, row: Row, key: str) -> str | None:
    return None if row.get(key) is None else plain_files.text(where, row, key)
