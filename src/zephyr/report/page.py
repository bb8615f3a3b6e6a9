"""`report.html`: one page, complete in itself. It loads nothing and runs nothing; its own policy forbids both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from zephyr.artifacts import Artifact
from zephyr.report import accounts, flow, making, plots, scores, signs, tables, trust
from zephyr.report.chains import view as chain_view
from zephyr.report.facts import LABELS, Run, accuracy_sentence, dig, nll_sentence
from zephyr.report.numbers import MISSING, count, duration, finite, fixed, interval, percent, short
from zephyr.report.table import Table

OPEN_SAMPLES = 3  # side-by-side samples that are unfolded when the page opens
MOVED = ("margin", "logps", "rewards")  # the charts that show how far answers were moved
Drawn = tuple[plots.Chart, Markup]


@dataclass(frozen=True)
class Headline:
    """One of the numbers at the top: what it is, the number, what has to be known with it."""

    label: str
    value: str
    before: str = ""
    detail: str = ""
    colour: str = "ink"


@dataclass(frozen=True)
class Sample:
    """A prompt and what each model answers; None where a model gave no answer."""

    prompt: str
    category: str
    answers: tuple[tuple[str, str, str | None], ...]


def render(
    recipe_name: str,
    title: str,
    artifacts: Mapping[str, Artifact],
    *,
    order: Sequence[str],
    differences: Sequence[Mapping[str, Any]] = (),
    chains: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page about a run, from whichever of its artifacts there are.

    Args:
        recipe_name: what the recipe is called.
        title: the heading.
        artifacts: by stage name; any may be absent.
        order: every stage of the path in the order in which it runs, those that are absent too.
        differences: between the models, as `evals.side_by_side.between_models` has them.
        chains: prompts that are followed to the words of a teacher, as `trace.chain` has them.

    Returns:
        HTML without scripts or references to other files: the same input gives the same text.
    """
    run = Run({stage: artifacts[stage] for stage in order if stage in artifacts})
    shown, moved_charts = _charts(run)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            recipe=recipe_name,
            title=title,
            summary=summary(run),
            headlines=_headlines(run, order),
            verdicts=[s for s in (nll_sentence(run), accuracy_sentence(run)) if s],
            replayed=run.replayed,
            tuned=run.instruction_tuned,
            flow=flow.flow(run, [stage for stage in order if stage in flow.MAKES]),
            results=_there(scores.nll(run), scores.reward_accuracy(run)),
            small_results=_there(scores.reward_margin(run), scores.lengths(run)),
            benchmarks=_there(tables.judged(run), tables.preferences(run), tables.benchmarks(run)),
            training=making.training(run),
            charts=shown,
            moved_charts=moved_charts,
            **_signs(run),
            **_trust(run),
            differences=scores.differences(differences),
            chains=[{**chain_view(chain), "anchor": f"chain-{i}"} for i, chain in enumerate(chains, 1)],
            samples=_samples(run),
            open_samples=OPEN_SAMPLES,
            feedback=_there(making.ratings(run), making.feedback(run)),
            asked=accounts.teachers(run),
            undrawn=[stage for stage in run.artifacts if stage not in flow.MAKES],
            dropped=accounts.dropped(run, order),
            nothing_dropped=bool(run.artifacts),
            cost=accounts.cost(run, order),
            cost_title="Time, tokens and money" if any(accounts.bill(run, stage)[0] for stage in order) else "Time and tokens",
            limits=run.limits(),
            settings=[(stage, _yaml(a.manifest.config)) for stage, a in run.artifacts.items()],
            lineage=making.lineage(run, order),
            environments=[
                (stage, ", ".join(f"{k} {v}" for k, v in sorted(a.manifest.environment.items()))) for stage, a in run.artifacts.items()
            ],
            version=", ".join(sorted({a.manifest.zephyr for a in run.artifacts.values() if a.manifest.zephyr})) or "of unknown version",
            missing=MISSING,
        )
    )


def environment() -> jinja2.Environment:
    """The templates of the report; everything that is set in is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("zephyr", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _signs(run: Run) -> dict[str, Any]:
    dpo = run.artifacts.get("dpo")
    found = signs.moved(dpo.log(), run.setting("dpo", "dpo", "beta"), run.objective) if dpo else None
    return {
        "moved": signs.displacement_words(found),
        "displacement": signs.displacement(run),
        "sharp": signs.sharpness_words(run),
        "sharpness": signs.sharpness(run),
    }


def _trust(run: Run) -> dict[str, Any]:
    words = trust.contamination_words(run)
    return {"contamination": trust.contamination(run), "contamination_words": words, "judges": trust.hygiene(run)}


def _there(*found: Table | None) -> list[Table]:
    return [table for table in found if table is not None]


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100).strip()


def summary(run: Run) -> str:
    """What the run did, in one sentence, as far as the manifests tell."""
    base = run.base_name or "A model"
    steps = []
    if "sft" in run.artifacts:
        n = run.dialogues
        steps.append(f"fine-tuned on {count(n)} dialogues (dSFT)" if n else "fine-tuned on dialogues (dSFT)")
    if "dpo" in run.artifacts:
        n = run.pairs
        steps.append(f"aligned with {count(n)} preference pairs (dDPO)" if n else "aligned with preference pairs (dDPO)")
    if "evaluate" in run.artifacts:
        unseen = run.result("evaluate", "unseen") is True
        steps.append("measured on prompts that are in no train split" if unseen else "measured on test rows" if steps else "measured")
    if not steps:
        return "No model was trained or measured in this run: it prepared data." if run.artifacts else "This run has no results yet."
    return f"{base}, {', then '.join(steps)}."


def _headlines(run: Run, order: Sequence[str]) -> list[Headline]:
    return [_nll_headline(run), *_accuracy_headlines(run), _cost_headline(run, order)]


def _nll_headline(run: Run) -> Headline:
    found = {name: dig(run.result("evaluate", "nll"), name) for name in ("base", "dsft")}
    known = [name for name, nll in found.items() if finite(dig(nll, "nll_per_token")) is not None]
    label = "Test loss, nats per token"
    if not known:
        return Headline(label, MISSING)
    last = known[-1]
    before = fixed(dig(found["base"], "nll_per_token")) if last == "dsft" and "base" in known else ""
    route = " → ".join(LABELS[name] for name in known)
    intervals = " → ".join(interval(dig(found[name], "ci95"), fixed) for name in known)
    detail = f"{route}, {count(dig(found[last], 'dialogues'))} dialogues; 95% {intervals}"
    return Headline(label, fixed(dig(found[last], "nll_per_token")), before, detail, last)


def _accuracy_headlines(run: Run) -> list[Headline]:
    found = run.result("evaluate", "reward_accuracy") or {}
    model = "ddpo" if "ddpo" in found else "dsft" if "dsft" in found else ""
    headlines = []
    for key, label in ((model, f"Reward accuracy{', ' + LABELS[model] if model else ''}"), ("length", "Length alone, accuracy")):
        one = dig(found, key)
        value = dig(one, "accuracy")
        where = "the longer answer wins" if key == "length" else f"{count(dig(one, 'pairs'))} pairs of {count(dig(one, 'prompts'))} prompts"
        detail = f"95% {interval(dig(one, 'ci95'), percent)}; {where}" if one else ""
        headlines.append(Headline(label, percent(value), "", detail, key if key in LABELS else "muted"))
    return headlines


def _cost_headline(run: Run, order: Sequence[str]) -> Headline:
    manifests = [m for stage in order if (m := run.manifest(stage))]
    if not manifests:
        return Headline("Time", MISSING)
    tokens = short(sum(m.tokens for m in manifests))
    return Headline("Time", duration(sum(finite(m.seconds) or 0.0 for m in manifests)), "", f"{len(manifests)} stages, {tokens} tokens")


def _charts(run: Run) -> tuple[list[Drawn], list[Drawn]]:
    """The curves of training, and those of how far the answers were moved."""
    charts: list[plots.Chart] = []
    if "sft" in run.artifacts:
        charts += plots.sft_charts(run.artifacts["sft"].log())
    if "dpo" in run.artifacts:
        charts += plots.dpo_charts(run.artifacts["dpo"].log(), run.objective, run.setting("dpo", "dpo", "beta"))
    drawn = [(chart, Markup(chart.svg())) for chart in charts]  # noqa: S704 - drawn from numbers and our own labels
    return [d for d in drawn if d[0].name not in MOVED], [d for d in drawn if d[0].name in MOVED]


def _samples(run: Run) -> list[Sample]:
    if "evaluate" not in run.artifacts:
        return []
    rows = run.artifacts["evaluate"].rows("samples")
    names = [name for name in LABELS if any(row.get(name) is not None for row in rows)]
    return [Sample(row["prompt"], row.get("category") or "", tuple((n, LABELS[n], row.get(n)) for n in names)) for row in rows]
