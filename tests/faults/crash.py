"""Kill a training at any instant, run the same command again, and compare the weights with those of a run that was left alone.

    python tests/faults/crash.py --points 1000 --results crash.jsonl

Every point is a process of its own, every twentieth two processes that train together, forked from this one with the imports done, and ended by SIGKILL: at a random time after its
start, or at a random time inside the n-th write of a checkpoint, which goes on in the background in half of the points. The run is then started again (a third of them killed once
more) until it ends by itself. Results are appended, a line a point; the points that a results file holds are not done again.
The exit code is 1 if any point ended in other bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

STAGES = ("sft", "dpo")
OVERRIDES = ("train.checkpoint_minutes=0", "sft.packing=false", "sft.epochs=2", "sft.evaluate_every=3", "dpo.epochs=4", "dpo.batch_size=2")
ENTERED, LEFT = b"e", b"l"


def command(recipe: Path, out: Path, *more: str) -> list[str]:
    return ["run", str(recipe), "--out", str(out), *more, *OVERRIDES]


def end_with(arguments: list[str], log: Path) -> NoReturn:
    """The command in this process, a fork, which ends with it."""
    from zephyr.cli import main

    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 0
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def child(arguments: list[str], pipe: int, log: Path) -> None:
    """The command in this process, which ends here; each write of a checkpoint is announced."""
    from zephyr.train import checkpoint

    write = checkpoint.publish

    def announced(*args: Any) -> None:
        os.write(pipe, ENTERED)
        write(*args)
        os.write(pipe, LEFT)

    class Announced(checkpoint.Writing):
        """The same in the background: until it has its name."""

        def __init__(self, *args: Any) -> None:
            os.write(pipe, ENTERED)
            super().__init__(*args)

        def publish(self) -> None:
            super().publish()
            os.write(pipe, LEFT)

    checkpoint.publish = announced  # type: ignore[assignment]
    checkpoint.Writing = Announced  # type: ignore[misc]
    end_with(arguments, log)


class Run:
    """The command in one process or several, as a launcher would start them; the first announces its writes."""

    def __init__(self, arguments: list[str], log: Path, processes: int = 1) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.reader, writer = os.pipe()
        self.pids = []
        for rank in range(processes):
            if (pid := os.fork()) == 0:
                os.close(self.reader)
                if processes > 1:
                    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
                    os.environ.update({name: str(value) for name, value in where.items()})
                child(arguments, writer if rank == 0 else os.open(os.devnull, os.O_WRONLY), log)
            self.pids.append(pid)
        os.close(writer)

    def kill(self, rng: random.Random) -> None:
        """SIGKILL to one of them, and to the others a moment later."""
        for pid in rng.sample(self.pids, len(self.pids)):
            os.kill(pid, signal.SIGKILL)
            if len(self.pids) > 1:
                time.sleep(rng.expovariate(1 / 0.01))

    def finish(self) -> tuple[int, bool]:
        """The first one's exit code (negative: the signal), and whether it was inside a write of a checkpoint when it ended."""
        said = b""
        while piece := os.read(self.reader, 4096):
            said += piece
        os.close(self.reader)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        return codes[0], said.count(ENTERED) > said.count(LEFT)


def left_alone(arguments: list[str], log: Path, processes: int = 1) -> None:
    code, _ = Run(arguments, log, processes).finish()
    if code:
        raise SystemExit(f"{' '.join(arguments)}: ended with {code}\n{log.read_text()[-2000:]}")


def killed_after(run: Run, rng: random.Random, seconds: float) -> tuple[int, bool]:
    time.sleep(seconds)
    run.kill(rng)
    return run.finish()


def killed_in_write(run: Run, rng: random.Random, nth: int, seconds: float) -> tuple[int, bool]:
    """Killed so many seconds after the n-th write began; the run may end before that."""
    entered = 0
    said = b""
    while entered < nth:
        select.select([run.reader], [], [])
        piece = os.read(run.reader, 1)
        if not piece:
            break
        said += piece
        entered += piece == ENTERED
    time.sleep(seconds)
    run.kill(rng)
    code, inside = run.finish()
    return code, inside or (said.endswith(ENTERED) and code == -signal.SIGKILL)


def fingerprint(folder: Path) -> str:
    """Of everything that the training computed: weights, results and the log, but for times and rates."""
    digest = hashlib.sha256()
    for path in sorted(p for p in (folder / "model").iterdir() if p.name != "README.md"):  # the card is the report's
        digest.update(path.name.encode() + path.read_bytes())
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        digest.update(json.dumps({k: v for k, v in json.loads(line).items() if k != "seconds"}, sort_keys=True).encode())
    return digest.hexdigest()


class Crash:
    """A run whose stages before the one under test are done, copied for each point."""

    def __init__(self, folder: Path) -> None:
        import small

        self.folder = folder
        self.log = folder / "log.txt"
        model = small.model_folder(folder / "model")
        self.recipe = small.write_recipe(folder / "recipe.yaml", small.recipe(folder / "data", model))
        self.base = folder / "base"
        left_alone(command(self.recipe, self.base), self.log)
        # by stage and number of processes: what comes out, and how long it takes
        self.alone: dict[tuple[str, int], tuple[str, float]] = {}

    def left_alone(self, stage: str, processes: int) -> tuple[str, float]:
        """What comes out of two runs that nothing befalls, the same of both, and how long one takes."""
        if (stage, processes) not in self.alone:
            prints = []
            for _ in range(2):
                out = self.prepared(stage, "alone")
                began = time.perf_counter()
                left_alone(command(self.recipe, out, "--only", stage), self.log, processes)
                seconds = time.perf_counter() - began
                prints.append(fingerprint(out / stage))
                shutil.rmtree(out)
            assert prints[0] == prints[1], "two runs that were left alone differ"
            self.alone[stage, processes] = prints[0], seconds
        return self.alone[stage, processes]

    def prepared(self, stage: str, name: str) -> Path:
        out = self.folder / name
        shutil.copytree(self.base, out)
        shutil.rmtree(out / stage)
        return out

    def point(self, number: int, seed: int) -> dict[str, Any]:
        """One seeded point: kill, perhaps kill again, run to the end, compare."""
        rng = random.Random(f"{seed} {number}")
        stage, processes = STAGES[number % 2], 2 if number % 20 in (6, 13) and number % 40 < 20 else 1
        want, seconds = self.left_alone(stage, processes)
        writing = "background" if number % 4 >= 2 else "paused"  # both stages and one of the two kinds of two processes
        in_write = rng.random() < 0.4
        out = self.prepared(stage, f"point-{number}")
        arguments = command(self.recipe, out, "--only", stage, f"train.checkpoint_writing={writing}")
        kills: list[dict[str, Any]] = []
        for _ in range(1 + (rng.random() < 0.3)):
            run = Run(arguments, self.log, processes)
            if in_write:
                code, inside = killed_in_write(run, rng, rng.randint(1, 6), rng.expovariate(1 / 0.004))
            else:
                code, inside = killed_after(run, rng, rng.uniform(0, seconds))
            kills.append({"code": code, "in_write": inside})
        left_alone(arguments, self.log, processes)
        same = fingerprint(out / stage) == want
        clean = not (out / f".{stage}.checkpoints").exists() and not (out / f".{stage}.partial").exists()
        shutil.rmtree(out)
        what = {"point": number, "seed": seed, "stage": stage, "processes": processes, "writing": writing}
        return {**what, "kills": kills, "same": same, "clean": clean}


def run(points: int, seed: int, results: Path | None, say: Callable[[str], None]) -> list[dict[str, Any]]:
    done = [json.loads(line) for line in results.read_text().splitlines()] if results and results.exists() else []
    done = [r for r in done if r["seed"] == seed]
    known = {r["point"] for r in done}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        crash = Crash(Path(folder))
        for number in range(points):
            if number in known:
                continue
            done.append(crash.point(number, seed))
            if results:
                with results.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
            if (number + 1) % 25 == 0:
                say(
                    f"{number + 1}/{points} points, {sum(not (r['same'] and r['clean']) for r in done)} bad, {time.perf_counter() - began:.0f} s"
                )
    return done


def summary(done: list[dict[str, Any]]) -> dict[str, Any]:
    kills = [k for r in done for k in r["kills"] if k["code"] == -signal.SIGKILL]
    return {
        "points": len(done),
        "kills": len(kills),
        "inside_a_write": sum(k["in_write"] for k in kills),
        "by_stage": dict(Counter(r["stage"] for r in done)),
        "by_processes": dict(Counter(r["processes"] for r in done)),
        "by_writing": dict(Counter(r.get("writing", "paused") for r in done)),  # points of before they were written in both ways
        "other_bytes": [r["point"] for r in done if not r["same"]],
        "left_over": [r["point"] for r in done if not r["clean"]],
    }


def prepare() -> None:
    """All imports of a run, on one thread, so that a fork is a process ready to train."""
    import torch
    import torch._dynamo
    import torch.distributed.fsdp
    import torch.distributed.tensor

    import tiny
    import zephyr.api
    import zephyr.evals.preference
    import zephyr.forecast
    import zephyr.models.generate
    import zephyr.report.card
    import zephyr.report.page
    import zephyr.train.session  # noqa: F401

    torch.set_num_threads(1)
    tiny.tiny_model()
    tiny.byte_tokenizer()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
    prepare()
    found = summary(run(given.points, given.seed, given.results, lambda text: print(text, file=sys.stderr, flush=True)))
    print(json.dumps(found))
    sys.exit(1 if found["other_bytes"] or found["left_over"] else 0)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[1])]
    main()
