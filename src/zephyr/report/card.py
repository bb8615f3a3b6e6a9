"""The model card: what the hub shows beside a model, made from the manifests alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from zephyr.artifacts import Artifact
from zephyr.recipe import READ_BY
from zephyr.report import making, scores, tables
from zephyr.report.facts import Run, accuracy_sentence, nll_sentence
from zephyr.report.numbers import count, finite, general
from zephyr.report.table import Table

# what the hub calls the models that come with a name of ours
HUB_NAMES = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}

USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or the model's name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
messages = [{"role": "user", "content": "Why is the sky blue?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=256, do_sample=True, temperature=0.7, top_p=0.95)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""


def render(recipe_name: str, artifacts: Mapping[str, Artifact]) -> str:
    """`README.md` of the last model of a run: YAML front matter that the hub reads, then text.

    Args:
        recipe_name: what the recipe is called.
        artifacts: by stage name; any may be absent. Only their manifests are read.
    """
    run = Run(artifacts)
    parts = [
        f"---\n{_front_matter(run)}---",
        f"# {_inline(recipe_name)}",
        _introduction(run),
        *_section("Use", USE if _trained(run) else ""),
        *_section("Results", _results(run)),
        *_section("Training", _training(run)),
        *_section("Limits", "\n".join(f"- {_inline(sentence)}" for sentence in run.limits())),
        _colophon(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _trained(run: Run) -> list[str]:
    return [stage for stage in ("sft", "dpo") if stage in run.artifacts]


def _front_matter(run: Run) -> str:
    known = run.known_base
    fields: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if known:
        fields["license"] = known.licence.lower()  # the hub's identifiers are SPDX's in lower case
    if base := run.base if run.base_is_on_the_hub else HUB_NAMES.get(run.base or ""):  # it refuses the path of a folder
        fields["base_model"] = base
    fields["tags"] = ["zephyr", "conversational", *_trained(run)]
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _introduction(run: Run) -> str:
    base, known = run.base_name, run.known_base
    name = f"`{base.replace('`', '')}`" if base else "a language model"
    about = f" The base is {_inline(known.about)}." if known else ""
    dialogues, pairs = run.dialogues, run.pairs
    steps = {
        "sft": f"distilled supervised fine-tuning{f' on {count(dialogues)} dialogues' if dialogues else ''} (dSFT)",
        "dpo": f"distilled direct preference optimization{f' on {count(pairs)} pairs of rated answers' if pairs else ''} (dDPO)",
    }
    done = [steps[stage] for stage in _trained(run)]
    if not done:
        return f"No model was trained in this run; it used {name}.{about}"
    paper = "[the Zephyr paper](https://arxiv.org/abs/2310.16944)"
    return f"{name} after {', then '.join(done)}: a model made with Zephyr, by the method of {paper}.{about}"


def _results(run: Run) -> str:
    if "evaluate" not in run.artifacts:
        return "Not measured: the run has no evaluation."
    sentences = " ".join(s for s in (nll_sentence(run), accuracy_sentence(run)) if s)
    found = [
        scores.nll(run),
        scores.reward_accuracy(run),
        scores.lengths(run),
        tables.judged(run),
        tables.preferences(run),
        tables.benchmarks(run),
    ]
    return (
        "\n\n".join([*([_inline(sentences)] if sentences else []), *(_table(table) for table in found if table)]) or "Nothing was measured."
    )


def _training(run: Run) -> str:
    if not _trained(run):
        return ""
    table = making.training(run)
    assert table is not None  # there is one wherever a model was trained
    seed = next((run.setting(stage, "seed") for stage in _trained(run)), None)
    lines = [_table(table)]
    for stage, label in (("sft", "dSFT"), ("dpo", "dDPO")):
        settings = run.setting(stage, stage)
        if isinstance(settings, Mapping):
            # what only another objective reads stands in manifests of before it was left out of them
            read = {key: value for key, value in settings.items() if READ_BY.get(key, run.objective) == run.objective}
            shown = [f"{key} {_setting(value)}" for key, value in read.items()]
            lines.append(f"{label}: {', '.join(shown)}.")
    return "\n\n".join([*lines, *([f"Seed {count(seed)}."] if finite(seed) is not None else [])])


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "/".join(_setting(item) for item in value)
    return general(value) if finite(value) is not None else _inline(str(value))


def _colophon(run: Run) -> str:
    trained = _trained(run)
    environment = run.artifacts[trained[-1]].manifest.environment if trained else {}
    versions = sorted({a.manifest.zephyr for a in run.artifacts.values() if a.manifest.zephyr})
    with_torch = f", torch {environment['torch']}" if environment.get("torch") else ""
    return f"*Made from the manifests of the run (zephyr {', '.join(versions) or 'of unknown version'}{with_torch}).*"


def _table(table: Table) -> str:
    """A table in Markdown, without its pictures."""
    kept = [i for i, column in enumerate(table.columns) if column.kind != "plot"]
    heads = [table.columns[i] for i in kept]
    lines = [
        f"**{table.caption}**",
        "",
        _row(column.label for column in heads),
        _row("---:" if column.kind == "number" else "---" for column in heads),
        *(_row(_inline(row[i]) for i in kept) for row in table.rows),
    ]
    return "\n".join([*lines, *(["", _inline(table.note)] if table.note else [])])


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _inline(text: str) -> str:
    """A text that stays on one line and means nothing to Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
