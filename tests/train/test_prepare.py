"""Prepared dialogues: the same as one at a time in memory, whole or not there, found again, and none held."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import small
import tiny
from zephyr import sources, world
from zephyr.artifacts import Draft, Manifest
from zephyr.durable import aside
from zephyr.errors import DataError, ModelError
from zephyr.models import load
from zephyr.models.load import ModelRef
from zephyr.recipe import DataSource, SFTConfig
from zephyr.records import parse_dialogue
from zephyr.sources import Located
from zephyr.text.chat import ChatFormat
from zephyr.text.tokens import Encoder
from zephyr.train import encode, prepare, prepared, rows
from zephyr.train.batches import Example, pack
from zephyr.train.loop import Trainer
from zephyr.train.prepare import Work
from zephyr.train.prepared import Packs
from zephyr.train.tasks import SFT, Dialogues

TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte": lambda: tiny.byte_tokenizer(template=None),
    "llama3": lambda: tiny.llama3_tokenizer(template=None),
    "llama2": lambda: tiny.sentencepiece_tokenizer(prefix="always", template=None),
}


class PlainEncoder(Encoder):
    """Tokenizes by a plain call, as anybody would."""

    _is_plain = False


class PlainChat(ChatFormat):
    @cached_property
    def _encoder(self) -> Encoder:
        return PlainEncoder(self.tokenizer, self._control)


@cache
def chat(name: str = "byte") -> ChatFormat:
    return ChatFormat(TOKENIZERS[name](), "zephyr")


@cache
def plain_chat(name: str = "byte") -> ChatFormat:
    return PlainChat(TOKENIZERS[name](), "zephyr")


def draft(folder: Path) -> Draft:
    return Draft(folder, folder / "final", Manifest("sft", "key", {}, {}))


def work(data: Sequence[Path], config: SFTConfig, folder: Path, model: ModelRef | None = None) -> Work:
    return Work([DataSource(path=str(path)) for path in data], model or ModelRef("", ""), "zephyr", config, folder / "prepared", "key")


def plainly(data: Sequence[Path], chat: ChatFormat, config: SFTConfig, out: Draft) -> dict[str, list[Dialogues]]:
    """All rows in memory, one after the other, in Python's own lists."""
    by_split = sources.collect([DataSource(path=str(p)) for p in data], parse_dialogue, out, invalid=None, test_fraction=0.0)
    return {split: _plainly(by_split[split], chat, config, out, split) for split in by_split}


def _plainly(items: Sequence[Located[Any]], chat: ChatFormat, config: SFTConfig, out: Draft, split: str) -> list[Dialogues]:
    found: list[tuple[str, Example]] = []
    cut = 0
    for item in items:
        messages = item.record.messages
        try:
            while len((tokens := chat.encode(messages, loss_on=config.loss_on)).ids) > config.max_length:
                messages = messages[:-2]
                if not any(m["role"] == "assistant" for m in messages):
                    break
            else:
                cut += messages != item.record.messages
                found.append((prepare.name_of(item.record), Example(tokens.ids, tokens.learnt)))
                continue
        except DataError as error:
            out.drop(encode.unencodable(error), item.where, item.record.row())
            continue
        out.drop(encode.TOO_LONG, item.where, item.record.row())
    if cut:
        out.note(f"{cut} {split} dialogues lost their last exchanges: they were longer than sft.max_length ({config.max_length} tokens).")
    if split == "test" or not config.packing:
        return [Dialogues(name, (example,)) for name, example in found]
    bins = pack([len(example.ids) for _, example in found], config.max_length)
    return [Dialogues(prepared.pack_name([found[i][0] for i in members]), tuple(found[i][1] for i in members)) for members in bins]


def seen(items: Sequence[Any]) -> list[Any]:
    return [(item.id, item.examples, item.weight, item.tokens) for item in items]


def assert_the_same(data: Sequence[Path], name: str, config: SFTConfig, folder: Path) -> tuple[Packs, Packs]:
    shutil.rmtree(folder, ignore_errors=True)
    ours, theirs = draft(folder / "ours"), draft(folder / "theirs")
    for out in (ours, theirs):
        out.path.mkdir(parents=True)
    train, test = prepare.dialogues(work(data, config, folder), lambda: chat(name), ours)
    expected = plainly(data, plain_chat(name), config, theirs)
    assert seen(train) == seen(expected["train"]) and seen(test) == seen(expected["test"])
    assert ours._dropped == theirs._dropped and ours.manifest.rows_in == theirs.manifest.rows_in
    assert sorted(ours.manifest.notes) == sorted(theirs.manifest.notes)
    lines = [sorted((o.path / "dropped" / "dropped.jsonl").read_text().splitlines()) if o._dropped else [] for o in (ours, theirs)]
    assert lines[0] == lines[1]
    return train, test


# --- the same as plainly -----------------------------------------------------------------------------------------

words = st.sampled_from(
    ["Hello", "the sky", " ", "\n\n", "Übung", "你好", "a", "7", "</s>", "<|im_end|>", "<|user|>", "x" * 40, "  two", "\u2581"]
)
texts = st.lists(words, min_size=1, max_size=12).map("".join).filter(str.strip)


@st.composite
def a_row(draw: st.DrawFn) -> dict[str, Any]:
    turns = draw(st.lists(texts, min_size=2, max_size=7).filter(lambda t: len(t) % 2 == 0))
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)]
    if draw(st.booleans()):
        messages.insert(0, {"role": "system", "content": draw(texts)})
    return {"messages": messages, **({"prompt_id": draw(st.sampled_from("abcdefgh"))} if draw(st.integers(0, 9)) == 0 else {})}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    train=st.lists(a_row(), min_size=1, max_size=12),
    test=st.lists(a_row(), max_size=4),
    again=st.lists(st.integers(0, 99), max_size=4),
    name=st.sampled_from(sorted(TOKENIZERS)),
    length=st.integers(40, 300),
    packing=st.booleans(),
    loss_on=st.sampled_from(["assistant", "all"]),
)
def test_random_dialogues_come_out_as_they_do_plainly(
    tmp_path: Path, train: Any, test: Any, again: Any, name: str, length: int, packing: bool, loss_on: Any
) -> None:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    train = train + [train[i % len(train)] for i in again]  # some are there twice
    files = [small.write_lines(folder / "train.jsonl", train), small.write_lines(folder / "test.jsonl", test)]
    config = SFTConfig(max_length=length, packing=packing, loss_on=loss_on)
    data = [folder] if test else [files[0]]
    try:
        plainly(data, plain_chat(name), config, draft(tmp_path))
    except DataError as error:  # an id that stands for two prompts, a prompt in both splits: said in the same words
        with pytest.raises(DataError) as ours:
            prepare.dialogues(work(data, config, tmp_path / "ours"), lambda: chat(name), draft(tmp_path))
        assert str(ours.value) == str(error)
    else:
        assert_the_same(data, name, config, tmp_path / "both")


def test_a_dialogue_of_train_and_test_leaves_train(data: Path, tmp_path: Path) -> None:
    """Where its split was drawn; where both are given it is refused. The test stays what it was."""
    again = data.read_text().splitlines()[20:23]
    for name in ("test", "train"):
        (tmp_path / "given").mkdir(exist_ok=True)
        (tmp_path / "given" / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in again))
        if name == "test":
            train, test = assert_the_same([data, tmp_path / "given"], "byte", CONFIG, tmp_path / "both")
            assert len(test) == 3 and len(train.split) == 147 - 2  # of 150 the three go, and two that cannot be learnt
    with pytest.raises(DataError, match=r"^3 prompts are in both train and test, .*first: .*/train\.jsonl:1 and .*/test\.jsonl:1\)"):
        rows.survey([DataSource(path=str(tmp_path / "given"))], draft(tmp_path / "refused"))


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_real_dialogues_come_out_as_they_do_plainly(shared: Path, tmp_path: Path, name: str) -> None:
    with gzip.open(shared / "data" / "feedback" / "ultrafeedback_binarized_1k.jsonl.gz", "rt", encoding="utf-8") as file:
        given_rows = [json.loads(line) for line in file][:300]
    made = []
    for row in given_rows:
        turns = [row["chosen"], row["rejected"]]
        turns = [text if isinstance(text, str) else text[-1]["content"] for text in turns]
        if all(text.strip() for text in (row["prompt"], *turns)):
            says = [("user", row["prompt"]), ("assistant", turns[0]), ("user", "Say it again."), ("assistant", turns[1])]
            made.append({"messages": [{"role": role, "content": text} for role, text in says]})
    file_ = small.write_lines(tmp_path / "rows.jsonl", made)
    train, _ = assert_the_same([file_], name, SFTConfig(max_length=2048), tmp_path / "both")
    assert len(train.split) > 200 and len(train) < len(train.split)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = random.Random(0)
    lines = [
        {"messages": [{"role": "assistant" if t % 2 else "user", "content": f"{i} {t} " + "so " * rng.randrange(1, 30)} for t in range(4)]}
        for i in range(150)
    ]
    lines[7]["messages"][0]["content"] = "What is <|im_end|>?"
    lines[9]["messages"][0]["content"] = "long " * 200
    return small.write_lines(tmp_path / "rows.jsonl", lines)


CONFIG = SFTConfig(max_length=160, batch_size=4, epochs=1, evaluate_every=1000)


def test_the_weights_are_those_of_plain_training(data: Path, tmp_path: Path) -> None:
    train, test = assert_the_same([data], "byte", CONFIG, tmp_path / "both")
    plain = plainly([data], plain_chat(), CONFIG, draft(tmp_path))["train"]
    weights = []
    for items in (train[:12], plain[:12]):
        torch.manual_seed(0)
        trainer = Trainer(tiny.tiny_model(), SFT(), CONFIG, torch.float32, 512, 0, lambda _: None)
        trainer.train(items, list(test), "test")
        weights.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@given(st.lists(st.booleans(), max_size=12).map(tuple))
def test_spans_say_what_is_learnt(learnt: tuple[bool, ...]) -> None:
    spans = prepared.spans_of(learnt)
    assert tuple(any(start <= at < end for start, end in spans) for at in range(len(learnt))) == learnt
    assert all(start < end for start, end in spans) and all(a[1] < b[0] for a, b in pairwise(spans))


# --- whole, or not there -----------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


def killed_at(number: int, todo: Work, out: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Prepare in a process that is killed at its n-th step to the disk; False if there are fewer."""
    if (pid := os.fork()) == 0:
        steps = iter(range(number, -1, -1))

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def step(*args: Any, **settings: Any) -> Any:
                if next(steps) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **settings)

            return step

        monkeypatch.setattr(prepared._File, "write", counted(prepared._File.write))
        monkeypatch.setattr(prepared, "sync", counted(prepared.sync))
        monkeypatch.setattr(prepared, "write_text", counted(prepared.write_text))
        monkeypatch.setattr(Path, "replace", counted(Path.replace))
        try:
            prepare.dialogues(todo, chat, draft(out))
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def test_a_kill_leaves_nothing_that_is_taken_for_whole(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = work([data], CONFIG, tmp_path / "whole")
    prepare.dialogues(whole, chat, draft(tmp_path))
    expected = files_of(whole.folder)
    todo = work([data], CONFIG, tmp_path / "cut")
    most = 1000  # steps; there are some 900 writes, then those that make it durable
    points = [0, 1, 2, *random.Random(0).sample(range(3, 880), 8), *range(885, most)]
    fell = 0
    for at in points:
        shutil.rmtree(todo.folder.parent, ignore_errors=True)
        if not killed_at(at, todo, tmp_path, monkeypatch):
            break
        fell += 1
        assert prepared.seal_of(todo.folder, "key") is None or files_of(todo.folder) == expected
        if at % 3 == 0:
            prepare.dialogues(todo, chat, draft(tmp_path))
            assert files_of(todo.folder) == expected and [p.name for p in todo.folder.parent.iterdir()] == ["prepared"]
    assert fell > 20 and at < most


def test_what_is_there_is_used_and_what_is_damaged_made_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo, first, second = work([data], CONFIG, tmp_path), draft(tmp_path / "1"), draft(tmp_path / "2")
    for out in (first, second):
        out.path.mkdir()
    train, _ = prepare.dialogues(todo, chat, first)
    assert first._dropped.total() == 2
    expected, packs = files_of(todo.folder), seen(train)

    def fails() -> ChatFormat:
        raise AssertionError("it was there")

    again, _ = prepare.dialogues(todo, fails, second)
    assert seen(again) == packs and second._dropped == first._dropped and second.manifest.notes == first.manifest.notes
    rng = random.Random(1)
    for name, content in expected.items():
        for _ in range(3):
            if not content:
                continue
            damaged = bytearray(content)
            at = rng.randrange(len(damaged))
            damaged[at] ^= 1 << rng.randrange(8)
            for bad in (bytes(damaged), content[:at]):
                (todo.folder / name).write_bytes(bad)
                assert prepared.seal_of(todo.folder, "key") is None
        (todo.folder / name).unlink()
        assert prepared.seal_of(todo.folder, "key") is None
        (todo.folder / name).write_bytes(content)
    assert prepared.seal_of(todo.folder, "key") and prepared.seal_of(todo.folder, "another") is None
    (todo.folder / "train.ids").write_bytes(b"")
    train, _ = prepare.dialogues(todo, chat, draft(tmp_path))
    assert seen(train) == packs and files_of(todo.folder) == expected


def test_what_a_process_at_work_has_begun_is_left_to_it(data: Path, tmp_path: Path) -> None:
    """One that was orphaned ends by itself; until then it must neither lose its files nor write among another's."""
    todo = work([data], CONFIG, tmp_path / "shared")
    left = todo.folder.parent / ".prepared.0123abcd.partial"
    with aside(todo.folder) as theirs:  # locked, as by a process that lives
        left.mkdir()
        for folder in (theirs, left):
            (folder / "train.ids").write_bytes(b"half")
        prepare.dialogues(todo, chat, draft(tmp_path))
        assert sorted(p.name for p in todo.folder.parent.iterdir()) == sorted([theirs.name, "prepared"])
        assert (theirs / "train.ids").read_bytes() == b"half"


def test_a_full_disk_leaves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = work([data], CONFIG, tmp_path / "full")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared, "sync", full)
    with pytest.raises(OSError, match="No space"):
        prepare.dialogues(todo, chat, draft(tmp_path))
    assert list(todo.folder.parent.iterdir()) == []


def test_few_dialogues_are_held(data: Path, tmp_path: Path) -> None:
    alive: set[int] = set()
    most = 0

    def watched() -> Iterator[tuple[int, Located[Any]]]:
        nonlocal most
        for i in range(2000):
            item = Located(f"row {i}", parse_dialogue({"messages": [{"role": r, "content": f"{i}"} for r in ("user", "assistant")]}))
            alive.add(i)
            weakref.finalize(item, alive.discard, i)
            most = max(most, len(alive))
            yield rows.TRAIN, item

    with prepared.Writer(tmp_path / "prepared", "key") as to:
        prepare.write_rows(watched(), 2000, chat(), CONFIG, to)
    assert most <= prepare.BATCH * (min(world.processors(), prepare.MOST_THREADS) + 3)


def test_a_system_that_knows_no_affinity_has_processors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert world.processors() == os.cpu_count()
    assert list(prepare._in_order(sum, [[1, 2], [3]])) == [([1, 2], 3), ([3], 3)]


# --- in a process of its own -------------------------------------------------------------------------------------


def test_a_process_without_torch_makes_the_same(data: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies in the working directory."""
    (tmp_path / "tokenizers.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    here, there = (work([data], CONFIG, tmp_path / name, ModelRef(str(tiny_folder), "")) for name in ("here", "there"))
    fates = rows.survey(here.data, draft(tmp_path))
    prepare.write(here, fates, load.load_chat(here.model, "zephyr"))
    prepare._write_elsewhere(there, fates)
    assert files_of(here.folder) == files_of(there.folder) != {}


# rows come from the library `datasets`, as those of the hub do
DATASETS = """
import os, sys
from zephyr.train import prepare, rows
each = rows.each
def loaded(data, fates):
    import datasets
    datasets.load_dataset("json", data_files=data[0].path, cache_dir=os.environ["THERE"])
    yield from each(data, fates)
rows.each = loaded
prepare.main()
assert "torch" not in sys.modules
"""


def test_what_reads_the_hub_needs_no_torch_either(data: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", str(tmp_path / "cache"))
    started = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **given: started([command[0], "-c", DATASETS], **given))
    todo = work([data], CONFIG, tmp_path / "hub", ModelRef(str(tiny_folder), ""))
    prepare._write_elsewhere(todo, rows.survey(todo.data, draft(tmp_path)))
    assert prepared.seal_of(todo.folder, "key")


def test_what_goes_wrong_there_is_said_here(data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    model = ModelRef(str(tiny_folder), "")
    too_long = work([data], SFTConfig(max_length=10**6), tmp_path / "long", model)
    fates = rows.survey(too_long.data, draft(tmp_path))
    with pytest.raises(ModelError, match=r"sft\.max_length"):
        prepare._write_elsewhere(too_long, fates)
    with pytest.raises(DataError, match="had 149 rows at first and 150 now"):
        prepare._write_elsewhere(work([data], CONFIG, tmp_path / "more", model), fates[:-1])
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        prepare._write_elsewhere(work([data], CONFIG, tmp_path / "file", model), fates)


def test_it_ends_when_nobody_waits_for_it(data: Path, tmp_path: Path) -> None:
    todo = work([data], CONFIG, tmp_path / "orphan")
    with pytest.raises(SystemExit):
        prepare.write(todo, rows.survey(todo.data, draft(tmp_path)), chat(), parent=os.getppid() + 1)
    assert list(todo.folder.parent.iterdir()) == []
