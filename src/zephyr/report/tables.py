"""The tables of the page, made from manifests. A table of which nothing was measured is None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from zephyr.report.facts import LABELS, Run, dig, rows_out
from zephyr.report.numbers import MISSING, bounds, count, duration, finite, fixed, general, interval, memory, percent
from zephyr.report.plots import loss_unit, whisker

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """A heading, and what stands under it: `text`, `number` or `plot`; on a phone, minor ones are left out."""

    label: str
    kind: str = "number"
    minor: bool = False


@dataclass(frozen=True)
class Table:
    """A caption, columns, rows of cells, perhaps a last row that sums them, and what has to be said below."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    foot: tuple[str, ...] = ()


def _text(label: str, *, minor: bool = False) -> Column:
    return Column(label, "text", minor)


def _words(value: object) -> str:
    return value if isinstance(value, str) and value else MISSING


@dataclass(frozen=True)
class _Measured:
    label: str
    colour: str
    value: Any
    ends: Any


def _whiskers(rows: Sequence[_Measured], scale: tuple[float, float] | None, mark: float | None) -> list[str]:
    """One small picture a row, all on one scale; without one given, it is what the rows span."""
    found = [(finite(row.value), bounds(row.ends)) for row in rows]
    every = [v for value, ends in found for v in (value, *(ends or ())) if v is not None]
    if not every:
        return ["" for _ in rows]
    if scale is None:
        wide = [*every, *([mark] if mark is not None else [])]
        pad = (max(wide) - min(wide)) * 0.08 or 1.0
        scale = (min(wide) - pad, max(wide) + pad)
    return [
        Markup(whisker(value, ends, scale, mark, row.colour)) if value is not None else ""  # noqa: S704 - made of numbers and our names
        for row, (value, ends) in zip(rows, found, strict=True)
    ]


def _interval_table(
    rows: Sequence[_Measured], heading: str, form: Callable[[object], str], scale: tuple[float, float] | None, mark: float | None
) -> tuple[tuple[Column, ...], list[tuple[str, ...]]]:
    pictures = _whiskers(rows, scale, mark)
    columns = (Column(heading), Column("95% interval"), Column("0 to 100%" if scale == (0.0, 1.0) else "", "plot"))
    return columns, [(form(row.value), interval(row.ends, form), plot) for row, plot in zip(rows, pictures, strict=True)]


def nll(run: Run) -> Table | None:
    """Negative log-likelihood of the test dialogues, by model."""
    found = run.result("evaluate", "nll")
    if not found:
        return None
    names = [name for name in LABELS if name in found]
    measured = [_Measured(LABELS[n], n, dig(found[n], "nll_per_token"), dig(found[n], "ci95")) for n in names]
    columns, cells = _interval_table(measured, "nats per token", fixed, None, None)
    rows = [
        (m.label, *c, count(dig(found[n], "tokens")), count(dig(found[n], "dialogues")), _chat_format(found[n]))
        for n, m, c in zip(names, measured, cells, strict=True)
    ]
    return Table(
        "Negative log-likelihood of the test dialogues",
        (_text("model"), *columns, Column("tokens"), Column("dialogues"), _text("chat format")),
        tuple(rows),
        "Lower is better; only what the assistant says counts. The base is given the chat format that suits it better, "
        "its own or the run's. The intervals are over dialogues.",
    )


def _chat_format(found: Any) -> str:
    names = {"zephyr": "Zephyr", "tokenizer": "its own", None: MISSING}
    name = dig(found, "template")
    text = str(names.get(name, name))
    if other := dig(found, "other_template"):
        other_name = dig(other, "template")
        text += f" (in {names.get(other_name, other_name)}: {fixed(dig(other, 'nll_per_token'))})"
    return text


def reward_accuracy(run: Run) -> Table | None:
    """Accuracy of the implicit reward over the ordered pairs of the test prompts' answers."""
    scorers = run.scorers()
    if not scorers:
        return None
    found = run.result("evaluate", "reward_accuracy")
    measured = [_Measured(label, "muted" if k == "length" else k, dig(found[k], "accuracy"), dig(found[k], "ci95")) for k, label in scorers]
    columns, cells = _interval_table(measured, "accuracy", percent, (0.0, 1.0), 0.5)
    rows = [
        (m.label, *c, count(dig(found[k], "pairs")), count(dig(found[k], "prompts")))
        for (k, _), m, c in zip(scorers, measured, cells, strict=True)
    ]
    return Table(
        "Accuracy of the implicit reward on the test prompts",
        (_text("scorer"), *columns, Column("pairs"), Column("prompts")),
        tuple(rows),
        "Over all pairs of a prompt's answers whose ratings differ: how often the better rated answer has the higher reward, "
        "β × the log-probability it gained from one model to the next. One half is chance. The intervals are over prompts, not pairs.",
    )


def reward_margin(run: Run) -> Table | None:
    """How far apart the reward sets better and worse answers."""
    found = run.result("evaluate", "reward_margin")
    if not found:
        return None
    names = [name for name in LABELS if name in found]
    measured = [_Measured(run.scorer(n), n, dig(found[n], "mean"), dig(found[n], "ci95")) for n in names]
    columns, cells = _interval_table(measured, "mean margin", fixed, None, 0.0)
    rows = tuple((m.label, *c) for m, c in zip(measured, cells, strict=True))
    note = "Reward of the better rated answer minus that of the other; above nought, the reward agrees with the ratings."
    return Table("Reward margin on the test prompts", (_text("reward"), *columns), rows, note)


def lengths(run: Run) -> Table | None:
    """How long the sampled answers are, and whether they come to an end."""
    found = run.result("evaluate", "lengths")
    if not found:
        return None
    rows = tuple(
        (LABELS[n], fixed(dig(found[n], "mean_tokens"), 1), percent(dig(found[n], "ended"), 0), count(dig(found[n], "answers")))
        for n in LABELS
        if n in found
    )
    limit = run.setting("evaluate", "evaluate", "max_new_tokens")
    note = "The rest were cut off" + (f" at {count(limit)} tokens" if finite(limit) else "") + " before the model ended its turn."
    return Table("Length of the sampled answers", (_text("model"), Column("mean tokens"), Column("ended"), Column("answers")), rows, note)


def benchmarks(run: Run) -> Table | None:
    """Academic tasks, a column for each model."""
    found = run.result("evaluate", "benchmarks")
    if not found:
        return None
    names = [n for n in LABELS if any(n in (by_model or {}) for by_model in found.values())]
    rows = []
    for task in sorted(found):
        one: Any = next((found[task][n] for n in names if n in found[task]), {})
        scores = [_score(dig(found[task], n)) for n in names]
        shown = [_known(dig(one, key)) for key in ("num_fewshot", "n", "excluded")]
        cut = dict.fromkeys(_known(dig(found[task], n, "truncated")) for n in names)  # one number, if it is that of every model
        rows.append((task, _words(dig(one, "metric")), *shown, " / ".join(cut), *scores))
    told = (Column("shots"), Column("items"), Column("left out", minor=True), Column("cut", minor=True))
    heads = (_text("task"), _text("metric"), *told, *(Column(LABELS[n]) for n in names))
    note = (
        "± one standard error. No chat template is applied. Shots are the examples before each item; left out are items that are also "
        "among the examples; cut are prompts that lost their beginning, being longer than the model takes."
    )
    return Table("Academic tasks", heads, tuple(rows), note)


def judged(run: Run) -> Table | None:
    """Chat benchmarks, a row for each model; answers that say nothing stand among them."""
    manifest = run.manifest("judge")
    if manifest is None:
        return None
    rows = []
    for name, benchmark, key, of in (("mt_bench", "MT-Bench", "score", "1 to 10"), ("alpaca_eval", "AlpacaEval", "win_rate", "0 to 100")):
        for model, found in (manifest.results.get(name) or {}).items():
            unread = dig(found, "n_unparsed" if name == "mt_bench" else "n_null")
            n = dig(found, "n" if name == "mt_bench" else "n_total")
            value = (two(dig(found, key)), interval(dig(found, "ci95"), two))
            rows.append((benchmark, LABELS.get(model, model), *value, of, count(n), count(unread)))
    if not rows:
        return None
    heads = (
        _text("benchmark"),
        _text("model"),
        Column("score"),
        Column("95% interval"),
        _text("of", minor=True),
        Column("n"),
        Column("unread"),
    )
    note = (
        f"Judged by {manifest.results.get('judge')}. The intervals are over questions; unread are verdicts that the strict reading "
        "could not find, which are left out. `canary` is a model that gives everything the same answer, which says nothing: a judge who "
        "likes it is not to be believed."
    )
    return Table("Chat benchmarks", heads, tuple(rows), " ".join([note, *manifest.notes]))


def two(value: object) -> str:
    """With two decimals, as these benchmarks are quoted."""
    number = finite(value)
    return MISSING if number is None else f"{number:.2f}"


def _known(value: object) -> str:
    return DASH if value is None else count(value)


def _score(found: Any) -> str:
    value, error = percent(dig(found, "value")), finite(dig(found, "stderr"))
    return value if error is None or value == MISSING else f"{value} ± {100 * error:.1f}"


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
                _words(dig(r, "dtype")),
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
    heads[5] = _text("number format")
    note = f"Loss: nats per learnt token (dSFT), {loss_unit(run.objective)} (dDPO)."
    return Table("How it was trained", (_text("stage"), *heads), tuple(rows), note)


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
        (_text("model"), Column("aspects, 1–5"), Column("overall, 1–10"), Column("answers")),
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
    return Table("Answers and pairs", (_text("measure"), Column("value")), tuple(rows)) if rows else None


# what the rows of a stage are
_ROWS = {
    "curate": "dialogues",
    "sft": "dialogues",
    "complete": "prompts",
    "rate": "prompts",
    "binarize": "prompts or pairs",
    "reference": "pairs",
    "dpo": "pairs",
    "evaluate": "test rows",
}


def _counted(stage: str, reason: str) -> str:
    """What a stage counts under a reason: its rows, or single answers of them, as the reason says."""
    return "answers" if reason.startswith(("the answer", "the teacher")) else _ROWS.get(stage, "rows")


def dropped(run: Run, order: Sequence[str]) -> Table | None:
    """What was left out and why, by stage; None where nothing was. No sum: one pair may be left out by several stages."""
    rows = [
        (stage, reason, count(n), _counted(stage, reason))
        for stage in order
        if (m := run.manifest(stage))
        for reason, n in sorted(m.dropped.items(), key=lambda i: (-i[1], i[0]))
    ]
    clean = [stage for stage in order if (m := run.manifest(stage)) and not m.dropped]
    note = "Each stage counts what it leaves out itself; a row that two stages leave out is counted by both."
    if clean:
        note += f" Nothing was dropped by {', '.join(clean)}."
    heads = (_text("stage"), _text("reason"), Column("how many"), _text("of what"))
    return Table("By stage and reason", heads, tuple(rows), note) if rows else None


def cost(run: Run, order: Sequence[str]) -> Table | None:
    """Rows, time and tokens of every stage and in all."""
    manifests = [m for stage in order if (m := run.manifest(stage))]
    if not manifests:
        return None
    seconds, tokens = sum(finite(m.seconds) or 0.0 for m in manifests), sum(m.tokens for m in manifests)
    rows = tuple(
        (
            m.stage,
            count(m.rows_in) if m.rows_in else DASH,
            rows_out(m) or DASH,
            count(m.tokens) if m.tokens else DASH,
            duration(m.seconds),
            _bar((finite(m.seconds) or 0.0) / seconds if seconds > 0 else 0.0),
        )
        for m in manifests
    )
    heads = (
        _text("stage"),
        Column("rows in", minor=True),
        Column("rows out", "text", minor=True),
        Column("tokens"),
        Column("time"),
        Column("", "plot"),
    )
    note = (
        "Tokens are those that models read in training and scoring, and those that they read and wrote where they answered or judged: "
        "as teachers that run here, and for the samples. Those of the academic tasks are not counted."
    )
    if run.setting("sft", "sft", "packing") is True:
        note += " The rows out of sft are packed sequences."
    if replaying := [stage for stage in ("complete", "rate") if run.result(stage, "replayed") is True]:
        note += f" The time of {' and '.join(replaying)} is that of reading recorded texts; asking a teacher would take longer."
    return Table("Stages in the order in which they run", heads, rows, note, ("in all", "", "", count(tokens), duration(seconds), ""))


def teachers(run: Run) -> Table | None:
    """What was asked of teachers behind servers and of local ones, and what it cost, retries and lost answers included."""
    rows, doubtful = [], []
    for stage in ("complete", "rate"):
        bill = run.result(stage, "bill")
        for name, b in (bill if isinstance(bill, dict) else {}).items():
            tokens = [count(dig(b, key)) for key in ("calls", "answered", "prompt_tokens", "completion_tokens")]
            spent = finite(dig(b, "spent_usd"))
            rows.append((f"{stage}, {name}", *tokens, f"${spent:,.2f}" if spent else MISSING))
            doubtful += [
                f"{name}: {count(dig(b, key))} {words}"
                for key, words in (
                    ("possibly_paid_twice", "answers may have been paid for twice, for an earlier sending was cut off"),
                    ("usage_not_believed", "token counts could not be believed, and the most that they can be is counted"),
                )
                if dig(b, key)
            ]
    if not rows:
        return None
    columns = (_text("teacher"), Column("calls"), Column("answers"), Column("tokens sent"), Column("tokens back"), Column("spent"))
    return Table("What the teachers were asked", columns, tuple(rows), "; ".join(doubtful))


def _bar(share: float) -> str:
    shape = 'class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false"'
    return Markup(f'<svg {shape}><rect width="{100 * share:.2f}" height="8"/></svg>')  # noqa: S704 - made of a number


def lineage(run: Run, order: Sequence[str]) -> Table | None:
    """From what every artifact was made."""
    rows = [
        (stage, name, str(parent.get("path", "")) or DASH, str(parent.get("digest", ""))[:12])
        for stage in order
        if (m := run.manifest(stage))
        for name, parent in sorted(m.parents.items())
    ]
    heads = (_text("stage"), _text("input"), _text("from"), _text("digest"))
    return Table("Inputs of every stage", heads, tuple(rows)) if rows else None
