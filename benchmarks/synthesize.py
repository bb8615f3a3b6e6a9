"""Dialogues from a scripted teacher at any number, and from a real small model in this process; both killed on the way.

    python benchmarks/synthesize.py --scripted 10000 --kills 2
    python benchmarks/synthesize.py --real MODEL --out runs/synthesize-real --seconds 280      again and again, until it says `done`

The scripted teacher is a server process on loopback (tests/misbehaving.py with tests/scripted.py) that answers at once and is wrong in
known ways with known shares. The real model is asked for 60 dialogues over three sectors and 30 self-instruct chains, at most 64 new
tokens a turn; each call of the script works for `--seconds` and is then killed (SIGKILL), so that several calls are a test of going on.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]


def environment() -> dict[str, str]:
    """One thread a process is enough for a server, and this model is too small for more."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def serve() -> None:
    """The scripted teacher, until stdin closes."""
    from misbehaving import serving
    from scripted import SOME, teacher

    with serving(answer=teacher(SOME)) as running:
        print(running.port, flush=True)
        sys.stdin.read()
        print(json.dumps({"sent": running.book.sent.total(), "distinct": len(running.book.sent)}), flush=True)
    os._exit(0)


def scripted_recipe(count: int, url: str, folder: Path) -> dict[str, Any]:
    """A tenth refined from seeds, the rest over the three sectors."""
    (folder / "texts").mkdir(parents=True, exist_ok=True)
    rng, text = (
        random.Random(1),
        "moss lamp river stone winter copper letter engine garden harbour needle orchard pepper saddle thunder velvet",
    )
    words = text.split()
    for i in range(max(1, count // 100)):
        text = "\n\n".join(" ".join(rng.choices(words, k=120)) for _ in range(20))
        (folder / "texts" / f"{i:05d}.txt").write_text(text, encoding="utf-8")
    seeds = "".join(json.dumps({"prompt": f"Explain {' and '.join(rng.sample(words, 4))} to a child."}) + "\n" for _ in range(200))
    (folder / "seeds.jsonl").write_text(seeds, encoding="utf-8")
    teacher = {"kind": "api", "base_url": url, "model": "m", "prices": {"prompt": 1.0, "completion": 2.0}, "limits": {"max_in_flight": 256}}
    section = {
        "assistant": teacher,
        "world": {"count": 4 * count // 10},
        "writing": {"count": 3 * count // 10, "instructions": 1 + 3 * count // 200},
        "materials": {"count": 2 * count // 10, "files": [str(folder / "texts")]},
        "self_instruct": {"count": count // 10, "seeds": [str(folder / "seeds.jsonl")]},
        "max_rejected": 0.5,
    }
    return {"name": "scripted", "seed": 3, "model": {"path": "nowhere"}, "synthesize": section}


def real_recipe(model: str) -> dict[str, Any]:
    """What a model of 135 million parameters is asked for: short lists, short texts, turns that may be cut off."""
    teacher = {"kind": "local", "path": model, "max_new_tokens": 64, "temperature": 0.7, "top_p": 0.9}
    section = {
        "assistant": teacher,
        "items_per_call": 3,
        "world": {"count": 20, "subtopics": 3, "questions": 3, "related": 0, "turns": [2, 4]},
        "writing": {"count": 20, "instructions": 3, "turns": [2, 3]},
        "materials": {"count": 20, "files": [str(ROOT / "docs")], "passage_characters": 600, "instructions": 3, "turns": [2, 3]},
        "self_instruct": {"count": 30, "seeds": ["builtin:demo/dialogues/train.jsonl"]},
        "cut_turns": "keep",
        "max_rejected": 1.0,
    }
    return {"name": "real", "seed": 3, "model": {"path": model}, "synthesize": section}


def work(recipe: Path, out: Path, seconds: float | None) -> dict[str, Any]:
    """The command in a process of its own; killed after so many seconds. What it took."""
    command = [sys.executable, "-m", "zephyr", "run", str(recipe), "--out", str(out), "--only", "synthesize"]
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    killed = False
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        killed = True
        _, said = process.communicate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "killed": killed,
        "code": process.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),  # of the largest so far
        "said": said.splitlines()[-3:],
    }


def plan(recipe: Path, out: Path) -> dict[str, Any]:
    """What `zephyr plan` says beforehand, and how long it takes to say it."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "zephyr", "plan", str(recipe), "--out", str(out), "--json"]
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    calls = {line["teacher"]: line["calls"] for line in json.loads(said)["lines"]}
    return {"seconds": round(time.perf_counter() - began, 1), "calls": calls, "usd_most": json.loads(said)["usd_most"]}


def summary(out: Path) -> dict[str, Any]:
    """What the artifact says of itself."""
    manifest = json.loads((out / "synthesize" / "manifest.json").read_text(encoding="utf-8"))
    size = sum(f.stat().st_size for f in (out / "synthesize").rglob("*") if f.is_file())
    results = {name: value for name, value in manifest["results"].items() if name != "topics"}
    journal = (out / "journal.sqlite").stat().st_size
    return {
        "digest": manifest["digest"],
        "rows": manifest["rows_out"],
        "dropped": manifest["dropped"],
        "artifact_mb": round(size / 2**20, 1),
        "journal_mb": round(journal / 2**20, 1),
        **results,
    }


def scripted(count: int, kills: int, *, planned: bool) -> dict[str, Any]:
    """Left alone, then killed and taken up again; both must end as the same data set, and nothing be asked twice."""
    server = subprocess.Popen(
        [sys.executable, str(HERE), "--serve"], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None and server.stdin is not None
    try:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            recipe = folder / "recipe.yaml"
            recipe.write_text(json.dumps(scripted_recipe(count, url, folder)), encoding="utf-8")
            before = {"planned": plan(recipe, folder / "alone")} if planned else {}
            alone = work(recipe, folder / "alone", None)
            if alone["code"]:
                raise SystemExit("\n".join(alone["said"]))
            found: dict[str, Any] = {"dialogues": count, **before, "alone": alone, **summary(folder / "alone")}
            if kills:
                runs = [work(recipe, folder / "cut", alone["seconds"] * (i + 1) / (kills + 1)) for i in range(kills)]
                runs.append(work(recipe, folder / "cut", None))
                found["cut"] = runs
                found["same_after_kills"] = summary(folder / "cut")["digest"] == found["digest"]
                found["possibly_paid_twice"] = {name: b["possibly_paid_twice"] for name, b in summary(folder / "cut")["bill"].items()}
            return found
    finally:
        server.stdin.close()
        server.wait()


def real(model: str, out: Path, seconds: float) -> dict[str, Any]:
    """One piece of the work, killed at its end unless it is done before."""
    out.mkdir(parents=True, exist_ok=True)
    recipe = out / "recipe.yaml"
    recipe.write_text(json.dumps(real_recipe(model)), encoding="utf-8")
    piece = work(recipe, out, seconds)
    with (out / "pieces.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(piece) + "\n")
    if piece["killed"] or piece["code"]:
        return {"done": False, **piece}
    pieces = [json.loads(line) for line in (out / "pieces.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"done": True, "pieces": pieces, **summary(out)}


def main() -> None:
    """As the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripted", type=int, metavar="N", help="so many dialogues from the scripted teacher")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--no-plan", action="store_true", help="do not time the plan")
    parser.add_argument("--real", metavar="MODEL", help="a model folder")
    parser.add_argument("--out", type=Path, default=Path("runs/synthesize-real"))
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
    found = (
        scripted(given.scripted, given.kills, planned=not given.no_plan) if given.scripted else real(given.real, given.out, given.seconds)
    )
    for name, value in found.items():
        print(f"{name}: {json.dumps(value)}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
