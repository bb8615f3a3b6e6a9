"""A real small model behind a real server answers 100 prompts and rates the answers; the run is killed on the way and taken up again.

    pip install 'transformers[serving]'
    python benchmarks/real_server.py --model FOLDER
    python benchmarks/real_server.py --model NAME --url http://localhost:8000/v1        a server that is there already

The prompts are those of the demo. Two teachers of the same model (temperature 1.0 and 0.3) answer each with at most 64 new tokens, and
the model rates them. SIGKILL comes when so many answers are in the journal, `--kills` times, spread over both stages. Every answer that
was there at a kill must be there unchanged at the end, sent no more often; what was cut off may be sent again, and is counted. Most
verdicts of so small a model cannot be read: none is coerced. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from measure import machine

SERVER = "transformers serve {model} --port {port} --device cpu --dtype float32"
KEPT = "key, state, sends, text, finish_reason, prompt_tokens, completion_tokens"


@contextlib.contextmanager
def serving(command: str, url: str, log: Path) -> Iterator[None]:
    """The server, from when it answers until the end."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(shlex.split(command), stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            deadline = time.monotonic() + 300
            while not _listens(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the server does not answer at {url}; see {log}")
                time.sleep(1)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/models", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def recipe(model: str, url: str, prompts: Path, in_flight: int) -> dict[str, Any]:
    """Two teachers and a judge, all of them the one model."""
    teacher = {"kind": "api", "base_url": url, "model": model, "max_new_tokens": 64, "limits": {"max_in_flight": in_flight}}
    pool = {"warm": {**teacher, "temperature": 1.0}, "cool": {**teacher, "temperature": 0.3}}
    return {
        "name": "real-server",
        "model": {"path": "nowhere"},
        "complete": {"prompts": [str(prompts)], "models_per_prompt": 2, "pool": pool},
        "rate": {"teacher": teacher, "protocol": "together", "max_unparsed": 1.0},
    }


def write_prompts(path: Path, count: int) -> None:
    """The first prompts of the demo, which ship with the package."""
    lines = []
    for name in ("train", "test"):
        text = (resources.files("zephyr") / "demo" / "feedback" / f"{name}.jsonl").read_text(encoding="utf-8")
        lines += [json.dumps({"prompt": json.loads(line)["prompt"]}) for line in text.splitlines()]
    path.write_text("\n".join(lines[:count]) + "\n", encoding="utf-8")


def journal(out: Path) -> dict[bytes, tuple[Any, ...]]:
    """Every request by its key."""
    path = out / "journal.sqlite"
    if not path.exists():
        return {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
        try:
            return {key: tuple(rest) for key, *rest in db.execute(f"SELECT {KEPT} FROM requests")}
        except sqlite3.OperationalError:  # it is being made
            return {}


def answered(found: dict[bytes, tuple[Any, ...]]) -> dict[bytes, tuple[Any, ...]]:
    """Of a journal, what has an answer."""
    return {key: row for key, row in found.items() if row[0] == "answered"}


def run(path: Path, out: Path, kill_at: int | None) -> dict[str, Any]:
    """The command, killed once so many answers are there; None: to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "zephyr", "run", str(path), "--out", str(out), "--until", "rate"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while kill_at is not None and process.poll() is None and len(answered(journal(out))) < kill_at:
        time.sleep(0.2)
    killed = kill_at is not None and process.poll() is None
    if killed:
        process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    found = journal(out)
    states = {state: sum(row[0] == state for row in found.values()) for state in ("sent", "answered", "failed", "unknown")}
    return {"killed": killed, "code": process.returncode, "seconds": round(time.perf_counter() - began, 1), **states, "said": said[-300:]}


def main() -> None:
    """As the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder, or the name under which a server has it")
    parser.add_argument("--server", default=SERVER, help="what starts the server, with {model} and {port}")
    parser.add_argument("--url", help="of a server that is there already")
    parser.add_argument("--port", type=int, default=8811)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/real-server"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write_prompts(given.out / "prompts.jsonl", given.prompts)
    url = given.url or f"http://localhost:{given.port}/v1"
    path = given.out / "recipe.yaml"
    path.write_text(json.dumps(recipe(given.model, url, (given.out / "prompts.jsonl").resolve(), given.in_flight)), encoding="utf-8")
    command = given.server.format(model=given.model, port=given.port)
    with contextlib.nullcontext() if given.url else serving(command, url, given.out / "server.log"):
        found = killed_and_resumed(path, given.out, given.prompts, given.kills)
    for name, value in found.items():
        print(f"{name}: {json.dumps(value)}")
    print(json.dumps({"machine": machine(), "server": given.url or command, **found}))


def killed_and_resumed(path: Path, out: Path, prompts: int, kills: int) -> dict[str, Any]:
    """All pieces of the work; what was there at each kill compared with what is there at the end."""
    calls, runs, kept = 3 * prompts, [], []  # two answers and one call of the judge a prompt
    for number in range(kills):
        runs.append(run(path, out, calls * (number + 1) // (kills + 1)))
        kept.append(answered(journal(out)))
        print(runs[-1], file=sys.stderr, flush=True)
    runs.append(run(path, out, None))
    if runs[-1]["code"]:
        raise SystemExit(runs[-1]["said"])
    end = journal(out)
    manifest = json.loads((out / "rate" / "manifest.json").read_text(encoding="utf-8"))
    return {
        "runs": runs,
        "answers_changed_or_sent_again": sum(end.get(key) != row for there in kept for key, row in there.items()),
        "requests": len(end),
        "answered": len(answered(end)),
        "sent_more_than_once": sum(row[1] > 1 for row in end.values()),
        "completion_tokens": sum(row[5] or 0 for row in end.values()),
        "ratings": {
            "rows": manifest["rows_out"],
            "dropped": manifest["dropped"],
            **{k: manifest["results"][k] for k in ("unparsed", "asked_twice")},
        },
    }


if __name__ == "__main__":
    main()
