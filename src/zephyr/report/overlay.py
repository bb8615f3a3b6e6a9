"""The curves of several runs in one picture: a colour a run, in the order in which they were named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zephyr.records import Row
from zephyr.report.numbers import finite
from zephyr.report.plots import Chart, Curve, points, thinned

# stage, key in its log, title, unit; a change is set against the first value
_CURVES = (
    ("sft", "loss", "dSFT loss", "nats per learnt token", False),
    ("dpo", "loss", "dDPO loss", "of the objective", False),
    ("dpo", "accuracy", "Reward accuracy", "share of pairs with the chosen answer ahead", False),
    ("dpo", "margin", "Reward margin", "reward of chosen minus rejected", False),
    ("dpo", "chosen_logp", "Chosen answers", "change of log-probability since the start, nats", True),
    ("dpo", "rejected_logp", "Rejected answers", "change of log-probability since the start, nats", True),
)


def overlaid(logs: Mapping[str, Mapping[str, Sequence[Row]]]) -> list[Chart]:
    """One picture a measure of which two runs or more have a curve.

    Args:
        logs: by run and stage; a stage that two runs share is drawn for the first of them alone by whoever leaves the other's out.
    """
    charts = []
    for stage, key, title, unit, change in _CURVES:
        kinds = [kind for kind in ("test", "train") if sum(bool(points(log.get(stage, ()), kind, key)) for log in logs.values()) > 1]
        kind = kinds[0] if kinds and not (change and kinds[0] == "train") else None  # a batch's change is its rows', not the model's
        if kind is not None:
            curves = [
                c for i, (name, log) in enumerate(logs.items(), 1) if (c := _curve(log.get(stage, ()), kind, key, name, i, change=change))
            ]
            charts.append(Chart(f"{stage}-{key}", title, f"{unit}, {kind} rows", tuple(curves), guide=(0.0, "") if change else None))
    return charts


def _curve(log: Sequence[Row], kind: str, key: str, name: str, number: int, *, change: bool) -> Curve | None:
    found = points(log, kind, key)
    if not found:
        return None
    if change:
        start = finite(found[0][1]) or 0.0
        found = [(x, y - start) for x, y in found]
    thin, size = thinned(found) if kind == "train" else (tuple(found), 1)
    return Curve(name, kind, f"run{number}", thin, size)
