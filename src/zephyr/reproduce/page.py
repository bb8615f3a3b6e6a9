"""`reproduction.html`: one page, complete in itself, about all that was reproduced in a folder. It loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from zephyr._version import __version__
from zephyr.report.numbers import MISSING, count, duration
from zephyr.report.table import Column, Table
from zephyr.reproduce import figures, results, tabulated
from zephyr.reproduce.data import MAIN, OTHER
from zephyr.reproduce.results import Result
from zephyr.reproduce.scores import DIALOGUES

MODELS = {"sft1": "dSFT", "sft1-dpo1": "dSFT, then dDPO", "dpo1": "dDPO without dSFT"}
LIMITS = (
    "No judge was asked: nothing here is MT-Bench or AlpacaEval, unless a table says so and names its source.",
    "Preference accuracy says which of two given answers a model finds likelier than the base does, not what the model would write.",
    "Summed log-probabilities favour longer answers where training makes every token likelier, and those per token favour neither: "
    "both are shown, and what the longer answer alone would get stands beside them.",
    "The intervals hold what other prompts and other trainings on the same rows would change, not what another base would, or other rows "
    "to learn.",
    "The paper's measures favour verbose answers, too, and models distilled from the judge, as it says. Safety was not assessed.",
)


def render(known: Mapping[str, Result], not_compared: Sequence[str] = ()) -> str:
    """The page.

    Args:
        known: results by experiment: `table3`, `figure3`, `samples`, `tables`; any may be absent.
        not_compared: what else stands in the folder and is left out, a sentence each.

    Returns:
        HTML without scripts or references to other files: the same results give the same text.
    """
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader("zephyr", "reproduce"), jinja2.PackageLoader("zephyr", "report")])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["commands"] = _commands
    about = next((known[name] for name in ("table3", "figure3", "samples") if name in known), None)
    drawn = {name: [(p, Markup(p.svg)) for p in found] for name, found in figures.pictures(known).items()}  # noqa: S704 - drawn from numbers and our labels
    return environment.get_template("reproduction.html.j2").render(
        about=about,
        headline=_headline(known),
        not_compared=not_compared,
        findings=results.merged(known),
        pictures=drawn,
        table3=tabulated.of_table3(known.get("table3")),
        figure3=tabulated.of_figure3(known.get("figure3")),
        tables=tabulated.of_paper(known.get("tables")),
        to_fill=known.get("tables", {}).get("to_fill", {}),
        samples=_samples(known.get("samples")),
        limits=[*([about["base"]] if about else []), *LIMITS],
        done=_done(known),
        settings=yaml.safe_dump(about["settings"], sort_keys=False, allow_unicode=True, width=100).strip() if about else "",
        left_out=_left_out(about),
        version=__version__,
        missing=MISSING,
    )


def _commands(sentence: str) -> Markup:
    """A sentence whose commands and settings stand between backticks, as the terminal shows it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - escaped before


def _headline(known: Mapping[str, Result]) -> str:
    made = {name: found for name, found in known.items() if "seeds" in found}
    if not made:
        return "The paper's tables; no experiment is shown of this folder yet."
    about = next(iter(made.values()))
    by_seeds: dict[int, list[str]] = {}
    for name, found in made.items():
        by_seeds.setdefault(len(found["seeds"]), []).append(name)
    times = [
        f"{seeds} trainings of each model" if seeds > 1 else "one training of each model, so that the spread between trainings is not known"
        for seeds in by_seeds
    ]
    said = times if len(times) == 1 else [f"{', '.join(of)}: {words}" for words, of in zip(times, by_seeds.values(), strict=True)]
    return f"At the scale of “{about['preset']}”: {about['about']}. " + " ".join(f"{line[0].upper()}{line[1:]}." for line in said)


def _samples(found: Result | None) -> list[dict[str, Any]]:
    """Prompts in order, each with what the models say to it."""
    if found is None:
        return []
    prompts: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in found["answers"]:
        words = [] if row["ended"] else ["was cut off"]
        words += ["runs on with a role token"] if row["role_token"] else []
        label = MODELS.get(row["model"], row["model"])
        colour = "ddpo" if "dpo" in row["model"] else "dsft"
        prompts.setdefault((row["prompt"], row["turn"]), []).append({"label": label, "colour": colour, "text": row["text"], "words": words})
    return [{"prompt": prompt, "turn": turn, "answers": answers} for (prompt, turn), answers in prompts.items()]


def _done(known: Mapping[str, Result]) -> list[str]:
    """What was made, of how much, in what time."""
    lines = []
    for name, found in known.items():
        if "seconds" in found:
            machine = ", ".join(
                f"{key} {value}" for key, value in found["machine"].items() if key in ("machine", "device", "threads", "torch")
            )
            seeds = f"{len(found['seeds'])} seed{'' if len(found['seeds']) == 1 else 's'}"
            lines.append(f"{name}: {duration(found['seconds'])} of work for {seeds}, shared steps counted ({machine})")
    about = next((found for found in known.values() if "rows" in found and "preset" in found), None)
    if about:
        for part, splits in about["rows"].items():
            lines.append(f"{part}: " + ", ".join(f"{count(n)} {split}" for split, n in splits.items()))
        lines += _read_lines(next((found["read"] for found in known.values() if "read" in found), None))
        if about["parameters"]:
            lines.append(f"the model: {count(about['parameters'])} weights")
        if about["validation"]:
            lines.append("measured on validation rows, taken from the train rows: for trying settings, not for a result")
    return lines


def _read_lines(read: Result | None) -> list[str]:
    """How many of the rows were learnt and measured on, and of how many answers the end was not."""
    if read is None:
        return []
    lines = []
    named = {MAIN: "held-out pairs", OTHER: "AlpacaEval pairs", DIALOGUES: "test dialogues"}
    for verb, whole in (("learnt", read["learnt"]), ("measured on", read["measured"])):
        for name, of in whole.items():
            cut = "" if of["cut"] is None else f"; {count(of['cut'])} of their {count(2 * of['rows'])} answers lost their end"
            updates = f", in {count(of['updates'])} updates" if of["updates"] else ""
            lines.append(f"{named.get(name, name)}: {verb} {count(of['rows'])} of {count(of['of'])} rows{updates}{cut}")
    return lines


def _left_out(about: Result | None) -> Table | None:
    if about is None or not about["left_out"]:
        return None
    rows = tuple((reason, count(n)) for reason, n in about["left_out"].items())
    return Table("Rows that are in neither split", (Column("Reason", "text"), Column("Rows")), rows)
