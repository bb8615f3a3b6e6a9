"""MT-Bench: its files, the judge's prompts and verdicts, scores and win rates with what they rest on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from zephyr.errors import UsageError
from zephyr.evals.mt_bench import pairs, scores
from zephyr.evals.mt_bench.files import read_answers, read_judgments, read_questions
from zephyr.evals.mt_bench.records import Answer, Id, Judgment, PairJudgment
from zephyr.records import Row

Answers = Mapping[str, Mapping[Id, Answer]]


def score_file(
    path: Path,
    *,
    compatible: bool = False,
    judge: str | None = None,
    questions: Path | None = None,
    answers: Sequence[Path] = (),
    seed: int = 0,
) -> dict[str, Row]:
    """The scores (or, of a file of pairs, the win rates) of the models in a judgment file.

    Args:
        path: JSONL in FastChat's schema, also under gzip.
        compatible: parse and average as FastChat does, bug for bug.
        judge: take this judge's rows alone.
        questions: the questions that were to be judged; by default MT-Bench's eighty.
        answers: files of the models' answers: whether they are the ones that were judged is checked, and of pairs, whether length decides.
        seed: of the bootstrap.

    Returns:
        For each model what docs/scores.md describes; its `warnings` say what a reader has to know first.

    Raises:
        DataError: a row that cannot be used, judgments of several judges.
        UsageError: a file that is not there, a judge who judged nothing.
    """
    asked = read_questions(questions) if questions is not None else None
    given = _all_answers(answers)
    judgments = read_judgments(path)
    names = sorted({j.judge[0] for j in judgments})
    if judge is not None and judge not in names:
        raise UsageError(f"{path}: nothing in it was judged by {judge}; judges are {', '.join(names)}")
    if isinstance(judgments[0], PairJudgment):
        found = [j for j in judgments if isinstance(j, PairJudgment) and judge in (None, j.judge[0])]
        results = pairs.score(found, compatible=compatible, questions=asked)
        if given:
            lengths = {(m, key, i + 1): len(text) for m, mine in given.items() for key, a in mine.items() for i, text in enumerate(a.turns)}
            for model, result in results.items():
                mine = [j for j in found if model in (j.model_1, j.model_2)]
                result["longer_wins"] = pairs.longer_wins(mine, lengths, compatible=compatible)
        shown: list[tuple[str, Judgment | PairJudgment, str | None]] = [
            (name, j, prompt) for j in found for prompt in j.user_prompts for name in (j.model_1, j.model_2)
        ]
    else:
        singles = [j for j in judgments if isinstance(j, Judgment) and judge in (None, j.judge[0])]
        results = scores.score(singles, compatible=compatible, questions=asked, seed=seed)
        shown = [(j.model, j, j.user_prompt) for j in singles]
    for model, text in _other_answers(shown, given).items():
        results[model]["warnings"].append(text)
    return results


def _all_answers(paths: Sequence[Path]) -> dict[str, dict[Id, Answer]]:
    found: dict[str, dict[Id, Answer]] = {}
    for path in paths:
        for model, mine in read_answers(path).items():
            if model in found:
                raise UsageError(f"{path}: answers of {model} were given already")
            found[model] = mine
    return found


def _other_answers(shown: Iterable[tuple[str, Judgment | PairJudgment, str | None]], answers: Answers) -> dict[str, str]:
    """By model, what of its judgments is about answers other than those given."""
    of: dict[str, list[bool]] = defaultdict(list)
    for model, judgment, prompt in shown:
        if model not in answers or prompt is None:
            continue
        answer = answers[model].get(judgment.question_id)
        of[model].append(answer is not None and all(text in prompt for text in answer.turns[: judgment.turn]))
    return {
        model: f"{model}: {same.count(False)} of {len(same)} judgments are about other answers than those in the file of answers"
        for model, same in of.items()
        if not all(same)
    }
