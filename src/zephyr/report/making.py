"""The tables of how the data and the models were made. A table of which nothing is known is None."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zephyr.report.facts import Run, dig
from zephyr.report.numbers import count, finite, fixed, general, memory, percent
from zephyr.report.plots import loss_unit
from zephyr.report.table import DASH, Column, Table, text, words


def training(run: Run) -> Table | None:
    """How the two training stages ran."""
    rows = []
    for stage, label in (("sft", "dSFT"), ("dpo", "dDPO")):
        manifest = run.manifest(stage)
        if manifest is None:
            continue
        s, r = dig(manifest.config, stage), manifest.results
        rows.append(
            (
                label,
                count(dig(r, "steps")),
                *(
                    general(dig(s, key)) if finite(dig(s, key)) is not None else DASH
                    for key in ("epochs", "batch_size", "learning_rate", "beta")
                ),
                words(dig(r, "dtype")),
                count(dig(r, "tokens_per_second")),
                memory(dig(r, "peak_memory_bytes")),
                fixed(dig(r, "final_test", "loss")),
            )
        )
    if not rows:
        return None
    heads = [
        Column(h) for h in ("steps", "epochs", "batch", "learning rate", "β", "number format", "tokens/s", "peak memory", "final test loss")
    ]
    heads[5] = text("number format")
    note = f"Loss: nats per learnt token (dSFT), {loss_unit(run.objective)} (dDPO)."
    return Table("How it was trained", (text("stage"), *heads), tuple(rows), note)


def ratings(run: Run) -> Table | None:
    """What the teacher thinks of each model of the pool."""
    found = run.result("rate", "mean_by_model")
    if not found:
        return None
    names = sorted(found, key=lambda name: (-(finite(dig(found[name], "mean")) or 0.0), name))
    rows = tuple((n, fixed(dig(found[n], "mean"), 2), fixed(dig(found[n], "overall"), 2), count(dig(found[n], "n"))) for n in names)
    unparsed = finite(run.result("rate", "unparsed"))
    note = "" if unparsed is None else f"Replies of the teacher that could not be read: {count(unparsed)}."
    return Table(
        "Mean rating of each model's answers",
        (text("model"), Column("aspects, 1–5"), Column("overall, 1–10"), Column("answers")),
        rows,
        note,
    )


def feedback(run: Run) -> Table | None:
    """What answers and pairs are like."""
    rows = []
    if reasons := run.result("complete", "finish_reasons"):
        rows += [(f"answers that finished with “{reason}”", count(n)) for reason, n in sorted(reasons.items())]
    measures: list[tuple[str, str, Callable[[object], str]]] = [
        ("pairs in which the chosen answer is the longer one", "chosen_longer", percent),
        ("mean difference of the two scores", "mean_score_gap", lambda v: fixed(v, 2)),
    ]
    rows += [(label, form(value)) for label, key, form in measures if (value := run.result("binarize", key)) is not None]
    return Table("Answers and pairs", (text("measure"), Column("value")), tuple(rows)) if rows else None


def lineage(run: Run, order: Sequence[str]) -> Table | None:
    """From what every artifact was made."""
    rows = [
        (stage, name, str(parent.get("path", "")) or DASH, str(parent.get("digest", ""))[:12])
        for stage in order
        if (m := run.manifest(stage))
        for name, parent in sorted(m.parents.items())
    ]
    heads = (text("stage"), text("input"), text("from"), text("digest"))
    return Table("Inputs of every stage", heads, tuple(rows)) if rows else None
