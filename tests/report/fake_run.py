"""A run that never happened, with numbers and texts of the size and kind that real ones have."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zephyr import schemas
from zephyr.artifacts import Artifact, Draft, draft
from zephyr.evals import items
from zephyr.evals.statistics import Estimate, ratio
from zephyr.records import ASPECTS, Completion, Lineage, Preference, RatedPrompt, Rating, Row, prompt_id_of

ORDER = ("curate", "sft", "complete", "rate", "binarize", "reference", "dpo", "evaluate")
WITH_JUDGE = (*ORDER[:-1], "answer", "judge", "evaluate")
HOSTILE = '<script>alert(1)</script> {{ 7 * 7 }} {% raw %} <img src=x onerror=alert(2)> & "quotes" </p></main>'

_CONFIG: dict[str, dict[str, Any]] = {
    "curate": {"test_fraction": 0.1, "invalid": "drop"},
    "complete": {
        "seed": 7,
        "pool": {n: {"kind": "replay", "path": "builtin:demo/feedback"} for n in ("atlas", "birch", "comet", "delta")},
        "models_per_prompt": 4,
    },
    "rate": {"seed": 7, "teacher": {"kind": "replay", "path": "builtin:demo/feedback"}, "max_unparsed": 0.1},
    "binarize": {"seed": 7, "score": "mean", "rejected": "random"},
    "reference": {"chat_template": "tokenizer", "train": {"dtype": "auto", "micro_batch_tokens": 2048}, "max_length": 1024},
    "sft": {
        "seed": 7,
        "chat_template": "zephyr",
        "train": {"dtype": "auto", "micro_batch_tokens": 2048},
        "sft": {
            "epochs": 3,
            "learning_rate": 2e-5,
            "schedule": "cosine",
            "warmup_ratio": 0.1,
            "batch_size": 8,
            "adam_betas": [0.9, 0.999],
            "packing": False,
        },
    },
    "dpo": {
        "seed": 7,
        "chat_template": "tokenizer",
        "train": {"dtype": "auto", "micro_batch_tokens": 2048},
        "dpo": {"epochs": 3, "learning_rate": 5e-6, "schedule": "linear", "batch_size": 8, "beta": 0.1, "max_length": 1024},
    },
    "answer": {"seed": 7, "models": ["dsft", "ddpo"]},
    "judge": {"seed": 7, "canary": True, "order": "both"},
    "evaluate": {
        "seed": 7,
        "chat_template": "zephyr",
        "evaluate": {"samples": 10, "max_new_tokens": 160, "temperature": 0.7, "top_p": 0.95},
    },
}

_PARENTS = {
    "curate": {"dialogues": "builtin:demo/dialogues"},
    "complete": {"prompts": "builtin:demo/feedback"},
    "rate": {"completions": "runs/demo/complete"},
    "binarize": {"ratings": "runs/demo/rate"},
    "sft": {"dialogues": "runs/demo/curate", "base": "smollm2-135m-instruct"},
    "reference": {"preferences": "runs/demo/binarize", "policy": "runs/demo/sft/model"},
    "dpo": {"preferences": "runs/demo/binarize", "references": "runs/demo/reference", "policy": "runs/demo/sft/model"},
    "answer": {"questions": "mt_bench/question.jsonl", "ddpo": "runs/demo/dpo/model"},
    "judge": {"answers": "runs/demo/answer", "questions": "mt_bench/question.jsonl"},
    "evaluate": {
        "base": "smollm2-135m-instruct",
        "dsft": "runs/demo/sft/model",
        "ddpo": "runs/demo/dpo/model",
        "ratings": "runs/demo/rate",
    },
}

_FACTS: dict[str, dict[str, Any]] = {
    "curate": {
        "rows_in": 208,
        "rows_out": {"train": 163, "test": 40},
        "tokens": 0,
        "seconds": 0.41,
        "results": {"mean_turns": 2.9, "multi_turn": 77},
    },
    "sft": {"rows_in": 203, "rows_out": {"train": 21, "test": 39}, "tokens": 115_482, "seconds": 171.3},
    "complete": {
        "rows_in": 204,
        "rows_out": {"train": 164, "test": 40},
        "tokens": 79_112,
        "seconds": 1.2,
        "results": {
            "by_model": dict.fromkeys(("atlas", "birch", "comet", "delta"), 204),
            "finish_reasons": {"stop": 781, "length": 35},
            "replayed": True,
        },
    },
    "rate": {
        "rows_in": 204,
        "rows_out": {"train": 164, "test": 40},
        "tokens": 301_955,
        "seconds": 2.3,
        "results": {
            "mean_by_model": {
                "atlas": {"mean": 4.91, "overall": 9.2, "n": 204},
                "birch": {"mean": 4.02, "overall": 6.8, "n": 204},
                "comet": {"mean": 2.74, "overall": 4.1, "n": 204},
                "delta": {"mean": 1.66, "overall": 1.9, "n": 204},
            },
            "unparsed": 0,
            "replayed": True,
        },
    },
    "binarize": {
        "rows_in": 204,
        "rows_out": {"train": 162, "test": 40},
        "tokens": 0,
        "seconds": 0.33,
        "results": {"chosen_longer": 0.515, "mean_score_gap": 2.07},
    },
    "reference": {"rows_in": 202, "rows_out": {"train": 162, "test": 40}, "tokens": 61_022, "seconds": 44.9},
    "dpo": {"rows_in": 202, "rows_out": {"train": 158, "test": 40}, "tokens": 143_871, "seconds": 224.6},
    "answer": {"rows_out": {"mt_bench": 80, "alpaca_eval": 805}, "tokens": 401_233, "seconds": 512.0},
    "judge": {"rows_out": {"judgments": 2402}, "tokens": 2_823_216, "seconds": 1204.0},
    "evaluate": {"rows_in": 80, "rows_out": {"samples": 5}, "tokens": 98_115, "seconds": 131.8},
}

_TOO_LONG = {"an answer does not fit into dpo.max_length": 4}
_DROPS = {
    "curate": {"duplicate of another dialogue": 4, "last turn is not the assistant's": 1},
    "sft": {"the first exchange is longer than sft.max_length": 3},
    "rate": {"the answer is empty": 2},
    "binarize": {"all answers tie": 2},
    "reference": _TOO_LONG,
    "dpo": _TOO_LONG,
}

_SCORES: dict[str, Any] = {
    "models": ["base", "dsft", "ddpo"],
    "unseen": True,
    "nll": {
        "base": {
            "nll_per_token": 2.3138,
            "ci95": [2.2012, 2.4264],
            "tokens": 5216,
            "dialogues": 40,
            "template": "its own",
            "other_template": {"template": "zephyr", "nll_per_token": 2.9415},
        },
        "dsft": {"nll_per_token": 2.0822, "ci95": [1.9744, 2.19], "tokens": 5216, "dialogues": 40, "template": "zephyr"},
        "ddpo": {"nll_per_token": 2.1107, "ci95": [2.0013, 2.2201], "tokens": 5216, "dialogues": 40, "template": "zephyr"},
    },
    "reward_accuracy": {
        "ddpo": {"accuracy": 0.6352, "ci95": [0.5713, 0.6991], "pairs": 233, "prompts": 40},
        "dsft": {"accuracy": 0.5494, "ci95": [0.4844, 0.6144], "pairs": 233, "prompts": 40},
        "length": {"accuracy": 0.4979, "ci95": [0.4206, 0.5752], "pairs": 233, "prompts": 40},
    },
    "sharpness": {
        n: {
            "entropy": {"mean": e, "ci95": [e - 0.11, e + 0.11]},
            "top1": {"mean": one, "ci95": [one - 0.02, one + 0.02]},
            "top10": {"mean": ten, "ci95": [ten - 0.01, ten + 0.01]},
            "tokens": 14_207,
            "prompts": 40,
        }
        for n, e, one, ten in (("base", 2.412, 0.4711, 0.7962), ("dsft", 2.105, 0.5124, 0.8235), ("ddpo", 1.634, 0.6018, 0.8811))
    },
    "displacement": {
        n: {
            "better": {"mean": b, "ci95": [b - 2.1, b + 2.1], "per_token": b / 88, "share_down": 0.7, "prompts": 40},
            "worse": {"mean": w, "ci95": [w - 2.6, w + 2.6], "per_token": w / 74, "share_down": 0.8, "prompts": 40},
        }
        for n, b, w in (("dsft", 9.4, 6.1), ("ddpo", -5.2, -13.1))
    },
    "reward_margin": {"dsft": {"mean": 0.212, "ci95": [-0.034, 0.458]}, "ddpo": {"mean": 0.841, "ci95": [0.512, 1.17]}},
    "lengths": {
        n: {"mean_tokens": t, "ci95": [t - 20, t + 20], "ended": e, "ended_ci95": [e - 0.3, e + 0.08], "answers": 10}
        for n, t, e in (("base", 131.4, 0.4), ("dsft", 92.7, 0.9), ("ddpo", 97.2, 0.9))
    },
    "benchmarks": {
        "arc_challenge": {
            n: {
                "metric": "acc_norm",
                "value": v,
                "stderr": 0.0213,
                "ci95": [v - 0.04, v + 0.042],
                "n": 500,
                "num_fewshot": 25,
                "excluded": 3,
                "truncated": t,
            }
            for n, v, t in (("base", 0.286, 12), ("dsft", 0.29, 12), ("ddpo", 0.294, 12))
        },
        "truthfulqa": {
            n: {"metric": "mc2", "value": v, "stderr": None, "ci95": None, "n": 817, "num_fewshot": 0, "excluded": 0, "truncated": t}
            for n, v, t in (("base", 0.388, 0), ("dsft", 0.391, 2), ("ddpo", 0.402, 2))
        },
    },
}

SAMPLES: list[Row] = [
    {
        "prompt": "My sourdough came out flat and dense, and the crumb is gummy near the bottom. The starter doubles in about six "
        "hours. What should I change first?",
        "category": "humanities",
        "base": "Sourdough is a type of bread that is made from a mixture of flour, water, and salt. It is a popular bread in many "
        "countries and it can be made in many different ways. Here are some tips to help you make a better sourdough:\n\n1. "
        "Use a good quality flour. The quality of the flour is important.\n2. Use a good quality water. The quality of the "
        "water is important.\n3. Use a good quality salt. The quality of the salt is important.\n4. Use a good quality "
        "starter. The quality of the starter is important.\n5. Use a good quality oven. The quality of the oven",
        "dsft": "Change the length of the first rise. A gummy layer at the bottom and a flat loaf both point to dough that went into "
        "the oven too early. Let it rise until it has grown by about half and jiggles when you shake the bowl; at 21 °C that "
        "takes seven to nine hours, not four.\n\nThen bake it longer, to a dark crust, and let it cool for two hours before "
        "you cut it.",
        "ddpo": "Give it a longer first rise. A dense crumb that is gummy low down usually means underproofed dough, and a starter "
        "that needs six hours to double is on the slow side.\n\n- Wait for the dough to grow by half, whatever the clock "
        "says.\n- Use the starter just as it peaks.\n- Bake ten minutes longer and cool the loaf fully.\n\nChange only the "
        "rise first, so that you know what helped.",
    },
    {
        "prompt": "Write a two-sentence apology to a neighbour whose parcel I opened by mistake. Warm, not grovelling.",
        "category": "writing",
        "base": "Dear Neighbour,\n\nI am writing to apologise for the mistake I made in opening your parcel. I am very sorry for the "
        "inconvenience that I have caused you and I hope that you can forgive me for the mistake that I have made. I am very "
        "sorry for the inconvenience that I have caused you and I hope that you can forgive me.",
        "dsft": "I opened your parcel this morning thinking it was mine, and I'm sorry; nothing is missing and it's waiting for you "
        "at our door. I owe you a coffee whenever you like.",
        "ddpo": "I'm sorry, I opened your parcel before I looked at the name; everything is still inside and I've taped it up again. "
        "Knock any time today and I'll hand it over with a slice of cake.",
    },
    {
        "prompt": "A train leaves at 14:35 and arrives at 17:10. It stopped for 12 minutes on the way. How long was it moving?",
        "category": "math",
        "base": "The train was moving for 17:10 - 14:35 = 2:35 hours.\n\nTherefore, the train was moving for 2:35 hours.",
        "dsft": "From 14:35 to 17:10 is 2 hours 35 minutes, or 155 minutes. Minus the 12 minutes it stood still, it moved for 143 "
        "minutes: 2 hours 23 minutes.",
        "ddpo": "2 hours 23 minutes. The whole trip takes 155 minutes, and 155 − 12 = 143.",
    },
    {
        "prompt": "Why does this print [1, 1]?\n\ndef add(x, seen=[]):\n    seen.append(x)\n    return seen\n\nadd(1)\nprint(add(1))",
        "category": "coding",
        "base": "",
        "dsft": "The default list is made once, when the function is defined, and shared by every call.\n\ndef add(x, "
        "seen=None):\n    seen = [] if seen is None else seen\n    seen.append(x)\n    return seen",
        "ddpo": None,
    },
    {
        "prompt": HOSTILE,
        "category": "extraction",
        "base": HOSTILE,
        "dsft": "a" * 240,
        "ddpo": HOSTILE,
    },
]


POOL = ("atlas", "birch", "comet", "delta")
_JUDGED: dict[str, Any] = {
    "judge": "gpt-4-0613",
    "canary": {"mt_bench": 1.21, "alpaca_eval": 3.1},
    "mt_bench": {
        "dsft": {"score": 4.93, "ci95": [4.41, 5.44], "n": 159, "n_unparsed": 1},
        "ddpo": {"score": 5.62, "ci95": [5.08, 6.15], "n": 160, "n_unparsed": 0},
        "canary": {"score": 1.21, "ci95": [1.07, 1.35], "n": 160, "n_unparsed": 0},
    },
    "alpaca_eval": {
        "ddpo": {
            "win_rate": 31.4,
            "ci95": [28.2, 34.6],
            "n_total": 801,
            "n_null": 4,
            "order": {
                "win_rate_shown_first": 37.9,
                "win_rate_shown_first_ci95": [34.5, 41.3],
                "win_rate_shown_second": 24.9,
                "win_rate_shown_second_ci95": [21.9, 27.9],
                "consistent": 71.2,
                "consistent_ci95": [67.9, 74.2],
                "n": 797,
            },
        },
    },
    "contamination": {"mt_bench": {"items": 80, "found": 2, "exact": 1, "normalised": 0, "ngram": 1}},
    "bill": {"judge": {"calls": 2410, "answered": 2402, "prompt_tokens": 2_412_004, "completion_tokens": 411_212, "spent_usd": 96.4}},
}


def rated() -> list[RatedPrompt]:
    """Prompts with four rated answers; the last is one that was trained on, the first holds markup."""
    found = []
    for i, row in enumerate([SAMPLES[4], *SAMPLES[:3]]):
        answers = []
        for k, model in enumerate(POOL):
            worth = 5 - k
            texts = dict.fromkeys(
                ASPECTS, f"It is worth {worth}: {'it answers what was asked' if k < 2 else 'it talks past the question'}."
            )
            rating = Rating(
                dict.fromkeys(ASPECTS, worth), texts, float(2 * worth - 1), f"Answer {k + 1}: {HOSTILE if i == 0 else 'say less'}"
            )
            text = f"{row['dsft'] if k % 2 else row['base'] or 'Nothing.'} ({model})"
            answers.append(Completion(model, text, rating=rating))
        found.append(RatedPrompt(row["prompt"], prompt_id_of(row["prompt"]), tuple(answers), "made up", row["category"]))
    return found


def pairs(split: str) -> list[Row]:
    """The best over the last of each prompt."""
    made = []
    for p in rated()[:3] if split == "test" else rated()[3:]:
        user, best, worst = {"role": "user", "content": p.prompt}, p.completions[0], p.completions[3]
        origin = [Lineage(c.model, "", c.rating, k) for k, c in ((0, best), (3, worst))]
        ends = [(user, {"role": "assistant", "content": c.response}) for c in (best, worst)]
        made.append(Preference(p.prompt, p.prompt_id, *ends, 5.0, 2.0, chosen_from=origin[0], rejected_from=origin[1], rejected_rank=4, answer_count=4).row())  # type: ignore[arg-type]  # fmt: skip
    return made


def measured(shift: float = 0.0) -> list[Row]:
    """What forty prompts gave; the first three are those that were rated. `shift` moves every number of the last model."""
    noise, rows = random.Random(5), []
    ids = [p.prompt_id for p in rated()[:3]] + [f"{i:064x}" for i in range(37)]
    for i, name in enumerate(ids):
        hard = noise.uniform(-0.6, 0.6)
        scores = [5.0, 4.0, 3.0, 2.0]
        for k, model in enumerate(("base", "dsft", "ddpo")):
            own = noise.uniform(-0.05, 0.05) + (shift * (1.3 if i % 2 else 0.7) if model == "ddpo" else 0.0)
            known = {"model": model, "prompt_id": name, "content": f"{i}", "scores": None, "values": None}
            rows.append({**known, "measure": "nll", "value": 130 * (2.31 - 0.11 * k + hard + own), "n": 130})
            rows.append({**known, "measure": "entropy", "value": 350 * (2.4 - 0.35 * k + hard / 3 + own), "n": 350})
            if k:
                rewards = [0.9 - (0.4 - own) * j * k + noise.uniform(-0.7, 0.7) for j in range(4)]
                right = float(sum(rewards[a] > rewards[b] for a in range(4) for b in range(a + 1, 4)))
                rows.append({**known, "measure": "reward_accuracy", "value": right, "n": 6, "scores": scores, "values": rewards})
    return rows


def _of_rows(rows: list[Row]) -> dict[str, Any]:
    """The scores, with the numbers of the last model as its rows have them."""
    by = items.grouped(rows)

    def number(measure: str) -> Estimate:
        found = ratio([(row["value"], row["n"]) for row in by[measure, "ddpo"].values()])
        assert found is not None
        return found

    nll, right, entropy = (number(measure) for measure in ("nll", "reward_accuracy", "entropy"))
    accuracy = {"accuracy": right.value, "ci95": right.ci95, "pairs": right.items, "prompts": right.groups}
    sharp = {**_SCORES["sharpness"]["ddpo"], "entropy": {"mean": entropy.value, "ci95": entropy.ci95}}
    return {
        **_SCORES,
        "nll": {**_SCORES["nll"], "ddpo": {**_SCORES["nll"]["ddpo"], "nll_per_token": nll.value, "ci95": nll.ci95}},
        "reward_accuracy": {**_SCORES["reward_accuracy"], "ddpo": accuracy},
        "sharpness": {**_SCORES["sharpness"], "ddpo": sharp},
    }


def log(stage: str, steps: int = 63, seed: int = 0, pace: float = 1.0) -> list[Row]:
    """A training log that looks like one; `pace` is how fast dDPO goes."""
    noise, rows = random.Random(seed), []
    for step in range(steps + 1):
        done = step / steps
        for kind in ("test", "train"):
            if (kind == "test" and step % 7) or (kind == "train" and step == 0):
                continue
            scatter = 0.0 if kind == "test" else 1.0
            row: Row = {"kind": kind, "step": step}
            if kind == "train":
                row |= {
                    "epoch": step * 3 / steps,
                    "learning_rate": 2e-5 * (1 - done),
                    "grad_norm": 2.1,
                    "tokens": 1830 * step,
                    "seconds": 2.7 * step,
                }
            if stage == "sft":
                row["loss"] = 2.08 + 0.85 * math.exp(-4 * done) - scatter * (0.25 * done + noise.uniform(-0.15, 0.15))
            else:
                gain = pace * (0.84 + scatter * done) * done
                chosen = -158 - 5 * pace * done + scatter * noise.uniform(-32, 32)
                row |= {
                    "loss": math.log1p(math.exp(-gain)) + scatter * noise.uniform(-0.08, 0.08),
                    "accuracy": min(1.0, 0.5 + (0.14 + 0.3 * scatter) * min(1.0, 2 * done) + scatter * noise.choice([-0.125, 0, 0.125])),
                    "margin": gain + scatter * noise.uniform(-0.2, 0.2),
                    "chosen_logp": chosen,
                    "rejected_logp": chosen - 11 - 10 * gain,
                    "chosen_reward": -0.5 * done + scatter * noise.uniform(-0.1, 0.1),
                    "rejected_reward": -0.5 * done - gain + scatter * noise.uniform(-0.1, 0.1),
                }
            rows.append(row)
    return rows


def training_results(stage: str) -> dict[str, Any]:
    """What a training stage says of itself."""
    final = {k: v for k, v in log(stage)[-2].items() if k not in ("kind", "step")}
    own = {"dialogues": {"train": 160, "test": 39}} if stage == "sft" else {}
    return {
        **own,
        "steps": 63,
        "tokens_per_second": 655.4,
        "dtype": "bfloat16",
        "parameters": 134_515_008,
        "final_test": final,
        "peak_memory_bytes": 2_912_000_000,
    }


def _fill(stage: str, out: Draft, *, replayed: bool, shift: float) -> None:
    facts = {"results": {}, **_FACTS[stage]}
    for reason, n in _DROPS.get(stage, {}).items():
        for i in range(n):
            out.drop(reason, f"dialogues.jsonl:{i + 1}", {"prompt": "…"})
    if stage in ("sft", "dpo"):
        for row in log(stage, pace=1 + 4 * shift):
            out.log(row)
        facts["results"] = training_results(stage)
        out.manifest.environment = {"torch": "2.13.0", "device": "cpu", "threads": "2"}
    if stage == "evaluate":
        out.write_rows("samples", [{**row, "prompt_id": f"{i:064x}"} for i, row in enumerate(SAMPLES)])
        out.write_rows(items.SPLIT, measured(shift), items.schema())
        facts["results"] = _SCORES if not shift else _of_rows(measured(shift))
    if stage == "judge":
        facts["results"] = _JUDGED
        out.note(
            "the judge, gpt-4-0613, and the judged model (other), gpt-4-turbo, are of one family (GPT); its verdicts may lean towards it."
        )
    if stage in ("complete", "rate"):
        for split, given in (("train", rated()[3:]), ("test", rated()[:3])):
            bare = [RatedPrompt(p.prompt, p.prompt_id, tuple(replace(c, rating=None) for c in p.completions)) for p in given]
            out.write_rows(split, [p.row() for p in (bare if stage == "complete" else given)], schemas.ratings())
    if stage == "binarize":
        for split in ("train", "test"):
            out.write_rows(split, pairs(split), schemas.preferences())
    if "replayed" in facts["results"]:
        facts["results"] = {**facts["results"], "replayed": replayed}
    for name, value in facts.items():
        setattr(out.manifest, name, value)


def make(
    folder: Path, stages: Iterable[str] = ORDER, *, replayed: bool = True, shift: float = 0.0, settings: Mapping[str, Any] | None = None
) -> dict[str, Artifact]:
    """Published artifacts of these stages.

    Args:
        folder: of the run.
        stages: of the run, in order.
        replayed: whether answers and ratings are recorded ones.
        shift: of what dDPO came to, for another run.
        settings: of dDPO, for another run.
    """
    made = {}
    for stage in stages:
        config = {**_CONFIG[stage], **({"dpo": {**_CONFIG["dpo"]["dpo"], **settings}} if settings and stage == "dpo" else {})}
        parents = {name: {"path": path, "digest": f"{hash_of(path):064x}"} for name, path in _PARENTS[stage].items()}
        with draft(folder / stage, stage=stage, key="0" * 64, config=config, parents=parents) as out:
            _fill(stage, out, replayed=replayed, shift=shift if stage in ("dpo", "evaluate") else 0.0)
        artifact = Artifact.open(folder / stage)
        artifact.manifest.seconds = _FACTS[stage]["seconds"]
        artifact.manifest.environment |= {"python": "3.11.9", "machine": "x86_64"}
        made[stage] = artifact
    return made


def hash_of(text: str) -> int:
    """A number of a text, the same in every process."""
    return int.from_bytes(text.encode(), "big") % 16**64
