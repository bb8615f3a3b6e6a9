"""What a judge's reply says: our strict reading, and the original's, bug for bug.

Strict: the reply's last line that is not blank holds exactly one verdict in double brackets, which either ends the line (but for
punctuation) or is announced at the beginning of the line or of a sentence (`Final verdict: [[C]] for a tie.`). So nothing that the judge
quotes on its way, out of the answer or out of its instruction, can be taken for the verdict, and a number outside the scale is none.

The original (FastChat, `run_judge_single` and `run_judge_pair`):

1. takes the first `[[n]]` anywhere in the reply: one quoted from the answer beats the verdict at the end;
2. else the first `[n]` anywhere: a list index in quoted code, `a[0]`, gives 0;
3. knows no scale: `[[85]]` is 85, and weighs as much as nine verdicts;
4. `[[8/10]]` is no number to it: -1, which the average later leaves out without a word; so is `[[-3]]`;
5. of a pair it asks whether `[[A]]` is anywhere in the reply, then `[[B]]`, then `[[C]]`: a reply that names both is won by A;
6. a number that Python does not take for one (`[[08]]`) ends the whole run there; here it is -1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LOWEST, HIGHEST = 1.0, 10.0
MIDDLE = (LOWEST + HIGHEST) / 2
TIE_DELTA = 0.1

_BRACKETS = re.compile(r"\[\[([^\[\]]{0,40})\]\]")
_NUMBER = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?")
_TAIL = re.compile(r"[\s\"'`.*_)”’]*")  # what may stand behind a verdict: ends of quotes, sentences and emphasis
# what announces one that words follow; one that is only spoken of stands in the middle of a sentence
_ANNOUNCED = re.compile(
    r"(?:^|[.!?]\s)\W*(?:(?:the|my|therefore,? the) )?(?:final |overall )?(?:verdict|rating|score)(?: is)?\W{0,6}$", re.IGNORECASE
)

_ONE = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_ONE_BACKUP = re.compile(r"\[(\d+\.?\d*)\]")
_TWO = re.compile(r"\[\[(\d+\.?\d*),\s?(\d+\.?\d*)\]\]")
_TWO_BACKUP = re.compile(r"\[(\d+\.?\d*),\s?(\d+\.?\d*)\]")


@dataclass(frozen=True)
class Verdict:
    """A score from 1 to 10, or the winner (`A`, `B`, `tie`); None and the reason where there is none."""

    value: float | str | None
    problem: str = ""

    @property
    def score(self) -> float | None:
        """The score, if it is one."""
        return self.value if isinstance(self.value, float) else None


def single(reply: str) -> Verdict:
    """The score a reply gives one answer, by the strict reading."""
    said, problem = _verdict(reply)
    if problem:
        return Verdict(None, problem)
    if not _NUMBER.fullmatch(said):
        return Verdict(None, "not a number")
    value = float(said)
    return Verdict(value) if LOWEST <= value <= HIGHEST else Verdict(None, "out of range")


def pair(reply: str, output_format: str = "[[A]]") -> Verdict:
    """The winner a reply names, by the strict reading: `A`, `B` or `tie`.

    Args:
        reply: what the judge said.
        output_format: of the template: `[[A]]`, or `[[rating_a,rating_b]]` where it gives each a score.
    """
    said, problem = _verdict(reply)
    if problem:
        return Verdict(None, problem)
    if output_format == "[[A]]":
        winner = {"A": "A", "B": "B", "C": "tie"}.get(said)
        return Verdict(winner) if winner else Verdict(None, "none of A, B and C")
    scores = [part.strip() for part in said.split(",")]
    if len(scores) != 2 or not all(_NUMBER.fullmatch(s) for s in scores):
        return Verdict(None, "not two numbers")
    first, second = map(float, scores)
    if min(first, second) < LOWEST or max(first, second) > HIGHEST:
        return Verdict(None, "out of range")
    return Verdict(_higher(first, second))


def single_compatible(reply: str) -> float:
    """The score as the original reads it; -1 where it finds none."""
    found = _ONE.search(reply) or _ONE_BACKUP.search(reply)
    return _literal(found[1]) if found else -1.0


def pair_compatible(reply: str, output_format: str = "[[A]]") -> str:
    """The winner as the original reads it: `A`, `B`, `tie` or `error`."""
    if output_format == "[[A]]":
        return next((winner for mark, winner in (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie")) if mark in reply), "error")
    found = _TWO.search(reply) or _TWO_BACKUP.search(reply)
    return _higher(_literal(found[1]), _literal(found[2])) if found else "error"


def winner(verdict: str, game: int) -> str:
    """Which model the verdict of a game names: in game 1 model_1 is A, in game 2 model_2."""
    names = ("model_1", "model_2") if game == 1 else ("model_2", "model_1")
    return {"A": names[0], "B": names[1]}.get(verdict, verdict)


def _verdict(reply: str) -> tuple[str, str]:
    """(what stands in the brackets, "") or ("", what is wrong)."""
    lines = [line for line in reply.splitlines() if line.strip()]
    if not lines:
        return "", "an empty reply"
    found = list(_BRACKETS.finditer(lines[-1]))
    if not found:
        return "", "no verdict in the last line"
    if len(found) > 1:
        return "", "several verdicts in the last line"
    if not (_TAIL.fullmatch(lines[-1], found[0].end()) or _ANNOUNCED.search(lines[-1], 0, found[0].start())):
        return "", "a verdict in the middle of a sentence"
    return found[0][1].strip(), ""


def _higher(first: float, second: float) -> str:
    return "tie" if abs(first - second) <= TIE_DELTA else "A" if first > second else "B"


def _literal(text: str) -> float:
    """A number as Python's grammar has it: no leading noughts before other digits, no digits of other scripts."""
    whole = text.partition(".")[0]
    if not text.isascii() or ("." not in text and len(whole) > 1 and whole.startswith("0") and whole.strip("0")):
        return -1.0
    return float(text)
