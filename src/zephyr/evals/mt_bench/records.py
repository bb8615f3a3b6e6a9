"""The rows of MT-Bench's files, and what is fixed about its eighty questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zephyr.errors import DataError
from zephyr.evals.counts import agree
from zephyr.records import Row

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
# ten questions each, 81 to 90, 91 to 100, …
_CATEGORY_OF = {81 + 10 * i + j: name for i, name in enumerate(CATEGORIES) for j in range(10)}
QUESTION_IDS = tuple(_CATEGORY_OF)
# judged against a reference answer
WITH_REFERENCE = ("math", "reasoning", "coding")
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "stem": 0.1,
    "humanities": 0.1,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
}
WINNERS = ("model_1", "model_2", "tie", "error")

Id = int | str
Cell = tuple[Id, int]  # question and turn


@dataclass(frozen=True)
class Question:
    """A question with its turns, as the user says them."""

    question_id: Id
    category: str
    turns: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A model's answer to each turn of a question; of several choices in the file the first, as the original takes it."""

    question_id: Id
    model_id: str
    turns: tuple[str, ...]
    answer_id: str = ""
    tstamp: float = 0.0

    def row(self) -> Row:
        """As FastChat writes it."""
        return {
            "question_id": self.question_id,
            "answer_id": self.answer_id,
            "model_id": self.model_id,
            "choices": [{"index": 0, "turns": list(self.turns)}],
            "tstamp": self.tstamp,
        }


@dataclass(frozen=True)
class Judgment:
    """A judge's reply about one turn of one model's answer.

    Attributes:
        where: the place in the file.
        judge: the judge model's name, and the name of its prompt.
        judgment: the reply; None where the file keeps scores alone.
        score: as recorded, -1 where the original found no verdict; None where the file has none.
        served: the model that judged, as its server calls it; empty where nobody says.
    """

    where: str
    question_id: Id
    model: str
    turn: int
    judge: tuple[str, str]
    user_prompt: str | None
    judgment: str | None
    score: float | None
    tstamp: float = 0.0
    served: str = ""

    def row(self) -> Row:
        """As FastChat writes it."""
        return {
            "question_id": self.question_id,
            "model": self.model,
            "judge": list(self.judge),
            "user_prompt": self.user_prompt,
            "judgment": self.judgment,
            "score": self.score,
            "turn": self.turn,
            "tstamp": self.tstamp,
            **({"served": self.served} if self.served else {}),
        }


@dataclass(frozen=True)
class PairJudgment:
    """A judge's two replies about two models' answers: in the first game model_1 is shown first, in the second model_2.

    `served`: the model that wrote each, as its server calls it; empty where nobody says.
    """

    where: str
    question_id: Id
    model_1: str
    model_2: str
    turn: int
    judge: tuple[str, str]
    winners: tuple[str, str]
    user_prompts: tuple[str | None, str | None]
    judgments: tuple[str | None, str | None]
    tstamp: float = 0.0
    served: tuple[str, str] = ("", "")

    def row(self) -> Row:
        """As FastChat writes it."""
        return {
            "question_id": self.question_id,
            "model_1": self.model_1,
            "model_2": self.model_2,
            "g1_winner": self.winners[0],
            "g2_winner": self.winners[1],
            "judge": list(self.judge),
            "g1_user_prompt": self.user_prompts[0],
            "g1_judgment": self.judgments[0],
            "g2_user_prompt": self.user_prompts[1],
            "g2_judgment": self.judgments[1],
            "turn": self.turn,
            "tstamp": self.tstamp,
            **({"g1_served": self.served[0], "g2_served": self.served[1]} if any(self.served) else {}),
        }


def category_of(question_id: Id, questions: Mapping[Id, Question] | None = None) -> str:
    """The category, of the questions given or by MT-Bench's numbers; `unknown` for any other."""
    if questions is not None:
        return questions[question_id].category if question_id in questions else "unknown"
    return _CATEGORY_OF.get(question_id, "unknown") if isinstance(question_id, int) else "unknown"


def refuse_unknown(judgments: Sequence[Judgment | PairJudgment], questions: Mapping[Id, Question] | None) -> None:
    """Refuse a judgment of what was not asked.

    Raises:
        DataError: naming the first judgment of a question that is none of `questions`.
    """
    for judgment in judgments:
        if questions is not None and judgment.question_id not in questions:
            raise DataError(f"{judgment.where}: question {judgment.question_id} is none of the questions")


def strangers(judgments: Sequence[Judgment | PairJudgment]) -> str | None:
    """Which questions are none of MT-Bench's eighty, in words, where nobody says what was asked; None where all are."""
    first = {j.question_id: j.where for j in reversed(judgments)}
    other = [key for key in dict.fromkeys(j.question_id for j in judgments) if key not in QUESTION_IDS]
    if not other:
        return None
    none = agree(len(other), "is none", "are none")
    return (
        f"{len(other)} of {len(first)} question ids {none} of MT-Bench's eighty, the first is {other[0]!r} ({first[other[0]]}); what is "
        "missing is looked for among the questions judged alone: name those that were asked with --questions"
    )


def wanted_cells(judgments: Sequence[Judgment | PairJudgment], questions: Mapping[Id, Question] | None) -> list[Cell]:
    """What every model should have been judged on: of `questions`, or of MT-Bench's eighty if no other id appears, or else what any was."""
    if questions is not None:
        return [(q.question_id, turn + 1) for q in questions.values() for turn in range(len(q.turns))]
    if {j.question_id for j in judgments} <= set(QUESTION_IDS):
        return [(key, turn) for key in QUESTION_IDS for turn in (1, 2)]
    return list(dict.fromkeys((j.question_id, j.turn) for j in judgments))
