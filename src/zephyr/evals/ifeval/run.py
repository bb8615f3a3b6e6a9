"""From files to scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr import durable, hashes
from zephyr.evals.ifeval.items import Item, read_items, read_responses
from zephyr.evals.ifeval.score import judge, summary
from zephyr.recipe import DataSource


def score(responses: str, prompts: str | None = None, *, partial: bool = False, rows: Path | None = None) -> dict[str, Any]:
    """The scores of a model's responses.

    Args:
        responses: a file of rows with `key` or `prompt`, and `response`; or lm-eval's samples.
        prompts: a file or hub name of the prompts with their instructions; None where the responses have them.
        partial: score what is there, where prompts have no response or responses belong to other prompts; both are counted.
        rows: where to write every verdict, a JSON object a line.

    Returns:
        See `summary`; and what was left out.

    Raises:
        DataError: rows that cannot be used; see `read_items` and `read_responses`.
    """
    items = None if prompts is None else read_items(DataSource(path=prompts))
    return score_items(responses, items, partial=partial, rows=rows)


def score_items(responses: str, items: Sequence[Item] | None, *, partial: bool = False, rows: Path | None = None) -> dict[str, Any]:
    """The same of prompts that are at hand."""
    answered = read_responses(DataSource(path=responses), items, partial=partial)
    verdicts = [judge(item, answered.responses[item.key]) for item in answered.items]
    if rows is not None:
        durable.write_text(rows, "".join(hashes.canonical(verdict.row()) + "\n" for verdict in verdicts))
    left_out = {"prompts without a response": answered.prompts_left_out, "responses to other prompts": answered.responses_left_out}
    return {**summary(verdicts), "left_out": left_out}
