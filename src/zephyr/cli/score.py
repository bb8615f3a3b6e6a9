"""Scores from plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Template, app, show

score_app = typer.Typer(no_args_is_help=True, help="Scores from plain files: responses, judgments, annotations, preferences.")
app.add_typer(score_app, name="score")

Rows = Annotated[Path | None, typer.Option("--rows", help="Write what was found for each row, a JSON object a line.")]


@score_app.command(
    "ifeval",
    epilog="Examples: `zephyr score ifeval responses.jsonl --prompts input_data.jsonl` · `zephyr score ifeval samples_ifeval.jsonl --json`",
)
def ifeval(
    responses: Annotated[str, typer.Argument(help="Rows with `key` or `prompt`, and `response`; or the samples that lm-eval writes.")],
    prompts: Annotated[
        str | None, typer.Option("--prompts", help="The prompts with their instructions: a file or a hub name.", show_default=False)
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Score what is there, where prompts have no response; it is counted.")] = False,
    rows: Rows = None,
    json: Json = False,
) -> None:
    """Check instructions that a program can check (IFEval), strictly and loosely."""
    from zephyr.evals import ifeval as evaluation

    found = evaluation.score(responses, prompts, partial=partial, rows=rows)
    show(found, as_json=json, text=evaluation.describe(found))


@score_app.command(
    "preferences",
    epilog="Examples: `zephyr score preferences pairs.jsonl --model models/dpo --reference models/sft` · "
    "`zephyr score preferences llmbar.jsonl --reward-model models/reward --json`",
)
def preferences(
    data: Annotated[list[str], typer.Argument(help="Pairs, rated answers, LLMBar's or PandaLM's rows: files, artifacts or hub names.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Whose implicit reward is measured.", show_default=False)] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="The model it was trained from.", show_default=False)] = None,
    reward_model: Annotated[
        str | None, typer.Option("--reward-model", help="A sequence classifier with one output.", show_default=False)
    ] = None,
    beta: Annotated[float, typer.Option(min=0, help="Scales the implicit reward; its accuracy stays the same.")] = 0.1,
    chat_template: Template = "tokenizer",
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of prompt and answer; longer pairs are left out and counted.")] = 2048,
    score_by: Annotated[str, typer.Option("--score", help="Which score orders rated answers: `overall` or `mean`.")] = "overall",
    limit: Annotated[int | None, typer.Option(min=1, help="So many rows, the first.", show_default=False)] = None,
    rows: Rows = None,
    json: Json = False,
) -> None:
    """How often a judge that needs no API finds the better answer: an implicit reward, a reward model; beside them, length."""
    from zephyr.evals import preference_scores

    found = preference_scores.score(
        data,
        model=model,
        reference=reference,
        reward_model=reward_model,
        beta=beta,
        chat_template=chat_template,
        max_length=max_length,
        score_by=score_by,
        limit=limit,
        rows=rows,
    )
    show(found, as_json=json, text=preference_scores.describe(found))
