"""Verdicts on responses, and the shares of prompts and instructions that were followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.evals.counts import agree
from zephyr.evals.ifeval.items import Item
from zephyr.evals.ifeval.language import detect
from zephyr.evals.statistics import Estimate, paired, share
from zephyr.records import Row

# the names that lm-eval gives them
PROMPT_STRICT, INSTRUCTION_STRICT = "prompt_level_strict_acc", "inst_level_strict_acc"
PROMPT_LOOSE, INSTRUCTION_LOOSE = "prompt_level_loose_acc", "inst_level_loose_acc"
_LANGUAGE = ("language:response_language", "change_case:english_capital", "change_case:english_lowercase")


@dataclass(frozen=True)
class Verdict:
    """For each instruction of a prompt, whether the response follows it as it is, and in any of its loosened forms."""

    item: Item
    response: str
    strict: tuple[bool, ...]
    loose: tuple[bool, ...]

    def row(self) -> Row:
        """The verdict as a row, for those who want to look at each."""
        return {
            "key": self.item.key,
            "prompt": self.item.prompt,
            "response": self.response,
            "instruction_id_list": [asked.id for asked in self.item.asked],
            "follow_instruction_list": list(self.strict),
            "follow_instruction_list_loose": list(self.loose),
        }


def loosened(response: str) -> tuple[str, ...]:
    """The eight forms of a response: as it is, without its first line, its last, both, and each of these without asterisks.

    What is cut off is what models like to put around an answer: `Sure, here it is:`, a closing remark, bold type (paper, section 3.2).
    """
    lines = response.split("\n")
    cut = [response, *("\n".join(kept).strip() for kept in (lines[1:], lines[:-1], lines[1:-1]))]
    return tuple(cut + [text.replace("*", "") for text in cut])


def judge(item: Item, response: str) -> Verdict:
    """What a response follows."""
    forms = loosened(response)
    strict = tuple(asked.follows(response) for asked in item.asked)
    loose = tuple(is_strict or any(map(asked.follows, forms)) for asked, is_strict in zip(item.asked, strict, strict=True))
    return Verdict(item, response, strict, loose)


def summary(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Shares from 0 to 1 with 95% intervals: of prompts of which all is followed, and of instructions; by kind of instruction, too.

    The instructions of one prompt are answered together, so in every interval the prompts are independent, not the instructions.
    """
    kinds = sorted({asked.id for verdict in verdicts for asked in verdict.item.asked})
    return {
        PROMPT_STRICT: _shown(share([(float(all(v.strict)), 1) for v in verdicts])),
        INSTRUCTION_STRICT: _shown(share([(float(sum(v.strict)), len(v.strict)) for v in verdicts])),
        PROMPT_LOOSE: _shown(share([(float(all(v.loose)), 1) for v in verdicts])),
        INSTRUCTION_LOOSE: _shown(share([(float(sum(v.loose)), len(v.loose)) for v in verdicts])),
        "by_instruction": {
            kind: {"strict": _of_kind(verdicts, kind, "strict"), "loose": _of_kind(verdicts, kind, "loose")} for kind in kinds
        },
        "n_prompts": len(verdicts),
        "n_instructions": sum(len(v.strict) for v in verdicts),
        "n_empty": sum(not v.response.strip() for v in verdicts),
        "n_language_undetermined": sum(_undetermined(v) for v in verdicts),
    }


def difference(first: tuple[str, Sequence[Row]], second: tuple[str, Sequence[Row]]) -> dict[str, Any] | None:
    """How far two models are apart on the prompts that both answered, paired: the share followed strictly, from 0 to 1.

    Args:
        first: a model's name, and its rows of `Verdict.row`.
        second: those of the model that it is set against.

    Returns:
        See `Difference.json`, and the sentence `in_words`, in percentage points; None with fewer than two prompts in common.
    """
    groups = [{row["prompt"]: (float(all(row["follow_instruction_list"])), 1) for row in rows} for _, rows in (first, second)]
    if (found := paired(groups[0], groups[1])) is None:
        return None
    found = found.within(1.0)
    return {**found.json(), "in_words": found.times(100).words(first[0], second[0], what="prompts", digits=1)}


def _of_kind(verdicts: Sequence[Verdict], kind: str, which: str) -> dict[str, Any] | None:
    groups = []
    for verdict in verdicts:
        mine = [ok for asked, ok in zip(verdict.item.asked, getattr(verdict, which), strict=True) if asked.id == kind]
        groups.append((float(sum(mine)), len(mine)))
    return _shown(share(groups))


def _shown(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else {"value": estimate.value, "ci95": estimate.ci95, "n": estimate.items}


def _undetermined(verdict: Verdict) -> bool:
    """Whether an instruction about the language was held to be followed because the response has no letters."""
    asked = any(item.id in _LANGUAGE for item in verdict.item.asked)
    return asked and bool(verdict.response.strip()) and detect(verdict.response) is None


def describe(found: Mapping[str, Any]) -> str:
    """The scores in words, no number without its interval."""
    lines = [f"{found['n_prompts']} prompts, {found['n_instructions']} instructions; 95% intervals over prompts"]
    names = {
        PROMPT_STRICT: "prompts, strict",
        INSTRUCTION_STRICT: "instructions, strict",
        PROMPT_LOOSE: "prompts, loose",
        INSTRUCTION_LOOSE: "instructions, loose",
    }
    lines += [f"  {label:<22}{_percent(found[name])}" for name, label in names.items()]
    lines += [f"  {kind:<46}{_percent(both['strict'])} strict, n = {both['strict']['n']}" for kind, both in found["by_instruction"].items()]
    if found["n_empty"]:
        lines.append(
            f"{found['n_empty']} {agree(found['n_empty'], 'response is empty: it follows', 'responses are empty: they follow')} nothing"
        )
    if found["n_language_undetermined"]:
        n = found["n_language_undetermined"]
        have = agree(n, "response has", "responses have")
        lines.append(f"{n} {have} no letters: an instruction about their language counts as followed")
    if left := [f"{n} {what}" for what, n in found.get("left_out", {}).items() if n]:
        lines.append(f"left out: {', '.join(left)}")
    return "\n".join(lines)


def _percent(value: Mapping[str, Any]) -> str:
    interval = "no interval from one prompt" if value["ci95"] is None else "{:.1f} to {:.1f}".format(*(100 * end for end in value["ci95"]))
    return f"{100 * value['value']:.1f}% ({interval})"
