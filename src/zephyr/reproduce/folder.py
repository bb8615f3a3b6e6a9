"""The files of a folder: data, pictures and the page, which is about all that was made in it with the settings in force.

Results of earlier commands are read again from the models that they are of. Where these are no longer what the settings in force make, the
result is marked and left off the page, which says so; its files stay.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from zephyr.durable import write_text
from zephyr.files import read_object
from zephyr.reproduce import figures, page, results, samples
from zephyr.reproduce.evidence import Evidence
from zephyr.reproduce.experiment import Experiment
from zephyr.reproduce.graph import EXPERIMENTS
from zephyr.reproduce.results import Result

PAGE = "reproduction.html"
TITLES = {"table3": "Table 3", "figure3": "Figure 3", "samples": "The samples", "tables": "Tables 1 and 2, Figure 1"}
FORMAT = 2  # of the JSON files; raised when what reads them needs more than was written before
SUPERSEDED = "made_with_other_settings"  # the mark of a result, with what is different


def finish(folder: Path, made: Mapping[str, Result], experiment: Experiment | None) -> Result:
    """Write data, pictures and the page; returns what was made, where it is, and what of the folder was left out.

    Args:
        folder: where the files are written.
        made: results of this command by experiment.
        experiment: with the settings in force; None where the command made no models.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier, not_compared = _earlier(folder, made, experiment)
    known = {name: found for name in (*EXPERIMENTS, "tables") if (found := made.get(name) or earlier.get(name))}
    for name, result in known.items():
        _write(folder, name, result)
    for drawn in figures.pictures(known).values():
        for picture in drawn:
            (folder / f"{picture.name}.png").write_bytes(picture.png)
    write_text(folder / PAGE, page.render(known, not_compared))
    files = [folder / f"{name}.{ending}" for name in made for ending in ("json", "csv")]
    files += [folder / f"{picture.name}.png" for drawn in figures.pictures(made).values() for picture in drawn]
    return {
        "out": str(folder), "page": str(folder / PAGE), "files": [str(file) for file in files], "findings": results.merged(known),
        "not_compared": not_compared, "results": dict(made),
    }  # fmt: skip


def refuse_unreadable(folder: Path) -> None:
    """Read what earlier commands left, before hours are spent on what will stand beside it.

    Raises:
        DataError: a file of results cannot be read.
    """
    for name in (*EXPERIMENTS, "tables"):
        if (path := folder / f"{name}.json").exists():
            _read(path)


def _write(folder: Path, name: str, result: Result) -> None:
    _write_json(folder, name, {**result, "format": FORMAT})
    write_text(folder / f"{name}.csv", _csv(_lines(name, result)))


def _write_json(folder: Path, name: str, result: Result) -> None:
    write_text(folder / f"{name}.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


# --- what was there --------------------------------------------------------------------------------------------


def _earlier(folder: Path, made: Mapping[str, Result], experiment: Experiment | None) -> tuple[dict[str, Result], list[str]]:
    """Results of earlier commands in the folder that hold with the settings in force, and a line for each that does not."""
    found: dict[str, Result] = {}
    left_out = []
    for name in (*EXPERIMENTS, "tables"):
        path = folder / f"{name}.json"
        if name in made or not path.exists():
            continue
        stored = _read(path)
        trained = stored.get("seeds")
        again = name != "tables" and experiment is not None and _are_seeds(trained)
        if stored.get("format") != FORMAT and SUPERSEDED not in stored and not again:  # its values are not those that are read here
            left_out.append(
                f"{TITLES[name]} ({name}.json) is left out, for another version wrote it; `zephyr reproduce {name}` writes it again."
            )
            continue
        if again and experiment is not None:
            stored = _again(name, stored, experiment)
            if SUPERSEDED in stored:  # as it was, whatever version wrote it
                _write_json(folder, name, stored)
            else:
                _write(folder, name, stored)
        if other := stored.get(SUPERSEDED):
            left_out.append(
                f"{TITLES[name]} ({name}.json) is left out, for it was made with other settings or from other rows: {'; '.join(other)}. "
                f"`zephyr reproduce {name}` with the settings of this page makes it again."
            )
        else:
            found[name] = stored
    return found, left_out


def _again(name: str, stored: Result, experiment: Experiment) -> Result:
    """A result read again from its models; or as it was, marked, where they do not count with the settings in force."""
    evidence = Evidence(experiment, stored["seeds"])
    other = [str(lack) for lack in evidence.lacks(*EXPERIMENTS[name])]
    if name == "samples" and not other and (why := experiment.why_not_own(samples.step(experiment, evidence.seeds[0])[0])):
        other = [f"samples ({why})"]
    return {**stored, SUPERSEDED: other} if other else results.of(name, experiment, evidence.seeds)


def _are_seeds(found: object) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(seed, int) and seed > 0 for seed in found)


def _read(path: Path) -> Result:
    other = "not a result of `zephyr reproduce`; remove it, or give another --out"
    return read_object(path, other=other, unreadable="remove it, its experiment writes it again")


# --- tables of numbers -----------------------------------------------------------------------------------------


def _lines(name: str, result: Result) -> Iterator[Sequence[object]]:
    """A table with a line for each number."""
    if name == "table3":
        yield ("arm", "measure", "value", "low", "high", "prompts", "items", "paper_mt_bench", "paper_alpaca_eval")
        for arm in result["arms"]:
            paper = (arm["paper"]["mt_bench"], arm["paper"]["alpaca_eval"])
            yield from (
                (arm["arm"], m, f["value"], *(f["ci95"] or ("", "")), f["prompts"], f["items"], *paper) for m, f in arm["measures"].items()
            )
        for c in result["comparisons"]:
            yield (f"{c['first']} less {c['second']}", c["measure"], c["value"], *(c["ci95"] or ("", "")), c["prompts"], c["items"], "", "")
    elif name == "figure3":
        yield ("sft_epochs", "dpo_epochs", "seed", "step", "measure", "value", "low", "high")
        for cell in result["grid"]:
            yield from ((cell["sft"], cell["dpo"], "", "", m, f["value"], *(f["ci95"] or ("", ""))) for m, f in cell["measures"].items())
        for curve in result["curves"]:
            for kind in ("train", "test"):
                yield from ((1, 3, curve["seed"], step, f"{kind} accuracy", value, "", "") for step, value in curve[kind])
    elif name == "samples":
        yield ("prompt", "turn", "model", "answer", "ended", "role_token")
        for row in result["answers"]:
            yield (row["prompt"], row["turn"], row["model"], row["text"], row["ended"], row["role_token"])
    else:
        yield ("model", "measure", "value", "low", "high", "from")
        for row in result["rows"]:
            yield from ((row["model"], m, v["value"], *(v["ci95"] or ("", "")), row["from"]) for m, v in row["scores"].items())


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
