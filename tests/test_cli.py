"""The command line: what it prints, how it ends, and what a fault leaves behind."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

import small
from conftest import ROOT
from zephyr import api, cli, pipeline
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import UsageError
from zephyr.pipeline import one

if TYPE_CHECKING:
    from conftest import SmallRun

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def zephyr_command(capfd: pytest.CaptureFixture[str], own_cache: Path) -> Command:
    """`zephyr ARGUMENTS` in this process: (exit code, stdout, stderr)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code: Any = 0
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capfd.readouterr()
        return int(code or 0), out, err

    return command


def last_line(text: str) -> str:
    return text.rstrip("\n").rsplit("\n", 1)[-1]


# --- start -------------------------------------------------------------------------------------------------------


def _seconds_of_children() -> float:
    """The processor's, which another's work beside them does not lengthen."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_comes_at_once() -> None:
    heavy = ("torch", "transformers", "pydantic", "yaml", "pyarrow", "datasets", "matplotlib", "lm_eval", "numpy", "rich")
    code = f"import sys, zephyr.cli; print([m for m in {heavy} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    times, waits = [], []
    for _ in range(5):
        start, began = _seconds_of_children(), time.perf_counter()
        shown = subprocess.run([sys.executable, "-m", "zephyr", "--help"], capture_output=True, text=True, env=environment)
        times.append(_seconds_of_children() - start)
        waits.append(time.perf_counter() - began)
    assert shown.returncode == 0 and "binarize" in shown.stdout
    assert min(times) < 0.4
    assert min(waits) < 3, "it waits for something, which costs the processor nothing"


def test_version_and_help_of_every_command(zephyr_command: Command) -> None:
    assert zephyr_command("--version")[:2] == (0, "zephyr 0.1.0.dev0\n")
    for name in (*small.STAGES, "run", "init", "chat", "models"):
        code, out, _ = zephyr_command(name, "--help")
        assert code == 0 and "Usage: zephyr " in out, name


@pytest.mark.parametrize(
    "arguments",
    [
        ("rum",),
        ("run",),
        ("run", "r.yaml", "--onyl", "sft"),
        ("sft", "data", "--out", "x"),
        ("curate", "--out", "x"),
        ("binarize", "x.jsonl", "--seed", "one", "--out", "y"),
        ("models", "fetch"),
    ],
)
def test_wrong_use_ends_with_2(zephyr_command: Command, arguments: tuple[str, ...]) -> None:
    code, out, err = zephyr_command(*arguments)
    assert code == 2 and out == "" and "Traceback" not in err
    assert "Usage:" in err


def test_init_writes_the_demo_recipe_and_nothing_over_it(zephyr_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "new" / "my.yaml"
    assert zephyr_command("init", path)[0] == 0
    assert path.read_bytes() == (ROOT / "recipes" / "demo.yaml").read_bytes()
    code, _, err = zephyr_command("init", path)
    assert code == 2 and "is there already" in err


def test_init_writes_the_papers_recipe(zephyr_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    code, out, _ = zephyr_command("init", path, "--from", "paper")
    assert code == 0 and out == f"wrote {path}; next: zephyr plan {path}\n"
    assert path.read_bytes() == (ROOT / "recipes" / "zephyr-7b-beta.yaml").read_bytes()
    code, _, err = zephyr_command("init", tmp_path / "other.yaml", "--from", "handbook")
    assert code == 2 and last_line(err) == "zephyr: --from handbook: not a recipe that ships; known are demo, paper"


def test_examples_need_no_checkout() -> None:
    """Who installed the package alone has no folder `recipes`."""
    group: Any = typer.main.get_command(cli.app)
    commands = [group, *group.commands.values(), *(inner for c in group.commands.values() for inner in getattr(c, "commands", {}).values())]
    assert len(commands) > 25
    assert [c.name for c in commands if "recipes/" in f"{c.epilog} {c.help}"] == []


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("data=[{path: x.jsonl, columns: {messages: talk}}]", "files are named before the settings; what a source's columns are called"),
        ("data.path=x", "files are named before the settings"),
        ("sft.epochs=2", "behind this command the section is left out: epochs=2"),
        ("beta=0.2", r"sft\.beta: unknown key; did you mean dpo\.beta\?"),
        ("lr=1e-5", r"sft\.lr: unknown key; did you mean learning_rate\?"),
    ],
)
def test_settings_of_a_stage_that_would_be_passed_over(zephyr_command: Command, tmp_path: Path, setting: str, problem: str) -> None:
    arguments = ["sft", tmp_path / "x.jsonl", "--model", tmp_path, "--out", tmp_path / "out", setting]
    refused(zephyr_command, arguments, problem, code=2)


# --- a run -------------------------------------------------------------------------------------------------------


def test_json_is_one_object_on_stdout(small_run: SmallRun, tmp_path: Path) -> None:
    """In a process of its own: nothing that a library prints may reach stdout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    arguments = ["run", str(small_run.file), "--out", str(tmp_path / "run"), "--json", "evaluate.samples=1"]
    done = subprocess.run([sys.executable, "-m", "zephyr", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [Path(a["path"]).name for a in result["artifacts"].values()] == small.STAGES
    assert all((Path(a["path"]) / "manifest.json").exists() and a["status"] == "ran" for a in result["artifacts"].values())
    assert result["scores"]["nll"] == small_run.result["scores"]["nll"]
    assert Path(result["model"], "config.json").exists() and Path(result["report"]).exists()
    assert "forecast: about" in done.stderr


def test_a_finished_run_in_words(zephyr_command: Command, small_run: SmallRun) -> None:
    code, out, err = zephyr_command("run", small_run.file, "--out", small_run.out)
    assert code == 0
    assert out.count("done      up to date") == 9 and "test NLL per token, dsft: " in out and "report: " in out
    assert err.count("done already") == 9


def test_dry_run_and_overrides(zephyr_command: Command, small_run: SmallRun) -> None:
    code, out, _ = zephyr_command("run", small_run.file, "dpo.beta=0.5", "--out", small_run.out, "--dry-run")
    assert code == 0
    assert "dpo        would run dpo.beta 0.1 -> 0.5" in out and "evaluate   would run after dpo" in out and "sft        done" in out


# --- single stages -----------------------------------------------------------------------------------------------


def test_the_stages_one_by_one_give_what_the_run_gives(
    zephyr_command: Command, small_run: SmallRun, tmp_path: Path, tiny_folder: Path
) -> None:
    data, recipe, made = small_run.file.parent / "data", small_run.file, tmp_path
    train = ("train.dtype=float32", "train.micro_batch_tokens=256")
    pair = ("--model", made / "sft", "--seed", 3)
    measured = ("--dialogues", made / "curate", "--ratings", made / "rate", "samples=2", "max_new_tokens=6", "sft.max_length=128")
    commands: dict[str, list[object]] = {
        "curate": [data / "dialogues-train.jsonl", "--test", data / "dialogues-test.jsonl"],
        "sft": [made / "curate", "--model", tiny_folder, "--seed", 3, "batch_size=2", "max_length=128", "learning_rate=1e-3", *train],
        "complete": [data / "feedback" / "train.jsonl", "--test", data / "feedback" / "test.jsonl", "--recipe", recipe],
        "rate": [made / "complete", "--recipe", recipe],
        "binarize": [made / "rate", "--seed", 3],
        "reference": [made / "binarize", "--model", made / "sft", *train],
        "dpo": [made / "binarize", "--references", made / "reference", *pair, "batch_size=3", "learning_rate=1e-3", *train],
        "evaluate": ["--base", tiny_folder, "--sft", made / "sft", "--model", made / "dpo", *measured, "--seed", 3, *train],
        "report": [made],
    }
    for stage, arguments in commands.items():
        whole = (stage, *arguments, "--out", made / stage, "--json")
        code, out, err = zephyr_command(*whole)
        assert code == 0, err
        result = json.loads(out)
        assert result["status"] == "ran" and result["stage"] == stage
        if stage != "report":  # the page shows seconds
            assert result["digest"] == small_run.result["artifacts"][stage]["digest"], stage
        code, out, err = zephyr_command(*whole[:-1])
        assert code == 0 and f"{stage}: done, " in out and f"{stage}: done already" in err
        if stage == "evaluate":
            nll, accuracy = result["results"]["nll"]["dsft"], result["results"]["reward_accuracy"]["ddpo"]
            low, high = nll["ci95"]
            assert f"  test NLL per token, dsft: {nll['nll_per_token']:.4f} [{low:.4f}, {high:.4f}] (zephyr template)\n" in out
            low, high = accuracy["ci95"]
            assert f"  test reward accuracy, ddpo: {accuracy['accuracy']:.3f} [{low:.3f}, {high:.3f}] over " in out
    assert sorted(p.name for p in made.iterdir()) == sorted(small.STAGES), "a command left something beside what it made"
    code, out, _ = zephyr_command("binarize", made / "rate", "--seed", 3, "--out", made / "binarize", "score=overall", "--json")
    assert json.loads(out)["reason"] == "score 'mean' -> 'overall'"


def test_references_of_another_model_are_refused(
    zephyr_command: Command, small_run: SmallRun, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run.out
    arguments = ["dpo", run / "binarize", "--references", run / "reference", "--chat-template", "zephyr", "--out", tmp_path / "dpo"]
    code, _, err = zephyr_command(*arguments, "--model", tiny_folder)
    assert code == 1 and "the reference log-probabilities are of another model" in last_line(err)
    code, _, err = zephyr_command(*arguments, "--model", run / "sft")
    assert code == 1 and "were computed with chat_template 'tokenizer', not 'zephyr'" in last_line(err)
    code, _, err = zephyr_command(
        "dpo", run / "binarize", "--references", run / "binarize", "--model", run / "sft", "--out", tmp_path / "dpo"
    )
    assert code == 1 and "holds what binarize made" in last_line(err)
    monkeypatch.setenv("HOME", str(run))
    code, _, err = zephyr_command("dpo", run / "binarize", "--references", "~/binarize", "--model", run / "sft", "--out", tmp_path / "dpo")
    assert code == 1 and "holds what binarize made" in last_line(err)
    lines = small.write_lines(tmp_path / "r.jsonl", [{"pair_id": "x", "ref_chosen_logps": float("nan"), "ref_rejected_logps": -1.0}])
    code, _, err = zephyr_command("dpo", run / "binarize", "--references", lines, "--model", run / "sft", "--out", tmp_path / "dpo")
    assert code == 1 and "not a row of `zephyr reference`" in last_line(err)


def test_references_are_asked_for_where_they_are_read(zephyr_command: Command, small_run: SmallRun, tmp_path: Path) -> None:
    run = small_run.out
    arguments = ["dpo", run / "binarize", "--model", run / "sft", "--out", tmp_path / "dpo", "--chat-template", "tokenizer"]
    code, _, err = zephyr_command(*arguments)
    assert code == 2 and last_line(err) == "zephyr: dpo: needs references, and none were given; `zephyr reference` makes them"
    code, _, err = zephyr_command(*arguments, "--references", run / "reference", "objective=simpo")
    assert code == 2 and last_line(err) == "zephyr: dpo: with these settings it reads no references; leave them out"
    code, _, err = zephyr_command(*arguments, "objective=simpo", "train.dtype=float32")
    assert code == 0, err


def test_a_folder_of_the_users_is_not_replaced(zephyr_command: Command, small_run: SmallRun, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    data = small_run.file.parent / "data" / "dialogues-train.jsonl"
    code, _, err = zephyr_command("curate", data, "--out", tmp_path / "mine")
    assert code == 2 and "not empty, and no artifact" in last_line(err)
    code, _, err = zephyr_command("curate", data, "--out", tmp_path / "mine" / "notes.txt")
    assert code == 2 and "is a file" in last_line(err)
    code, _, err = zephyr_command("curate", data, "--out", ".")
    assert code == 2 and "a name of its own" in last_line(err)
    assert small.contents(tmp_path) == {"mine/notes.txt": b"keep"}


TORN = '{"format": 1, "sta'
USERS: dict[str, dict[str, str]] = {
    "a manifest of its own": {"manifest.json": '{"name": "my corpus"}', "a.jsonl": "{}", "README.md": "", ".git/HEAD": "", "data/a": ""},
    "a format of its own": {"manifest.json": '{"format": 1, "name": "my corpus"}', "data/train-00000.parquet": ""},
    "a newer format": {"manifest.json": '{"format": 2, "stage": "curate"}', "data/train-00000.parquet": ""},
    "a manifest that cannot be read": {"manifest.json/x": "", "data/train-00000.parquet": ""},
    "a torn manifest, and rows": {"manifest.json": TORN, "a.jsonl": ""},
    "a torn manifest, and a hidden folder": {"manifest.json": TORN, "README.md": "", ".git/HEAD": ""},
    "a torn manifest, and data": {"manifest.json": TORN, "README.md": "", "data/a.csv": ""},
}


@pytest.mark.parametrize("what", USERS)
def test_a_folder_with_a_manifest_that_is_not_ours_is_not_replaced(
    zephyr_command: Command, small_run: SmallRun, tmp_path: Path, what: str
) -> None:
    for name, text in USERS[what].items():
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).write_text(text)
    code, _, err = zephyr_command("curate", small_run.file.parent / "data" / "dialogues-train.jsonl", "--out", tmp_path / "corpus")
    assert code == 2 and "is not replaced; give another --out" in last_line(err), err
    assert small.contents(tmp_path) == {f"corpus/{name}": text.encode() for name, text in USERS[what].items()}


def test_the_settings_of_a_recipes_objective_do_not_hinder_another(small_run: SmallRun, tmp_path: Path) -> None:
    def reference(text: str, *settings: str) -> dict[str, Any]:
        recipe = small.write_recipe(tmp_path / "r.yaml", {**small_run.recipe, "dpo": json.loads(text)})
        inputs, sft = {"preferences": [str(small_run.out / "binarize")]}, str(small_run.out / "sft")
        return api.stage("reference", "dpo", inputs, tmp_path / "reference", settings=settings, model=sft, recipe=recipe)

    assert reference('{"objective": "simpo"}', "objective=cdpo")["status"] == "ran"
    with pytest.raises(UsageError, match=r"dpo.gamma: objective cdpo does not read it"):
        reference('{"objective": "simpo", "gamma": 0.7}', "objective=cdpo")


# --- bad input ---------------------------------------------------------------------------------------------------


def spoil_dialogue(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        rows = small.dialogues()
        change(rows[2])
        small.write_lines(data / "dialogues-train.jsonl", rows[:8])

    return spoil


def empty_turn(row: dict[str, Any]) -> None:
    row["messages"][1]["content"] = " \n"


def no_assistant(row: dict[str, Any]) -> None:
    del row["messages"][1:]


def number_turn(row: dict[str, Any]) -> None:
    row["messages"][0]["content"] = 7


def two_systems(row: dict[str, Any]) -> None:
    row["messages"][:0] = [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}]


def taken_id(row: dict[str, Any]) -> None:
    row["prompt_id"] = small.dialogues()[0]["prompt_id"]


def same_answers(data: Path) -> None:
    turn = {"prompt": "Q?", "chosen": "Same.", "rejected": "Same."}
    small.write_lines(data / "pairs.jsonl", [{"prompt": "P?", "chosen": "A.", "rejected": "B."}, turn])


BAD = {
    "an empty turn": ({}, spoil_dialogue(empty_turn), r"curate: .*dialogues-train.jsonl:3: `messages\[1\]`: the assistant turn is empty"),
    "no assistant": ({}, spoil_dialogue(no_assistant), r"curate: .*:3: `messages` has no assistant turn"),
    "a number": ({}, spoil_dialogue(number_turn), r"curate: .*:3: `messages\[0\]`: `content` is a number, not a text"),
    "two systems": ({}, spoil_dialogue(two_systems), r"curate: .*:3: `messages\[1\]`: a second system turn"),
    "ids that repeat": (
        {},
        spoil_dialogue(taken_id),
        r"curate: .*:3: the id [0-9a-f]{16} repeats with different content \(first at .*:1\)",
    ),
    "identical answers": (
        {"complete": None, "rate": None, "binarize": {"data": ["DATA/pairs.jsonl"]}},
        same_answers,
        r"binarize: .*pairs.jsonl:2: `chosen` and `rejected` are the same answer",
    ),
    "no answers": (
        {"curate": None, "sft": None, "complete": None, "rate": None, "binarize": {"data": ["DATA/pairs.jsonl"]}},
        lambda data: small.write_lines(data / "pairs.jsonl", [{"prompt": "P?", "completions": []}]),
        r"binarize: .*pairs.jsonl:1: `completions` is missing or empty",
    ),
    "nothing of a pair": (
        {"curate": None, "sft": None, "complete": None, "rate": None, "binarize": {"data": ["DATA/pairs.jsonl"]}},
        lambda data: small.write_lines(data / "pairs.jsonl", [{"question": "P?", "good": "a", "bad": "b"}]),
        r"binarize: .*pairs.jsonl:1: neither `chosen` and `rejected` nor `completions`; the row has 'question', 'good', 'bad'",
    ),
    "no turns": (
        {"curate": None, "sft": None, "complete": None, "rate": None, "binarize": {"data": ["DATA/pairs.jsonl"]}},
        lambda data: small.write_lines(data / "pairs.jsonl", [{"chosen": [], "rejected": []}]),
        r"binarize: .*pairs.jsonl:1: `chosen`",
    ),
    "no turns at all": ({}, spoil_dialogue(lambda row: row.pop("messages")), r"curate: .*:3: `messages`"),
    "turns that are a text": ({}, spoil_dialogue(lambda row: row.update(messages="Hi!")), r"curate: .*:3: `messages` is a text"),
    "turns that are none": ({}, spoil_dialogue(lambda row: row.update(messages=[None, 3])), r"curate: .*:3: `messages\[0\]`"),
    "half a character": (
        {},
        spoil_dialogue(lambda row: row["messages"][0].update(content="a \ud800 b")),
        r"curate: .*:3: `messages\[0\].content` holds a lone surrogate",
    ),
    "answers that are no texts": (
        {"complete": None, "rate": None, "binarize": {"data": ["DATA/pairs.jsonl"]}},
        lambda data: small.write_lines(data / "pairs.jsonl", [{"prompt": "P?", "chosen": 3, "rejected": None}]),
        r"binarize: .*pairs.jsonl:1: `chosen`",
    ),
    "no such data": ({"curate": {"data": ["DATA/nothing.jsonl"]}}, None, r"nothing.jsonl: no such file or folder"),
    "cut in two": ({}, lambda data: (data / "dialogues-train.jsonl").write_text('{"messages": ['), r"jsonl:1: not valid JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows(zephyr_command: Command, tiny_folder: Path, tmp_path: Path, name: str) -> None:
    changes, spoil, message = BAD[name]
    values = small.recipe(tmp_path / "data", tiny_folder)
    values.update({k: json.loads(json.dumps(v).replace("DATA", str(tmp_path / "data"))) for k, v in changes.items()})
    if spoil:
        spoil(tmp_path / "data")
    recipe = small.write_recipe(tmp_path / "r.yaml", {k: v for k, v in values.items() if v is not None})
    refused(zephyr_command, ["run", recipe, "--out", tmp_path / "run"], message)
    assert small.leftovers(tmp_path / "run") == []


def refused(zephyr_command: Command, arguments: list[object], message: str, code: int | None = None) -> None:
    """It ends with one clear line, and a traceback only where one is asked for, wherever `--debug` stands."""
    ended, out, err = zephyr_command(*arguments)
    assert ended in (1, 2) if code is None else ended == code
    assert out == "" and "Traceback" not in err
    complaint = [line for line in err.splitlines() if line.startswith("zephyr: ")]
    assert len(complaint) == 1 and re.search(message, complaint[0]), err
    for given in (["--debug", *arguments], [*arguments, "--debug"]):
        again, _, err = zephyr_command(*given)
        assert again == ended and "Traceback (most recent call last)" in err and re.search(message, err)


def test_bad_models(zephyr_command: Command, small_run: SmallRun, tiny_folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(tiny_folder, tmp_path / "bare"))
    for file in bare.glob("tokenizer*"):
        file.unlink()
    no_config = tmp_path / "empty"
    no_config.mkdir()
    torn = Path(shutil.copytree(tiny_folder, tmp_path / "torn"))
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:5000])
    for overrides, message in [
        ([f"model.path={bare}"], "a model folder without a tokenizer"),
        (["model.chat_template=tokenizer"], "has no chat template; set `model.chat_template: zephyr`"),
        ([f"model.chat_template={tmp_path}/no.jinja"], "model.chat_template: there is no file .*no.jinja; it is `zephyr`, `tokenizer`"),
        ([f"model.path={small_run.file}"], "a model is a folder .* this is a file"),
        ([f"model.path={tmp_path}/nothing"], "no such folder; a model is a folder, a hub name .* smollm2-135m-instruct"),
        ([f"model.path={no_config}"], "not a model folder"),
        ([f"model.path={torn}"], "the model cannot be loaded"),
        (["model.path=nobody/nothing"], "nobody/nothing: its (configuration|tokenizer) cannot be loaded"),
    ]:
        refused(zephyr_command, ["run", small_run.file, *overrides, "--out", tmp_path / "run", "--until", "sft"], message)
        assert not (tmp_path / "run" / "sft").exists() and small.leftovers(tmp_path / "run") == []


def test_bad_recipes(zephyr_command: Command, small_run: SmallRun, tmp_path: Path) -> None:
    for override, message in [
        ("dpo.betta=1", r"dpo.betta: unknown key; did you mean beta\?"),
        ("dpo.beta=.nan", "dpo.beta: is nan; a finite number is needed"),
        ("dpo.learning_rate='5e-7'", "dpo.learning_rate: is the text '5e-7'; write a number without quotes"),
        ("sft.epochs=1.5", "sft.epochs"),
        ("nonsense", "an override is written section.key=value"),
    ]:
        refused(zephyr_command, ["run", small_run.file, override, "--out", tmp_path / "run"], message, code=2)
    refused(zephyr_command, ["run", tmp_path / "no.yaml"], "no such recipe; `zephyr init` writes one", code=2)
    refused(zephyr_command, ["complete", tmp_path, "--out", tmp_path / "c", "--recipe", tmp_path / "no.yaml"], "no such recipe", code=2)
    assert not (tmp_path / "run").exists()


def test_a_defect_is_called_one(zephyr_command: Command, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(one, "execute", broken)
    refused(
        zephyr_command, ["run", small_run.file, "--out", tmp_path / "run"], "a defect of zephyr, please report it: KeyError: 'surprise'", 1
    )


def test_a_full_disk_is_said_alike_everywhere() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        text, code = cli._explain(OSError(number, os.strerror(number), "/x/hashes.json"))
        assert code == 1
        assert text == "no space left on the disk of /x/hashes.json; finished stages are kept: make room and run the same command again"
    assert cli._explain(OSError(errno.EACCES, "Permission denied", "/x")) == ("/x: Permission denied", 1)


def test_an_interrupt_says_what_the_command_will_go_on_from(
    zephyr_command: Command, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zephyr.stages import sft

    def interrupted(_config: object, _inputs: object, out: Draft) -> None:
        (out.checkpoints / "step-00000001").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(sft, "run", interrupted)
    code, _, err = zephyr_command("run", small_run.file, "--out", cut(small_run, tmp_path / "run", "sft"), "--until", "sft")
    assert code == 130 and last_line(err) == (
        "zephyr: interrupted in sft; finished stages and what this one has done so far are kept, run the same command again to go on from there"
    )


@pytest.mark.parametrize(
    ("stage", "error", "said"),
    [
        ("curate", MemoryError(), "(MemoryError)"),
        (
            "reference",
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            f"(RuntimeError: DefaultCPUAllocator: can't allocate memory){one.SCORED}",
        ),
        (
            "dpo",
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            f"(RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`){one.TRAINED}",
        ),
    ],
)
def test_not_enough_memory(
    zephyr_command: Command,
    small_run: SmallRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    error: Exception,
    said: str,
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(one, "execute", full)
    command = ["run", small_run.file, "--out", cut(small_run, tmp_path / "run", stage)]
    refused(zephyr_command, command, re.escape(f"{stage}: not enough memory {said}") + "$", 1)


# --- faults in every stage ---------------------------------------------------------------------------------------

FAULTS = ("SIGINT", "SIGTERM", "limit:150")
GOES_ON = "zephyr: interrupted in {}; finished stages{} are kept, run the same command again to go on"
# what a stage leaves for its next run: prepared dialogues, and what it has computed
LEAVES = {"sft": "/prepared/", "reference": "/parts/", "evaluate": "/parts/"}
ENDS = {"SIGINT": (130, GOES_ON), "SIGTERM": (143, GOES_ON), "limit": (1, "zephyr: {}: no space left on the disk of ")}


@dataclass
class Fault:
    """A command that a fault ended: its case, what stood in the run's folder before, and how it ended."""

    case: dict[str, Any]
    before: dict[str, bytes]
    end: dict[str, Any]

    @property
    def out(self) -> Path:
        return Path(self.case["arguments"][3])


def cut(small_run: SmallRun, to: Path, stage: str) -> Path:
    """The run as it is when `stage` comes next."""
    out = small_run.copy(to)
    for later in small.STAGES[small.STAGES.index(stage) :]:
        shutil.rmtree(out / later)
    return out


@pytest.fixture(scope="module")
def faults(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fault]:
    """Every fault in every stage, and some in a row; all in one interpreter that forks, since each start takes seconds."""
    folder = tmp_path_factory.mktemp("faults")
    cases: dict[str, dict[str, Any]] = {}

    def add(name: str, stage: str | None, fault: str | None, out: Path, *more: str) -> None:
        cases[name] = {"arguments": ["run", str(small_run.file), "--out", str(out), *more], "stage": stage, "fault": fault}

    places = [(stage, fault) for stage in small.STAGES for fault in FAULTS]
    for stage, fault in [*places, ("sft", "limit:60000"), ("dpo", "limit:60000")]:  # the latter has room for all but the weights
        add(f"{stage} {fault}", stage, fault, cut(small_run, folder / f"{stage}-{fault.replace(':', '-')}", stage))
    row = cut(small_run, folder / "row", "sft")
    add("in a row, 1", "sft", "SIGINT", row)
    add("in a row, 2", "dpo", "SIGTERM", row)
    add("in a row, 3", None, None, row, "--json")
    add("debug", "binarize", "SIGINT", cut(small_run, folder / "debug", "binarize"), "--debug")
    add("remake", "dpo", "SIGINT", small_run.copy(folder / "remake"), "dpo.beta=0.3")
    before = {name: small.contents(Path(case["arguments"][3]), without=(pipeline.FINGERPRINTS,)) for name, case in cases.items()}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "faulty.py")],
        input=json.dumps(list(cases.values())),
        capture_output=True,
        text=True,
        timeout=850,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = zip(cases.items(), json.loads(done.stdout), strict=True)
    return {name: Fault(case, before[name], end) for (name, case), end in found}


@pytest.mark.timeout(900)  # some thirty processes, by the first of these tests
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", small.STAGES)
def test_a_fault_loses_nothing_that_was_finished(faults: dict[str, Fault], stage: str, fault: str) -> None:
    struck(faults[f"{stage} {fault}"])


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_disk_too_small_for_the_weights(faults: dict[str, Fault], stage: str) -> None:
    struck(faults[f"{stage} limit:60000"])


def struck(fault: Fault) -> None:
    stage, kind = fault.case["stage"], fault.case["fault"].split(":")[0]
    code, message = ENDS[kind]
    end, out = fault.end, fault.out
    assert (end["code"], end["stdout"]) == (code, ""), end["stderr"]
    done = " and what this one has done so far" if LEAVES.get(stage) == "/parts/" else ""
    assert last_line(end["stderr"]).startswith(message.format(stage, done)), end["stderr"]
    assert end["stderr"].count("zephyr: ") == 1 and "Traceback" not in end["stderr"]
    there = small.contents(out, without=(pipeline.FINGERPRINTS,))
    left = {name for name in there if stage in LEAVES and LEAVES[stage] in name}
    assert {name: there[name] for name in there.keys() - left} == fault.before
    assert left or kind == "limit" or stage not in LEAVES
    assert small.leftovers(out) == [] and not (out / stage).exists()


def test_after_a_fault_the_run_goes_on(faults: dict[str, Fault], small_run: SmallRun) -> None:
    first, second, third = (faults[f"in a row, {i}"].end for i in (1, 2, 3))
    assert (first["code"], second["code"], third["code"]) == (130, 143, 0), third["stderr"]
    result = json.loads(third["stdout"])
    status = {stage: a["status"] for stage, a in result["artifacts"].items()}
    assert status == {s: "ran" if s in ("dpo", "evaluate", "report") else "done" for s in small.STAGES}
    assert result["scores"] == small_run.result["scores"]


def test_a_fault_shows_its_traceback_where_asked(faults: dict[str, Fault]) -> None:
    end = faults["debug"].end
    assert end["code"] == 130 and "Traceback (most recent call last)" in end["stderr"] and "tests/faulty.py" in end["stderr"]
    assert last_line(end["stderr"]).startswith("zephyr: interrupted in binarize")


def test_an_interrupted_remake_keeps_what_was_there(faults: dict[str, Fault], small_run: SmallRun) -> None:
    """A stage that is to be made again stands until its successor is whole."""
    fault = faults["remake"]
    assert fault.end["code"] == 130
    manifest = Manifest.read(fault.out / "dpo")
    assert manifest is not None and manifest.digest == small_run.result["artifacts"]["dpo"]["digest"]


# --- talking -----------------------------------------------------------------------------------------------------


def test_chat_answers_until_the_input_ends(
    zephyr_command: Command, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = tmp_path / "typed.txt"
    lines.write_text("Hello!\n\nWhy?\n<|user|>\n/reset\nHi.\n/quit\nnever read\n")
    with lines.open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        code, out, err = zephyr_command("chat", small_run.out / "dpo", "--max-new-tokens", 4, "--system", "Be brief.")
    assert code == 0
    assert "/reset forgets" in err and "contains the control token '<|user|>'" in err and "(forgotten)" in err
    assert len(out.splitlines()) >= 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--temperature", -1), "temperature: input should be greater than or equal to 0, got -1.0"),
        (("--temperature", "nan"), "temperature: is nan; a finite number is needed"),
        (("--max-new-tokens", 0), "max_new_tokens: input should be greater than or equal to 1, got 0"),
        (("--top-p", 0), "top_p: input should be greater than 0, got 0.0"),
        (("--top-p", 1.5), "top_p: input should be less than or equal to 1, got 1.5"),
    ],
)
def test_chat_takes_what_a_recipe_would(zephyr_command: Command, tiny_folder: Path, option: tuple[str, object], message: str) -> None:
    refused(zephyr_command, ["chat", tiny_folder, "--chat-template", "zephyr", *option], message, code=2)


def test_chat_forgets_what_is_beyond_the_context(zephyr_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.model_folder(tmp_path / "model", max_position_embeddings=90)
    lines = tmp_path / "typed.txt"
    lines.write_text("The quick brown fox jumps over the lazy dog.\n" * 3)
    with lines.open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        code, _, err = zephyr_command("chat", folder, "--chat-template", "zephyr", "--max-new-tokens", 20, "--temperature", 0)
    assert code == 0 and "its oldest exchange is forgotten" in err


def test_models_list_says_what_is_there(zephyr_command: Command, own_cache: Path) -> None:
    code, out, _ = zephyr_command("models", "list", "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["name"] == "smollm2-135m-instruct" and row["ready"] is False and row["folder"].startswith(str(own_cache))
    assert "not fetched yet" in zephyr_command("models", "list")[1]
    code, _, err = zephyr_command("models", "fetch", "smollm3")
    assert code == 2 and "known are smollm2-135m-instruct" in err
