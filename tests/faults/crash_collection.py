"""Kill a collection of feedback at any instant, run the same command again, and compare what it made with that of a run left alone.

    python tests/faults/crash_collection.py --points 1000 --results crash-collection.jsonl

Three models answer and one judges, over HTTP, by a server in a process of its own that also fails in a tenth of all calls. Every point
is a process forked from this one with the imports done, and ended by SIGKILL at a random time; the run is then started again (a third of
them killed once more) until it ends by itself. Of each kill it is checked that no request whose answer was in the journal is sent
again, and that no more requests were under way than allowed; of each point, that the data set is that of the run that was left alone.
Results are appended, a line a point; the points that a results file holds are not done again. The exit code is 1 if any point failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crash import end_with

FAULTS = "500=0.03,503=0.02,reset after=0.02,cut body=0.02,html=0.01"
IN_FLIGHT = 4
PROMPTS, MODELS = 40, ("amber", "birch", "cedar")
STAGES = ("complete", "rate", "binarize")


class Server:
    """The server's process, and what it says that it saw."""

    def __init__(self, seed: int) -> None:
        here = Path(__file__).resolve().parents[1] / "misbehaving.py"
        command = [sys.executable, str(here), "--faults", FAULTS, "--seed", str(seed), "--delay", "0.02"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/count", timeout=10) as reply:
            return dict(json.load(reply))


@contextmanager
def server(seed: int) -> Iterator[Server]:
    running = Server(seed)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def recipe(folder: Path, url: str) -> Path:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is the use of number {i}?"}) + "\n" for i in range(PROMPTS)))
    teacher = {
        "kind": "api",
        "base_url": f"{url}/v1",
        "model": "m",
        "max_new_tokens": 256,
        "prices": {"prompt": 1.0, "completion": 2.0},
        "limits": {"max_in_flight": IN_FLIGHT, "timeout_s": 20},
    }
    values = {
        "name": "crash",
        "seed": 7,
        "model": {"path": "nowhere"},
        "complete": {
            "prompts": [str(prompts)],
            "models_per_prompt": 2,
            "pool": {name: {**teacher, "model": name} for name in MODELS},
            "test_fraction": 0.2,
        },
        "rate": {"teacher": {**teacher, "model": "judge"}, "protocol": "together"},
        "binarize": {},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


def start(arguments: list[str], log: Path) -> int:
    """The command in a process of its own; its pid."""
    pid = os.fork()
    if pid == 0:
        end_with(arguments, log)
    return pid


def finish(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def journal(out: Path) -> dict[str, str]:
    """The state of every request, by its key, as a process would find it that comes after a death."""
    if not (out / "journal.sqlite").exists():
        return {}
    with sqlite3.connect(out / "journal.sqlite") as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'requests'").fetchone():
            return {}
        return {key.hex(): state for key, state in db.execute("SELECT key, state FROM requests")}


def made(out: Path) -> dict[str, str]:
    return {stage: json.loads((out / stage / "manifest.json").read_text())["digest"] for stage in STAGES}


class Crash:
    """The command, and what it makes when nothing befalls it."""

    def __init__(self, folder: Path, running: Server) -> None:
        self.folder, self.server, self.log = folder, running, folder / "log.txt"
        self.recipe = recipe(folder, running.url)
        began = time.perf_counter()
        self.want = self.left_alone(folder / "alone")
        self.seconds = time.perf_counter() - began

    def arguments(self, out: Path) -> list[str]:
        return ["run", str(self.recipe), "--out", str(out), "--until", "binarize"]

    def left_alone(self, out: Path) -> dict[str, str]:
        if code := finish(start(self.arguments(out), self.log)):
            raise SystemExit(f"{' '.join(self.arguments(out))}: ended with {code}\n{self.log.read_text()[-2000:]}")
        return made(out)

    def point(self, number: int, seed: int) -> dict[str, Any]:
        """One seeded point: kill, perhaps kill again, run to the end, compare."""
        rng = random.Random(f"{seed} {number}")
        out = self.folder / f"point-{number}"
        killed, resent, most = 0, 0, 0
        answered: set[str] = set()
        before: dict[str, int] = {}
        for _ in range(1 + (rng.random() < 0.3)):
            pid = start(self.arguments(out), self.log)
            time.sleep(rng.uniform(0, self.seconds))
            os.kill(pid, signal.SIGKILL)
            killed += finish(pid) == -signal.SIGKILL
            states = journal(out)
            most = max(most, list(states.values()).count("sent"))
            counts = self.server.counts()["sent"]
            resent += sum(counts.get(key, 0) != before[key] for key in answered)
            answered = {key for key, state in states.items() if state == "answered"}
            before = {key: counts.get(key, 0) for key in answered}
        same = self.left_alone(out) == self.want
        counts = self.server.counts()["sent"]
        resent += sum(counts.get(key, 0) != before[key] for key in answered)
        left = sorted(p.name for p in out.iterdir() if p.name.startswith(".journal"))
        return {
            "point": number, "seed": seed, "killed": killed, "answered_before": len(answered), "under_way": most,
            "same": same, "sent_again": resent, "left_over": left,
        }  # fmt: skip


def run(points: int, seed: int, results: Path | None, say: Callable[[str], None]) -> list[dict[str, Any]]:
    done = [json.loads(line) for line in results.read_text().splitlines()] if results and results.exists() else []
    done = [r for r in done if r["seed"] == seed]
    known = {r["point"] for r in done}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, server(seed) as running:
        crash = Crash(Path(folder), running)
        for number in range(points):
            if number in known:
                continue
            done.append(crash.point(number, seed))
            if results:
                with results.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
            if (number + 1) % 50 == 0:
                say(f"{number + 1}/{points} points, {len(bad(done))} bad, {time.perf_counter() - began:.0f} s")
    return done


def bad(done: list[dict[str, Any]]) -> list[int]:
    allowed = IN_FLIGHT * len(MODELS)
    return [r["point"] for r in done if not r["same"] or r["sent_again"] or r["left_over"] or r["under_way"] > allowed]


def summary(done: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "points": len(done),
        "kills": sum(r["killed"] for r in done),
        "kills_with_answers_kept": sum(r["answered_before"] > 0 for r in done),
        "most_under_way": max(r["under_way"] for r in done),
        "bad": bad(done),
    }


def prepare() -> None:
    """All imports of the stages, so that a fork is a process ready to work."""
    # what the command imports by and by: pyarrow looks for pandas, typer for its own adapters
    stages = [f"zephyr.stages.{stage}" for stage in STAGES]
    for name in ("aiohttp", "pandas", "pyarrow.parquet", "typer._adapters", "zephyr.api", "zephyr.teachers.client", *stages):
        importlib.import_module(name)
    from zephyr.teachers import pacing

    pacing.FIRST_BACKOFF_S, pacing.LONGEST_BACKOFF_S, pacing.FIRST_REST_S = 0.01, 0.05, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    prepare()
    found = summary(run(given.points, given.seed, given.results, lambda text: print(text, file=sys.stderr, flush=True)))
    print(json.dumps(found))
    sys.exit(1 if found["bad"] else 0)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[1])]
    main()
