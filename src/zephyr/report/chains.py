"""A chain of `trace` as the page shows it: numbers and lines made of it, texts left as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr.report.accounts import money
from zephyr.report.facts import LABELS, dig
from zephyr.report.numbers import count, finite, fixed, general
from zephyr.report.telling import in_words

# what is listed of a prompt: the numbers at the head of the page, and those of the signs
_LISTED = ("reward_accuracy", "reward_margin", "entropy")


def view(chain: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs."""
    return {
        "about": _about(chain),
        "prompt": chain["prompt"],
        "prompt_id": chain["prompt_id"],
        "split": chain["split"],
        "category": chain["category"],
        "counted": [line for row in chain["measured"] if row["measure"] in _LISTED if (line := _counted(row))],
        "pair_lines": [
            *(_pair(pair) for pair in chain["pairs"]),
            *(f"{e['stage']} left it out: {e['reason']}." for e in chain["left_out"]),
        ],
        "answers": [_answer(answer) for answer in chain["answers"]],
        "unread": [_reply(reply) for reply in chain.get("unread", ())],
        "no_journal": chain.get("no_journal", "") if chain["answers"] else "",
    }


def _about(chain: Mapping[str, Any]) -> str:
    rows = [row for row in chain["measured"] if row["measure"] == "reward_accuracy" and row["model"] != "length"]
    if rows:
        last = rows[-1]
        return f"{general(last['value'])} of {count(last['n'])} pairs as rated"
    return "a pair that was trained on" if chain["pairs"] else "a prompt"


def _counted(row: Mapping[str, Any]) -> str:
    model = "length alone" if row["model"] == "length" else LABELS.get(row["model"], row["model"])
    return f"{model}: {in_words(row)}"


def _pair(pair: Mapping[str, Any]) -> str:
    said = f"The pair: {pair['chosen_model'] or 'chosen'} ({_score(pair['score_chosen'])}) over {pair['rejected_model'] or 'rejected'} "
    said += f"({_score(pair['score_rejected'])})"
    if pair["rejected_rank"] and pair["answer_count"]:
        said += f", which is number {pair['rejected_rank']} of {pair['answer_count']} by score"
    if pair["reference"]:
        one, other = (fixed(pair["reference"][which], 1) for which in ("chosen", "rejected"))
        said += f"; under the frozen model their log-probabilities are {one} and {other} nats"
    return f"{said}."


def _score(value: object) -> str:
    return "no score" if finite(value) is None else f"score {general(value)}"


def _answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    facts = []
    if finite(answer["overall_score"]) is not None:
        facts.append(f"overall {general(answer['overall_score'])} of 10")
    given = [value for value in answer["aspects"].values() if value is not None]
    if given:
        facts.append(f"aspects {' '.join(general(value) for value in given)} of 5")
    facts += [f"reward of {LABELS.get(model, model)} {fixed(value, 2)}" for model, value in answer["rewards"].items()]
    names = {"answer": "The answer", "rating": "The rating"}
    return {
        "model": answer["model"],
        "part": answer["part"],
        "facts": " · ".join(facts),
        "response": (answer["response"] or "").strip(),
        "critique": answer["critique"].strip(),
        "rationales": [(name.replace("_", " "), why) for name, why in answer["rationales"].items() if why.strip()],
        "raw": [(words, _reply(reply)) for what, words in names.items() if (reply := dig(answer, "replies", what))],
    }


def _reply(reply: Mapping[str, Any]) -> dict[str, str]:
    cost = f", {money(reply['spent_usd'])}" if reply["spent_usd"] else ""
    tokens = f"{count(reply['prompt_tokens'])} + {count(reply['completion_tokens'])} tokens"
    return {**{key: reply[key] for key in ("teacher", "model", "finish_reason", "key", "text")}, "tokens": tokens, "cost": cost}
