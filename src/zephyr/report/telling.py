"""The way from a number back to a teacher's words, told on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from zephyr.report.accounts import money
from zephyr.report.facts import LABELS, dig
from zephyr.report.numbers import count, finite, fixed, general, percent

WIDTH = 110
# of a measure: what it is, what its n counts
MEASURES: dict[str, tuple[str, str]] = {
    "nll": ("negative log-likelihood {} nats a token", "tokens"),
    "reward_accuracy": ("{} of the pairs in the order of the ratings", "pairs"),
    "reward_margin": ("reward margin {}", "pairs"),
    "entropy": ("entropy {} nats", "tokens"),
    "top1": ("mass {} on the likeliest token", "tokens"),
    "top10": ("mass {} on the likeliest ten", "tokens"),
    "length": ("a sampled answer of {} tokens", ""),
}


def in_words(row: Mapping[str, Any]) -> str:
    """What a row of the evaluation says: the mean, and over how many."""
    what, of = MEASURES.get(row["measure"], (f"{row['measure']} {{}}", ""))
    value, n = finite(row["value"]) or 0.0, finite(row["n"]) or 1
    if row["measure"] == "reward_accuracy":
        return f"{general(value)} of its {count(n)} pairs in the order of the ratings"
    shown = percent(value / n) if row["measure"].startswith("top") else fixed(value / n, 0 if row["measure"] == "length" else 3)
    return what.format(shown) + (f", over {count(n)} {of}" if of else "")


def describe(chain: Mapping[str, Any]) -> str:
    """A chain of `trace.chain`, with the replies where they are known, in words."""
    return "\n".join(_lines(chain))


def _lines(chain: Mapping[str, Any]) -> Iterator[str]:
    where = ", ".join(filter(None, (chain["split"], chain["category"], chain["source"])))
    yield f"prompt {chain['prompt_id']}" + (f" ({where})" if where else "")
    yield _indented(chain["prompt"], 2)
    for pair in chain["pairs"]:
        yield f"\npair{_made(chain, 'binarize')}: {pair['chosen_model']} over {pair['rejected_model']}, {_scores(pair)}"
        if pair["reference"]:
            one, other = (fixed(pair["reference"][which], 2) for which in ("chosen", "rejected"))
            yield f"  log-probability under the frozen model{_made(chain, 'reference')}: chosen {one}, rejected {other} nats"
    for entry in chain["left_out"]:
        yield f"\nleft out by {entry['stage']}: {entry['reason']}"
    seen: set[str] = set()
    for answer in chain["answers"]:
        yield from _answer(chain, answer, seen)
    if unread := chain.get("unread"):
        yield "\nreplies of the teacher that no rating was read from:"
        for reply in unread:
            yield from _reply(reply)
    yield from _measured(chain)
    for stage in chain["gone"]:
        yield f"\n{stage}: its rows (the folder {stage}/data) are gone, so what they say of this prompt is not known"


def _scores(pair: Mapping[str, Any]) -> str:
    said = f"scores {general(pair['score_chosen'])} and {general(pair['score_rejected'])}"
    if pair["rejected_rank"] is not None and pair["answer_count"] is not None:
        said += f"; the rejected one is number {pair['rejected_rank']} of {pair['answer_count']}"
    return said


def _made(chain: Mapping[str, Any], stage: str) -> str:
    digest = chain["made_by"].get(stage)
    return f" ({stage} {digest[:12]})" if digest else ""


def _answer(chain: Mapping[str, Any], answer: Mapping[str, Any], seen: set[str]) -> Iterator[str]:
    part = f", {answer['part']}" if answer["part"] else ""
    yield f"\nanswer {answer['position'] + 1} by {answer['model']}{part}{_made(chain, 'complete')}"
    yield _indented(answer["response"] or "(empty)", 2)
    if answer["aspects"] or answer["overall_score"] is not None:
        given = ", ".join(f"{name} {'N/A' if value is None else value}" for name, value in answer["aspects"].items())
        yield f"  rated{_made(chain, 'rate')}: overall {general(answer['overall_score'])}; {given}"
        yield _indented(f"critique: {answer['critique']}", 4)
    for model, reward in answer["rewards"].items():
        yield f"  reward of {LABELS.get(model, model)}: {fixed(reward, 3)}"
    for what in ("answer", "rating"):
        if reply := dig(answer, "replies", what):
            if reply["key"] in seen:  # answers that were rated together have one in common
                yield f"  raw reply, {what}: the one above, request {reply['key'][:16]}"
                continue
            seen.add(reply["key"])
            yield f"  raw reply, {what}:"
            yield from _reply(reply)


def _reply(reply: Mapping[str, Any]) -> Iterator[str]:
    cost = f", {money(reply['spent_usd'])}" if reply["spent_usd"] else ""
    tokens = f"{count(reply['prompt_tokens'])} + {count(reply['completion_tokens'])} tokens"
    yield f"    {reply['teacher']} ({reply['model']}), {reply['finish_reason']}, {tokens}{cost}, request {reply['key'][:16]}"
    yield _indented(reply["text"], 4, mark="| ")


def _measured(chain: Mapping[str, Any]) -> Iterator[str]:
    if chain["measured"]:
        yield f"\ncounted by evaluate{_made(chain, 'evaluate')}"
    for row in chain["measured"]:
        model = "length alone" if row["model"] == "length" else LABELS.get(row["model"], row["model"])
        yield f"  {model}: {in_words(row)}"
    if chain["answers"] and chain.get("no_journal"):
        yield f"\n{chain['no_journal']}"


def _indented(text: str, by: int, *, mark: str = "") -> str:
    """A text with its own line breaks, broken where it is too wide."""
    lines = [part for line in text.strip().split("\n") for part in (textwrap.wrap(line, WIDTH - by) or [""])]
    return "\n".join(f"{' ' * by}{mark}{line}".rstrip() for line in lines)


def describe_judged(found: Mapping[str, Any]) -> str:
    """What `verdicts.judged` found, in words."""
    lines = [f"{found['question']}, judged by {found['judge']}"]
    for verdict in found["verdicts"]:
        turn = f", turn {verdict['turn']}" if verdict["turn"] else ""
        what = "what the judge was shown" if verdict["shown_is"] == "prompt" else "the two answers in the order shown"
        lines += [f"\n{LABELS.get(verdict['model'], verdict['model'])}{turn}: {_verdict(verdict)}", f"  {what}:"]
        lines += [
            _indented(verdict["shown"] or "", 4, mark="| "),
            "  what it said:",
            _indented(verdict["reply"] or "(nothing)", 4, mark="| "),
        ]
    return "\n".join(lines)


def _verdict(verdict: Mapping[str, Any]) -> str:
    """`7`; of two answers, `davinci shown first, dDPO second; the second, dDPO, is preferred`."""
    score, order = finite(verdict["score"]), verdict["order"]
    if order is None:
        return "no verdict could be read" if score is None else general(score)
    names = [LABELS.get(name, name) for name in order]
    place = f"{names[0]} shown first, {names[1]} second; "
    if score is None:
        return f"{place}no verdict could be read"
    if score == 1.5:
        return f"{place}neither is preferred"
    by = "" if score in (1, 2) else f" with {percent(max(score - 1, 2 - score))}"  # of its probability
    return f"{place}the {'first' if score < 1.5 else 'second'}, {names[score > 1.5]}, is preferred{by}"
