"""One stage on plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zephyr.cli.base import Against, Files, Json, Model, Out, Overrides, RecipeSeed, Seed, Template, Test, app, show
from zephyr.errors import UsageError


def one_stage(name: str, section: str, inputs: dict[str, list[str]], out: Path, json: bool, **rest: Any) -> None:
    """One stage; `key=value` among the files of its first input are settings."""
    from zephyr import api

    main = next(iter(inputs))
    settings = [text for text in inputs[main] if "=" in text and not Path(text).exists()]
    files = {**inputs, main: [text for text in inputs[main] if text not in settings]}
    result = api.stage(name, section, files, out, settings=settings, **rest)
    show(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples: `zephyr synthesize --recipe my.yaml --out data/dialogues world.count=500` · "
    "`zephyr synthesize --copy-prompts my-prompts`, then edit them, and set synthesize.prompts"
)
def synthesize(
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="The recipe whose `synthesize` section says what and by whom.")] = None,
    copy_prompts: Annotated[Path | None, typer.Option("--copy-prompts", help="Write the prompts and lists to a folder, and end.")] = None,
    seed: RecipeSeed = None,
    json: Json = False,
) -> None:
    """Have teachers write dialogues."""
    from zephyr import api

    if copy_prompts is not None:
        from zephyr.synthesis import texts

        names = texts.copy_to(copy_prompts)
        show({"folder": str(copy_prompts), "files": names}, as_json=json, text=f"wrote {len(names)} files to {copy_prompts}")
        return
    if recipe is None or out is None:
        raise UsageError("synthesize: needs --recipe and --out (or --copy-prompts FOLDER)")
    result = api.synthesize(recipe, out, settings=overrides or [], seed=seed)
    show(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples: `zephyr curate dialogues.jsonl --out data/curated test_fraction=0.05` · "
    "`zephyr curate raw/ --out data/curated --against mt_bench.jsonl invalid=drop filters=default near_prompts={} select.target=200000`"
)
def curate(
    files: Files,
    out: Out,
    test: Test = None,
    against: Against = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it with a sample of the data, and say what became of it.")] = False,
    json: Json = False,
) -> None:
    """Check dialogues, leave out what is wrong or doubled, divide into train and test."""
    one_stage("curate", "curate", {"dialogues": files}, out, json, test=test, against=against or [], dry_run=dry_run)


@app.command(epilog="Example: `zephyr sft data/curated --model path/to/model --out models/sft epochs=1 learning_rate=2e-5`")
def sft(
    files: Files, model: Model, out: Out, test: Test = None, chat_template: Template = "zephyr", seed: Seed = 0, json: Json = False
) -> None:
    """Fine-tune a model on dialogues (dSFT)."""
    one_stage("sft", "sft", {"dialogues": files}, out, json, test=test, model=model, chat_template=chat_template, seed=seed)


@app.command(epilog="Example: `zephyr complete prompts.jsonl --recipe my.yaml --out data/completions`")
def complete(
    files: Files,
    out: Out,
    recipe: Annotated[Path, typer.Option("--recipe", help="The recipe whose `complete` section names the pool.")],
    test: Test = None,
    seed: RecipeSeed = None,
    json: Json = False,
) -> None:
    """Have several models of a pool answer each prompt."""
    one_stage("complete", "complete", {"prompts": files}, out, json, test=test, recipe=recipe, seed=seed)


@app.command(epilog="Example: `zephyr rate data/completions --recipe my.yaml --out data/ratings`")
def rate(
    files: Files,
    out: Out,
    recipe: Annotated[Path, typer.Option("--recipe", help="The recipe whose `rate` section names the teacher.")],
    test: Test = None,
    seed: RecipeSeed = None,
    json: Json = False,
) -> None:
    """Have a teacher score every answer."""
    one_stage("rate", "rate", {"completions": files}, out, json, test=test, recipe=recipe, seed=seed)


@app.command(
    epilog="Examples: `zephyr binarize ratings.jsonl --out data/preferences score=overall rejected=random` · "
    "`zephyr binarize ratings.jsonl --out data/preferences --against mt_bench.jsonl`"
)
def binarize(files: Files, out: Out, test: Test = None, against: Against = None, seed: Seed = 0, json: Json = False) -> None:
    """Make pairs of rated answers, or check ready-made pairs."""
    one_stage("binarize", "binarize", {"ratings": files}, out, json, test=test, seed=seed, against=against or [])


@app.command(epilog="Example: `zephyr reference data/preferences --model models/sft --out data/references`")
def reference(files: Files, model: Model, out: Out, test: Test = None, chat_template: Template = "tokenizer", json: Json = False) -> None:
    """Compute the frozen model's log-probabilities of both answers of every pair."""
    one_stage("reference", "dpo", {"preferences": files}, out, json, test=test, model=model, chat_template=chat_template)


@app.command(epilog="Example: `zephyr dpo data/preferences --references data/references --model models/sft --out models/dpo beta=0.1`")
def dpo(
    files: Files,
    model: Model,
    out: Out,
    references: Annotated[
        str | None,
        typer.Option("--references", help="What `zephyr reference` wrote for these pairs and this model.", show_default=False),
    ] = None,
    test: Test = None,
    chat_template: Template = "tokenizer",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train a model on preferences (dDPO)."""
    inputs = {"preferences": files, **({"references": [references]} if references else {})}
    one_stage("dpo", "dpo", inputs, out, json, test=test, model=model, chat_template=chat_template, seed=seed)
