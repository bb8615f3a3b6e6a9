"""Scores of MT-Bench and AlpacaEval from the originals' own files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, show
from zephyr.cli.score import score_app

Compatible = Annotated[bool, typer.Option("--compatible", help="Parse and average as the original does, bug for bug (docs/parity.md).")]
BootstrapSeed = Annotated[int, typer.Option("--seed", help="Of the bootstrap.")]


@score_app.command(
    "mt-bench",
    epilog="Examples: `zephyr score mt-bench model_judgment/gpt-4_single.jsonl` · "
    "`zephyr score mt-bench gpt-4_pair.jsonl.gz --answers model_answer/a.jsonl --answers model_answer/b.jsonl --json`",
)
def mt_bench(
    judgments: Annotated[Path, typer.Argument(help="Judgments in FastChat's schema, of single answers or of pairs; `.gz` too.")],
    compatible: Compatible = False,
    judge: Annotated[str | None, typer.Option("--judge", help="The rows of this judge alone.", show_default=False)] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="The questions that were to be judged; by default MT-Bench's 80.", show_default=False)
    ] = None,
    answers: Annotated[
        list[Path] | None, typer.Option("--answers", help="A file of the answers that were to be judged; may be given more than once.")
    ] = None,
    seed: BootstrapSeed = 0,
    json: Json = False,
) -> None:
    """MT-Bench scores, or win rates of pairs: by turn and category, with intervals, beside what the judge could not say."""
    from zephyr.evals import mt_bench as evaluation
    from zephyr.evals.mt_bench import show as words
    from zephyr.progress import say

    found = evaluation.score_file(judgments, compatible=compatible, judge=judge, questions=questions, answers=answers or [], seed=seed)
    for result in found.values():
        for warning in result["warnings"]:
            say(f"note: {warning}")
    show(found, as_json=json, text=words.describe(found))


@score_app.command(
    "alpaca-eval",
    epilog="Examples: `zephyr score alpaca-eval annotations.json --leaderboard leaderboard.csv --tables folder` · "
    "`zephyr score alpaca-eval a/annotations.json.gz --against b/annotations.json.gz --json`",
)
def alpaca_eval(
    annotations: Annotated[Path, typer.Argument(help="An annotations.json; `.gz` too.")],
    compatible: Compatible = False,
    model: Annotated[str | None, typer.Option("--model", help="Whose they are to be; others are refused.", show_default=False)] = None,
    leaderboard: Annotated[
        Path | None, typer.Option("--leaderboard", help="A leaderboard (CSV): the published row is set beside.", show_default=False)
    ] = None,
    write_leaderboard: Annotated[
        Path | None, typer.Option("--write-leaderboard", help="Write that leaderboard with this model's row.", show_default=False)
    ] = None,
    outputs: Annotated[
        Path | None, typer.Option("--outputs", help="The model's model_outputs.json, which is to be what was judged.", show_default=False)
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="A second model's annotations, for the paired difference.", show_default=False)
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            "--tables",
            help="Folder of difficulties, weights and gamed baselines for the length-controlled rate; else looked for beside the files.",
            show_default=False,
        ),
    ] = None,
    seed: BootstrapSeed = 0,
    json: Json = False,
) -> None:
    """AlpacaEval 1 and 2: the win rate, plain and length-controlled, with intervals, beside what order and length did."""
    from zephyr.evals import alpaca_eval as evaluation
    from zephyr.evals.alpaca_eval import show as words
    from zephyr.progress import say

    found = evaluation.score_file(
        annotations,
        compatible=compatible,
        model=model,
        board=leaderboard,
        write_board=write_leaderboard,
        outputs=outputs,
        against=against,
        tables=tables,
        seed=seed,
    )
    for warning in found["warnings"]:
        say(f"note: {warning}")
    show(found, as_json=json, text=words.describe(found))
