"""The pictures of the page: Tables 1 to 3, Figure 3 and Figure 1, drawn from what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from zephyr.reproduce import paper
from zephyr.reproduce.data import MAIN, OTHER
from zephyr.reproduce.evidence import MEASURES, PRIMARY
from zephyr.reproduce.pictures import Dots, Line, Picture, dots, lines, radar
from zephyr.reproduce.results import Result

MOST_POINTS = 24  # of a train curve: each point is the mean of several batches


def pictures(known: Mapping[str, Result]) -> dict[str, list[Picture]]:
    """The pictures of each experiment."""
    found: dict[str, list[Picture]] = {}
    if "table3" in known:
        found["table3"] = [_arms(known["table3"])]
    if "figure3" in known:
        found["figure3"] = [_curve(known["figure3"]), _grid(known["figure3"])]
    if "tables" in known:
        rows = {row["model"]: row["by_category"] for row in known["tables"]["rows"]}
        whole = {m: [of[c] for c in paper.CATEGORIES] for m, of in rows.items() if all(c in of for c in paper.CATEGORIES)}
        found["tables"] = [*_beside_the_paper(known["tables"]["rows"])]
        found["tables"] += [radar("figure1", "MT-Bench by category", paper.CATEGORIES, whole)] if whole else []
    return found


def _ends(found: Result) -> tuple[float, float] | None:
    return (float(found["ci95"][0]), float(found["ci95"][1])) if found["ci95"] else None


def _arms(table: Result) -> Picture:
    wanted = [name for name in (f"{MAIN}.sum", f"{MAIN}.token", f"{OTHER}.sum", "kept") if name in table["arms"][0]["measures"]]
    panels = [
        Dots(
            MEASURES[name].label.replace(", ", ",\n", 1),
            [(arm["measures"][name]["value"], _ends(arm["measures"][name])) for arm in table["arms"]],
            0.5 if MEASURES[name].needs else None,
        )
        for name in wanted
    ]
    return dots("table3", "The four arms of Table 3", [arm["arm"] for arm in table["arms"]], panels)


def _beside_the_paper(rows: Sequence[Result]) -> Iterator[Picture]:
    """Table 1 and Table 2 as far as a model was measured on them: the paper's models in grey, ours below."""
    chat, academic = {"mt_bench": "MT-Bench", "alpaca_eval": "AlpacaEval"}, dict(zip(paper.ACADEMIC, paper.ACADEMIC_LABELS, strict=True))
    for name, title, measures in (("table1", "Table 1: chat", chat), ("table2", "Table 2: academic tasks, percent", academic)):
        ours = [row for row in rows if measures.keys() & row["scores"].keys()]
        theirs = [(row, found) for row in paper.ROWS if (found := _printed(row)).keys() & measures.keys()]
        if not ours:
            continue
        panels = [
            Dots(label, [*(found.get(key) for _, found in theirs), *(_measured(row["scores"].get(key)) for row in ours)])
            for key, label in measures.items()
        ]
        named = [f"{row.model} {row.size}".strip() for row, _ in theirs] + [f"{row['model']} (yours)" for row in ours]
        yield dots(name, title, named, panels, ["base"] * len(theirs) + ["ddpo"] * len(ours))


def _printed(row: paper.Row) -> dict[str, tuple[float, tuple[float, float] | None]]:
    """The paper's numbers of a model; AlpacaEval with the 95% that its standard error gives."""
    found: dict[str, tuple[float, tuple[float, float] | None]] = {}
    if row.mt_bench is not None:
        found["mt_bench"] = row.mt_bench, None
    if row.alpaca_eval:
        won, error = row.alpaca_eval
        found["alpaca_eval"] = won, (won - 1.96 * error, won + 1.96 * error)
    if row.academic:
        found |= {key: (value, None) for key, value in zip(paper.ACADEMIC, row.academic, strict=True)}
    return found


def _measured(score: Result | None) -> tuple[float, tuple[float, float] | None] | None:
    return (float(score["value"]), _ends(score)) if score and math.isfinite(score["value"]) else None


def _curve(figure: Result) -> Picture:
    found = []
    for kind, colour in (("train", "dsft"), ("test", "rejected")):
        every = [_thinned(curve[kind], MOST_POINTS if kind == "train" else len(curve[kind])) for curve in figure["curves"]]
        several = len(every) > 1
        found += [Line(f"{kind}, one seed", colour, points, thin=True) for points in every] if several else []
        mean = [(fmean(p[0] for p in at), fmean(p[1] for p in at)) for at in zip(*every, strict=True)]
        found.append(Line(f"{kind}{' (mean of seeds)' if several else ''}", colour, mean))
    return lines("figure3-curve", "Reward accuracy over three epochs of dDPO", "update", "reward accuracy", found, mark=0.5)


def _thinned(points: Sequence[Sequence[float]], most: int) -> list[tuple[float, float]]:
    size = max(1, -(-len(points) // most))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(fmean(p[0] for p in g), fmean(p[1] for p in g)) for g in groups]


def _grid(figure: Result) -> Picture:
    found = []
    for colour, sft in zip(("dsft", "ddpo", "rejected"), sorted({cell["sft"] for cell in figure["grid"]}), strict=True):
        cells = [cell for cell in figure["grid"] if cell["sft"] == sft]
        values = [cell["measures"][PRIMARY] for cell in cells]
        points = [(cell["dpo"], value["value"]) for cell, value in zip(cells, values, strict=True)]
        found.append(Line(f"{sft} dSFT epoch{'s' if sft > 1 else ''}", colour, points, [_ends(v) for v in values]))
    return lines("figure3-grid", "Score by epochs of dSFT and dDPO", "epochs of dDPO", MEASURES[PRIMARY].label, found)
