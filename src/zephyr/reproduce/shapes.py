"""The rows of `--data`: which files it takes, and what is made of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zephyr import sources
from zephyr.errors import DataError, UsageError
from zephyr.evals.plain_files import text
from zephyr.files import SUFFIXES
from zephyr.recipe import DataSource
from zephyr.records import Dialogue, Message, Preference, Row, prompt_id_of

# what a folder holds, and what it is for; each under any of the suffixes that rows may have
FILES = {
    "text/public_domain_books": "plain text for the base: rows with `text`",
    "sft/alpaca_en_demo": "instructions and answers for dSFT: `instruction`, `input`, `output`",
    "sft/dolly_hhrlhf_train_small": "prompts in Alpaca's template and answers for dSFT: `prompt`, `response`",
    "feedback/ultrafeedback_binarized_1k": "pairs for dDPO: `prompt`, `chosen`, `rejected`, `score_chosen`, `score_rejected`",
    "feedback/alpaca_eval_feedback": "answers, each judged against a baseline: `instruction`, `output`, `gpt4_pref_vs_davinci003`",
}
_ALPACA = re.compile(r"### Instruction:\n(?P<instruction>.*?)\n\n### Response:\s*\Z", re.DOTALL)


def files_in(folder: Path) -> dict[str, Path]:
    """Where each of them is.

    Raises:
        UsageError: one is missing; it says which and what it would hold.
    """
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: no such folder; it holds {', '.join(FILES)}, each as one of {', '.join(SUFFIXES)}")
    found = {}
    for name, what in FILES.items():
        there = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
        if not there:
            raise UsageError(f"--data {folder}: {name}.jsonl.gz is missing ({what}); other endings that are read: {', '.join(SUFFIXES)}")
        found[name] = there[0]
    return found


def rows(path: str) -> Iterator[tuple[str, Row]]:
    """Every row of a file with its place."""
    for where, _, row in sources.rows(DataSource(path=path), whole=True):
        yield where, row


def dialogue(prompt: str, answer: str, source: str) -> Dialogue:
    """One exchange."""
    turns: tuple[Message, ...] = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    return Dialogue(prompt=prompt, prompt_id=prompt_id_of(prompt), messages=turns, source=source)


def pair(prompt: str, chosen: str, rejected: str, source: str, scores: tuple[float | None, float | None] = (None, None)) -> Preference:
    """A pair of answers to one turn."""
    user: Message = {"role": "user", "content": prompt}
    return Preference(
        prompt=prompt,
        prompt_id=prompt_id_of(prompt),
        chosen=(user, {"role": "assistant", "content": chosen}),
        rejected=(user, {"role": "assistant", "content": rejected}),
        score_chosen=scores[0],
        score_rejected=scores[1],
        source=source,
    )


def alpaca(where: str, row: Row) -> Dialogue | None:
    """Alpaca's row: an instruction, perhaps what it is about, and the answer; None where one is empty."""
    instruction, given, answer = text(where, row, "instruction"), row.get("input") or "", text(where, row, "output")
    if not instruction.strip() or not answer.strip():
        return None
    return dialogue(f"{instruction}\n\n{given}" if str(given).strip() else instruction, answer, "alpaca")


def dolly(where: str, row: Row) -> Dialogue | None:
    """A prompt in Alpaca's template, whose frame is taken off.

    Raises:
        DataError: it is not in that template.
    """
    prompt, answer = text(where, row, "prompt"), text(where, row, "response")
    found = _ALPACA.search(prompt)
    if found is None:
        raise DataError(f"{where}: `prompt` is not in Alpaca's template (### Instruction: … ### Response:)")
    if not found["instruction"].strip() or not answer.strip():
        return None
    return dialogue(found["instruction"].strip(), answer, "dolly")


def number(where: str, row: Mapping[str, Any], key: str) -> float:
    """A number that has to be there.

    Raises:
        DataError: it is not.
    """
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: `{key}` is missing or not a number")
    return float(value)
