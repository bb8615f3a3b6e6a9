"""Academic tasks: our way through the prompts beside lm-eval's own model class, on SmolLM2-135M, in one process.

    python benchmarks/academic.py                              every race, one after the other
    python benchmarks/academic.py --only hellaswag-first_n     one of them (--list names them)
    python benchmarks/academic.py --tune 4                     lm-eval's best batch size first, tried on so many items
    python benchmarks/academic.py --quick                      does it run? few items, one round

Both sides get the same requests (lm-eval's own tasks on local files), the same number of threads and number format, and
take turns. What is timed is `loglikelihood`, the tokenizing included; building the prompts is lm-eval's on both sides. Ours
answers all items, the fixed beginning once; lm-eval, whose time an item is the same however many there are, some of them, of
all lengths. A ratio is lm-eval's seconds over ours, by the token that lm-eval computes. The log-likelihoods of the items that
both answered are compared. The last line of stdout is one JSON object; stderr says how far it is.

Items come from the files of `ZEPHYR_SHARED`. The train splits are not among them: ARC's examples come from its validation
file, HellaSwag's from ten rows set aside (`first_n`), or a thousand (drawn).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

TARGETS = {"hellaswag-first_n": 15.0, "arc-first_n": 15.0, "hellaswag-drawn": 3.5, "arc-drawn": 3.5, "mmlu": 5.0, "truthfulqa": 3.5}
SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Race:
    """A benchmark, how its examples are chosen, and on how many items each side is timed in a round."""

    task: str
    sampler: str
    ours: int
    theirs: int


RACES = {
    "hellaswag-first_n": Race("hellaswag", "first_n", 40, 2),
    "hellaswag-drawn": Race("hellaswag", "drawn", 6, 2),
    "arc-first_n": Race("arc_challenge", "first_n", 50, 2),
    "arc-drawn": Race("arc_challenge", "drawn", 5, 2),
    "mmlu": Race("mmlu", "drawn", 80, 6),
    "truthfulqa": Race("truthfulqa", "drawn", 50, 4),
}
SUBJECTS = 1  # of MMLU: the real files have 246 items a subject, behind one beginning


def main() -> None:
    """Race, print."""
    args = _parsed()
    import torch

    torch.set_num_threads(args.threads)
    say(f"threads {args.threads}, rounds {args.rounds}")
    sides = Sides(args.model)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only or list(RACES):
            found[name] = _race(name, sides, args, Path(folder))
            say(f"{name}: {json.dumps(found[name])}")
    print(
        json.dumps({"machine": measure.machine("cpu"), "threads": args.threads, "dtype": "float32", "rounds": args.rounds, "races": found})
    )


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(RACES), action="append")
    parser.add_argument("--list", action="store_true", help="name the races")
    parser.add_argument("--quick", action="store_true", help="few items, one round: does it run?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4, help="of lm-eval, where none is tried")
    parser.add_argument("--tune", type=int, default=0, help="items on which lm-eval's batch sizes are tried")
    parser.add_argument("--only-tune", action="store_true", help="find the batch size, race nothing")
    parser.add_argument("--items", type=int, help="of ours in a round")
    parser.add_argument("--theirs", type=int, help="of lm-eval's in a round")
    parser.add_argument("--model", default=os.environ.get("ZEPHYR_SMOLLM2", "smollm2-135m-instruct"), help="a folder, or a registered name")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("ZEPHYR_SHARED", "../shared")))
    args = parser.parse_args()
    if args.list:
        sys.exit("\n".join(RACES))
    args.data = args.shared / "data" / "eval" / "open_llm"
    if not args.data.is_dir():
        sys.exit(f"{args.data}: the items are not there; set ZEPHYR_SHARED to the folder of real data")
    args.rounds = 1 if args.quick else args.rounds
    return args


class Sides:
    """The same weights twice: as we compute with them, and as transformers loads them."""

    def __init__(self, name: str) -> None:
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM

        from zephyr.evals.open_llm.scorer import Scorer
        from zephyr.models import load
        from zephyr.recipe import ModelConfig

        ref = load.refer(ModelConfig(path=name, chat_template="tokenizer"))
        model, tokenizer = load.load_model(ref), load.load_tokenizer(ref)
        load.ready_to_generate(model)
        self.ours = Scorer(model, tokenizer, 4, sys.stderr)
        plain = AutoModelForCausalLM.from_pretrained(ref.locate(), dtype=torch.float32, attn_implementation="sdpa")
        self.theirs = HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=4)
        if self.ours.problem:
            sys.exit(f"the model goes the plain way: {self.ours.problem}")


def _race(name: str, sides: Sides, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One benchmark: medians of both sides, and how far apart their answers are."""
    race = RACES[name]
    items = _items(race, args.items or (4 if args.quick else race.ours), args.data, folder)
    requests = [request for item in items for request in item]
    work = [_work(item, sides.theirs) for item in items]
    chosen = _spread(work, args.theirs or (1 if args.quick else race.theirs))
    tuned = _tuned(items, _spread(work, args.tune), sides.theirs) if args.tune else None
    size = min(tuned, key=tuned.__getitem__) if tuned else args.batch_size
    if args.only_tune:
        return {"tuned_seconds": tuned, "batch_size": size}
    sides.theirs.batch_size_per_gpu = size
    seconds: dict[str, list[float]] = {"zephyr": [], "lm_eval": []}
    for number in range(args.rounds):
        taken, ours = _timed(sides.ours, requests)
        seconds["zephyr"].append(taken)
        taken, theirs = _timed(sides.theirs, [request for i in chosen for request in items[i]])
        seconds["lm_eval"].append(taken)
        say(f"  {name} round {number + 1}: ours {seconds['zephyr'][-1]:.2f} s for {len(items)}, lm-eval {taken:.2f} s for {len(chosen)}")
    by_item = _by_item(ours, items)
    pairs = list(zip([answer for i in chosen for answer in by_item[i]], theirs, strict=True))
    ours_token = statistics.median(seconds["zephyr"]) / sum(work)
    theirs_token = statistics.median(seconds["lm_eval"]) / sum(work[i] for i in chosen)
    each = [t / sum(work[i] for i in chosen) / (o / sum(work)) for o, t in zip(seconds["zephyr"], seconds["lm_eval"], strict=True)]
    return {
        "ratio": round(statistics.median(each), 2),  # of rounds: both sides of one met the same load of the machine
        "ratio_by_round": [round(r, 2) for r in each],
        "target": TARGETS[name],
        "items": {"zephyr": len(items), "lm_eval": len(chosen)},
        "seconds": {side: [round(s, 2) for s in rounds] for side, rounds in seconds.items()},
        "seconds_per_item": {
            "zephyr": round(ours_token * sum(work) / len(items), 3),
            "lm_eval": round(theirs_token * sum(work) / len(items), 3),
        },
        "tokens_per_item": {"zephyr": round(sides.ours.tokens / len(items), 1), "lm_eval": round(sum(work) / len(items), 1)},
        "lm_eval_batch_size": size,
        **({"tuned_seconds": tuned} if tuned else {}),
        "max_difference_nats": max(abs(a[0] - b[0]) for a, b in pairs),
        "answers_compared": len(pairs),
        "same_greedy": sum(a[1] == b[1] for a, b in pairs),
    }


def _items(race: Race, count: int, data: Path, folder: Path) -> list[list[Any]]:
    """The requests of each item, as lm-eval's own task makes them."""
    from zephyr.evals import open_llm

    examples = 10 if race.sampler == "first_n" else 1000
    known = open_llm.catalog()
    if race.task == "hellaswag":
        rows = _rows(data / "hellaswag_validation.jsonl.gz")
        aside = _every(rows, examples)  # of both kinds of text: the file is sorted by them, as the train split is not
        files = _every([row for row in rows if row not in aside], count), aside
    elif race.task == "arc_challenge":
        files = _every(_rows(data / "arc_challenge_test.jsonl.gz"), count), _rows(data / "arc_challenge_validation.jsonl.gz")
    elif race.task == "mmlu":
        dev, test = _rows(data / "mmlu_dev.jsonl.gz"), _rows(data / "mmlu_test.jsonl.gz")
        subjects = _middling(dev, test, count // SUBJECTS)[:SUBJECTS]
        files = [row for s in subjects for row in _every([r for r in test if r["subject"] == s], count // SUBJECTS)], dev
    else:
        files = _every(_rows(data / "truthfulqa_mc.jsonl.gz"), count), None
    paths = [
        _write(folder / f"{race.task}-{race.sampler}-{kind}.jsonl", rows)
        for kind, rows in zip(("items", "shots"), files, strict=True)
        if rows
    ]
    plan = open_llm.plan(race.task, paths[0], paths[1] if len(paths) > 1 else None, None, known, race.sampler)
    items: list[list[Any]] = []
    for task in open_llm.tasks(plan, known, 0).values():
        task.build_all_requests()
        by_doc: dict[int, list[Any]] = {}
        for request in task.instances:
            by_doc.setdefault(request.doc_id, []).append(request)
        items += by_doc.values()
    return items


def _middling(dev: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]], count: int) -> list[str]:
    """Subjects with items enough, the nearest first to the mean length of the examples, by items."""
    length = {
        s: sum(len(r["question"]) + sum(map(len, r["choices"])) for r in dev if r["subject"] == s) for s in {r["subject"] for r in dev}
    }
    mean = statistics.fmean(length[r["subject"]] for r in test)
    many = [s for s in length if sum(r["subject"] == s for r in test) >= count]
    return sorted(many, key=lambda s: (abs(length[s] - mean), s))


def _tuned(items: Sequence[list[Any]], chosen: Sequence[int], theirs: Any) -> dict[int, float]:
    """Seconds of lm-eval on some items, by batch size."""
    found = {}
    for size in SIZES:
        theirs.batch_size_per_gpu = size
        found[size] = round(_timed(theirs, [request for i in chosen for request in items[i]])[0], 2)
        say(f"  lm-eval, batch size {size}: {found[size]} s")
    return found


def _timed(side: Any, requests: Sequence[Any]) -> tuple[float, list[tuple[float, bool]]]:
    began = time.perf_counter()
    answers = side.loglikelihood(requests, disable_tqdm=True)
    return time.perf_counter() - began, answers


def _work(item: Sequence[Any], theirs: Any) -> int:
    """Tokens that lm-eval computes for an item, which takes continuations of one token in one row."""
    rows = {tuple((context + continuation)[:-1]) for context, continuation in (theirs._encode_pair(*request.args) for request in item)}
    return sum(map(len, rows))


def _spread(work: Sequence[int], count: int) -> list[int]:
    """So many items, of all lengths: the middle ones of as many equal parts of the sorted."""
    order = sorted(range(len(work)), key=lambda i: (work[i], i))
    return sorted({order[(2 * k + 1) * len(order) // (2 * count)] for k in range(count)})


def _by_item(answers: Sequence[tuple[float, bool]], items: Sequence[list[Any]]) -> list[list[tuple[float, bool]]]:
    rest = iter(answers)
    return [[next(rest) for _ in item] for item in items]


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _every(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many, evenly through the file: it may be sorted by kind."""
    return [rows[i * len(rows) // count] for i in range(min(count, len(rows)))]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def say(text: str) -> None:
    """To the reader, at once."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
