"""Checkpoints: going on from one gives the same bytes, a damaged one is found before anything is read from it."""

from __future__ import annotations

import errno
import math
import os
import random
import resource
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import zephyr
from conftest import SmallRun
from zephyr.errors import NonFiniteError, UsageError
from zephyr.recipe import SFTConfig
from zephyr.train import checkpoint, pieces, sealing, session
from zephyr.train.batches import Example
from zephyr.train.checkpoint import Checkpoints, Position
from zephyr.train.loop import Trainer
from zephyr.train.optim import adamw
from zephyr.train.tasks import SFT, Dialogues

CONFIG = SFTConfig(batch_size=2, learning_rate=1e-2, epochs=2, evaluate_every=3)
STEPS = 6


def rows(n: int = 6, seed: int = 0) -> list[Dialogues]:
    rng = random.Random(seed)
    return [Dialogues(f"d{i}", (Example(tuple(rng.randrange(3, 480) for _ in range(9)), (True,) * 9),)) for i in range(n)]


def trainer(folder: Path | None, *, minutes: float = 0, keep: int = 2, background: bool = False) -> Trainer[Any]:
    model = tiny.tiny_model(attention_dropout=0.1)  # so that the generator's state matters
    lines: list[dict[str, Any]] = []
    checkpoints = None
    log: Callable[[dict[str, Any]], None] = lines.append
    if folder:
        checkpoints = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", minutes, keep, background=background)

        def log(line: dict[str, Any]) -> None:
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(f"{line['kind']} {line['step']} {line['loss']}\n")

    torch.manual_seed(0)
    return Trainer(model, SFT(), CONFIG, torch.float32, 40, 0, log, checkpoints)


def weights(training: Trainer[Any]) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in training.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], str, dict[str, float]]:
    """Weights, log and last look of a run that nobody stopped and that saved nothing."""
    folder = tmp_path_factory.mktemp("whole")
    training = trainer(folder, minutes=math.inf)
    last = training.train(rows(), rows(3, 1), "dSFT")
    assert not (folder / "checkpoints").exists()
    return weights(training), (folder / "metrics.jsonl").read_text(), last


def stopped(folder: Path, at: int, **settings: Any) -> Trainer[Any]:
    """A run that Ctrl-C ends while it computes the gradients of the step after `at`, whose dropout has been drawn."""
    training = trainer(folder, **settings)
    accumulate = training.accumulate

    def interrupted(batch: Any) -> Any:
        found = accumulate(batch)
        if training.at.step == at:
            raise KeyboardInterrupt
        return found

    training.accumulate = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        training.train(rows(), rows(3, 1), "dSFT")
    return training


@pytest.mark.parametrize("at", range(1, STEPS))
@pytest.mark.parametrize(("minutes", "background"), [(0, False), (math.inf, False), (0, True)])
def test_going_on_gives_the_same_bytes(
    at: int, minutes: float, background: bool, tmp_path: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(tmp_path, at, minutes=minutes, background=background)
    torch.manual_seed(99)  # what another process would start with
    (tmp_path / "metrics.jsonl").unlink()
    again = trainer(tmp_path, minutes=minutes, background=background)
    last = again.train(rows(), rows(3, 1), "dSFT")
    assert f"resumed after step {at} from" in capsys.readouterr().err
    assert same(weights(again), whole[0])
    assert (tmp_path / "metrics.jsonl").read_text() == whole[1]
    assert last == whole[2] and again.at.step == STEPS


def test_stopping_before_the_first_update_saves_nothing(tmp_path: Path, whole: Any) -> None:
    stopped(tmp_path, 0)
    assert not list((tmp_path / "checkpoints").glob("*")) if (tmp_path / "checkpoints").exists() else True
    (tmp_path / "metrics.jsonl").unlink()
    again = trainer(tmp_path)
    again.train(rows(), rows(3, 1), "dSFT")
    assert same(weights(again), whole[0])


def test_ctrl_c_in_an_update_waits_for_its_end(tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    training = trainer(tmp_path, minutes=math.inf)
    step = torch.optim.AdamW.step

    def struck(self: Any, *args: Any) -> Any:
        if training.at.step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", struck)
    with pytest.raises(KeyboardInterrupt):
        training.train(rows(), rows(3, 1), "dSFT")
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
    again = trainer(tmp_path)
    again.train(rows(), rows(3, 1), "dSFT")
    assert same(weights(again), whole[0])


def test_the_last_ones_and_the_best_stay(tmp_path: Path) -> None:
    model = tiny.tiny_model()
    optimizer = adamw(model, CONFIG)
    checkpoints = Checkpoints(tmp_path, tmp_path / "metrics.jsonl", 0, keep=2)
    for step, loss in enumerate([3.0, 1.0, 2.0, 2.5, 1.5, 1.2], 1):
        before = set(tmp_path.glob("step-*"))
        checkpoints.save(Position(step, test={"loss": loss}, test_step=step), model, optimizer)
        assert (tmp_path / f"step-{step:08d}").exists()
        assert len(before) <= 3
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000002", "step-00000005", "step-00000006"]


def test_of_those_behind_one_look_the_nearest_to_it_is_the_best(tmp_path: Path) -> None:
    """The loss was measured before what is trained after it."""
    model = tiny.tiny_model()
    optimizer = adamw(model, CONFIG)
    checkpoints = Checkpoints(tmp_path, tmp_path / "metrics.jsonl", 0, keep=2)
    for step, loss, looked in [(13, 1.0, 10), (18, 1.0, 10), (21, 2.0, 20), (24, 2.0, 20), (27, 2.0, 20)]:
        checkpoints.save(Position(step, test={"loss": loss}, test_step=looked), model, optimizer)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000013", "step-00000024", "step-00000027"]


def test_a_second_interrupt_waits_until_the_first_has_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the checkpoint is written in the background: it is begun when the signal comes, and not there yet."""
    training = trainer(tmp_path, minutes=math.inf, background=True)
    assert training.checkpoints is not None
    step, save = torch.optim.AdamW.step, training.checkpoints.save

    def struck(self: Any, *args: Any) -> Any:
        if training.at.step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args)

    def struck_again(*args: Any) -> None:
        save(*args)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(torch.optim.AdamW, "step", struck)
    monkeypatch.setattr(training.checkpoints, "save", struck_again)
    with pytest.raises(KeyboardInterrupt):
        training.train(rows(), rows(3, 1), "dSFT")
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]


# --- while the training goes on -------------------------------------------------------------------------------------


def test_what_is_written_in_the_background_is_the_state_of_its_step(tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is held back until three more updates are made: it is no newer for that, and nothing is lost meanwhile."""
    training = trainer(tmp_path, background=True, keep=9)
    assert training.checkpoints is not None
    going, write, settle, settled = threading.Event(), sealing._write, training.checkpoints.settle, []

    def held(*args: Any) -> Any:
        assert going.wait(30)
        return write(*args)

    monkeypatch.setattr(sealing, "_write", held)
    monkeypatch.setattr(training.checkpoints, "due", lambda: training.at.step == 1)
    monkeypatch.setattr(training.checkpoints, "settle", lambda **how: (settled.append(training.at.step), settle(**how)))
    accumulate = training.accumulate

    def released(batch: Any) -> Any:
        if training.at.step == 4:
            assert not list((tmp_path / "checkpoints").glob("step-*")) and settled == [1], "it is not there, and nobody waits for it"
            going.set()
        return accumulate(batch)

    training.accumulate = released  # type: ignore[method-assign]
    training.train(rows(), rows(3, 1), "dSFT")
    assert same(weights(training), whole[0])
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    again = trainer(tmp_path, minutes=math.inf)
    again.train(rows(), rows(3, 1), "dSFT")
    assert again.checkpoints is not None and again.checkpoints.resumed.step == 1
    assert same(weights(again), whole[0]) and (tmp_path / "metrics.jsonl").read_text() == whole[1]


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_what_goes_wrong_in_the_background_ends_the_training_and_leaves_the_one_before(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, write, calls = trainer(tmp_path, background=True), sealing._write, []

    def failing(aside: Path, parts: Any) -> Any:
        calls.append(aside.name)
        if len(calls) == 3:
            (aside / "half").write_bytes(b"half")
            raise kind("No space left on device")
        return write(aside, parts)

    monkeypatch.setattr(sealing, "_write", failing)
    with pytest.raises(kind, match="No space left"):
        training.train(rows(), rows(3, 1), "dSFT")
    assert training.at.step <= 4, "it is said before the next is written"
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize(("error", "there"), [(NonFiniteError("nan"), True), (ValueError("a bug"), False)])
def test_what_ends_the_training_finds_the_one_that_is_being_written(error: Exception, there: bool, tmp_path: Path) -> None:
    """What all processes raise together is waited for by all; of anything else nothing half-written stays."""
    training = trainer(tmp_path, background=True)

    def struck(batch: Any) -> Any:
        if training.at.step == 1:
            raise error
        return accumulate(batch)

    accumulate, training.accumulate = training.accumulate, struck  # type: ignore[method-assign]
    with pytest.raises(type(error)):
        training.train(rows(), rows(3, 1), "dSFT")
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"] * there


def test_the_recipe_says_whether_the_training_waits(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(checkpoint, "Writing", lambda step, *args: (begun.append(step), sealing.Writing(step, *args))[1])
    for way, some in (("paused", False), ("auto", torch.cuda.is_available()), ("background", True)):
        run = small_run.copy(tmp_path / way)
        shutil.rmtree(run / "sft")
        zephyr.run(small_run.file, out=run, only="sft", overrides=["train.checkpoint_minutes=0", f"train.checkpoint_writing={way}"])
        assert bool(begun) == some
        assert (run / "sft/model/model.safetensors").read_bytes() == (small_run.out / "sft/model/model.safetensors").read_bytes()
        assert not (run / ".sft.checkpoints").exists()


@pytest.mark.parametrize(("writing", "offload", "background"), [
    ("auto", "none", True), ("auto", "optimizer", False), ("auto", "all", False), ("background", "all", True), ("paused", "none", False),
])  # fmt: skip
def test_on_a_gpu_they_are_written_in_the_background_where_the_host_holds_nothing_else(
    writing: str, offload: str, background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert session.in_the_background(writing, offload) == background
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert session.in_the_background(writing, offload) == (writing == "background")


def test_room_for_a_copy_is_asked_for_in_large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's host allocator rounds each up to a power of two."""
    monkeypatch.setattr(pieces, "BLOCK_BYTES", 1 << 16)
    shapes = [(5, 1001), (), (3,), (40, 130), (0, 7), (300, 100), (5, 1001), (5, 1001), (7,)]
    kinds = [
        torch.float32,
        torch.float32,
        torch.bfloat16,
        torch.int64,
        torch.float32,
        torch.float32,
        torch.uint8,
        torch.float32,
        torch.bool,
    ]
    tensors = {str(i): torch.randint(0, 2, shape).to(kind) for i, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))}
    room = pieces.room_for(tensors)
    for name, tensor in tensors.items():
        room[name].copy_(tensor)
    for name, tensor in tensors.items():
        assert room[name].dtype == tensor.dtype and room[name].shape == tensor.shape and torch.equal(room[name], tensor)
    blocks = {room[name].untyped_storage().data_ptr(): room[name].untyped_storage().nbytes() for name in tensors if tensors[name].numel()}
    assert len(blocks) < len(tensors) / 2 and max(blocks.values()) == tensors["5"].nbytes // 512 * 512 + 512
    assert sum(blocks.values()) < 1.5 * sum(t.nbytes for t in tensors.values())


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run stopped after five steps, with the checkpoints of the fourth and the fifth."""
    folder = tmp_path_factory.mktemp("two")
    stopped(folder, 5)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-00000003", "step-00000004", "step-00000005"]
    shutil.rmtree(folder / "checkpoints" / "step-00000003")  # the best: of the look after it the others know, too
    return folder


def resumed_step(folder: Path) -> int:
    """Where a run would go on from; with weights that show whether anything was read from a damaged file."""
    training = trainer(folder)
    before = weights(training)
    assert training.checkpoints is not None
    step = training.checkpoints.restore(training.model, adamw(training.model, CONFIG)).step
    if step == 0:
        assert same(weights(training), before)
    return step


def test_a_thousand_flipped_bits_and_two_hundred_cuts_are_found(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    newest = folder / "checkpoints" / "step-00000005"
    files = sorted(newest.iterdir())
    assert {f.name for f in files} == {
        "checkpoint.json",
        "metrics.jsonl",
        "generators-00000-00000.safetensors",
        "optimizer-00000-00000.safetensors",
        "weights-00000-00000.safetensors",
    }
    assert checkpoint.verified(newest)[0] is not None
    rng = random.Random(0)
    for number in range(1200):
        file = files[number % len(files)]
        good = file.read_bytes()
        bad = bytearray(good)
        if number < 1000:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        else:
            del bad[rng.randrange(len(bad)) :]
        file.write_bytes(bad)
        body, problem = checkpoint.verified(newest)
        assert body is None and problem, (file.name, number)
        file.write_bytes(good)
    assert checkpoint.verified(newest)[0] is not None
    files[3].write_bytes(files[3].read_bytes()[:-1])
    assert resumed_step(folder) == 4
    assert "checkpoint step-00000005 is damaged (optimizer-00000-00000.safetensors has" in capsys.readouterr().err
    for file in (folder / "checkpoints" / "step-00000004").iterdir():
        file.unlink()
    assert resumed_step(folder) == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_the_disk_does_not_give_now_is_no_damage(number: int, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)

    def refused(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "sha256_file", refused)
        with pytest.raises(UsageError, match=rf"step-00000005: cannot be read \({os.strerror(number)}\); run the same command again"):
            resumed_step(folder)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-00000004", "step-00000005"]
    assert resumed_step(folder) == 5


def test_a_run_goes_on_from_the_one_before_a_damaged_one(two: Path, tmp_path: Path, whole: Any) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    (folder / "checkpoints" / "step-00000005" / "weights-00000-00000.safetensors").write_bytes(b"")
    again = trainer(folder)
    again.train(rows(), rows(3, 1), "dSFT")
    assert same(weights(again), whole[0])
    assert (folder / "metrics.jsonl").read_text() == whole[1]


def gone_on(two: Path, tmp_path: Path) -> tuple[Path, Trainer[Any], torch.optim.Optimizer, Position]:
    """A copy of the folder, and a training that has gone on from the checkpoint of its fifth step."""
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    training = trainer(folder)
    optimizer = adamw(training.model, CONFIG)
    assert training.checkpoints is not None
    return folder, training, optimizer, training.checkpoints.restore(training.model, optimizer)


def test_a_full_disk_at_two_hundred_places_leaves_the_one_before(two: Path, tmp_path: Path) -> None:
    """No file may grow beyond a limit, which the system says as a full disk would be said; what was there stays whole."""
    folder, training, optimizer, position = gone_on(two, tmp_path)
    assert training.checkpoints is not None
    largest = max(f.stat().st_size for f in (folder / "checkpoints" / "step-00000005").iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    position.step += 1
    try:
        for number in range(200):
            resource.setrlimit(resource.RLIMIT_FSIZE, (number * (largest - 1) // 199, before[1]))
            with pytest.raises(OSError) as failed:
                training.checkpoints.save(position, training.model, optimizer)
            assert failed.value.errno in (errno.EFBIG, errno.ENOSPC)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-00000004", "step-00000005"]
    assert resumed_step(folder) == 5
    training.checkpoints.save(position, training.model, optimizer)
    assert resumed_step(folder) == 6


def test_a_disk_that_is_full_at_any_call_leaves_the_one_before(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also once the tensors are written: at the log, the seal, a sync, the rename. What has its name is whole."""
    folder, training, optimizer, position = gone_on(two, tmp_path)
    assert training.checkpoints is not None
    position.step += 1
    calls, room = [0], [0]

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] > room[0]:
                raise OSError(errno.ENOSPC, f"no space left on the disk: {name}")
            return call(*args, **kwargs)

        return counting

    for owner, name in [(sealing.pieces, "write"), (sealing, "sync"), (sealing, "write_text"), (Path, "write_bytes"), (Path, "replace")]:
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    failed = []
    while True:
        calls[0] = 0
        try:
            training.checkpoints.save(position, training.model, optimizer)
        except OSError as error:
            failed.append(str(error).rsplit(": ", 1)[-1])
        else:
            break
        there = sorted(p.name for p in (folder / "checkpoints").iterdir())
        assert there[:2] == ["step-00000004", "step-00000005"]
        assert all(sealing.verified(folder / "checkpoints" / name)[0] for name in there)
        room[0] += 1
    assert {"write", "sync", "write_text", "write_bytes", "replace"} <= set(failed)
    assert resumed_step(folder) == 6


def test_nothing_in_it_is_pickled(two: Path) -> None:
    for file in (two / "checkpoints" / "step-00000005").iterdir():
        assert file.suffix in (".json", ".jsonl", ".safetensors")
    assert os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD") is None


def test_a_checkpoint_in_another_number_format_is_refused(two: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    training = trainer(folder)
    optimizer = adamw(training.model, CONFIG)
    half = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0, made_with={"dtype": "bfloat16"})
    half.save(Position(6), training.model, optimizer)
    single = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0, made_with={"dtype": "float32"})
    with pytest.raises(
        UsageError,
        match=r"step-00000006: was computed with dtype bfloat16, this run with float32; go on where bfloat16 is chosen, or remove",
    ):
        single.restore(training.model, optimizer)
    assert half.restore(training.model, optimizer).step == 6


def test_a_checkpoint_of_another_version_is_refused_and_stays(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    written = sealing.FORMAT
    monkeypatch.setattr(sealing, "FORMAT", written + 1)
    training = trainer(folder)
    with pytest.raises(
        UsageError, match=rf"step-00000005: a checkpoint of format {written}, and this version of zephyr reads {written + 1}; go on with"
    ):
        training.train(rows(), rows(2), "again")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_auto_keeps_to_the_number_format_of_the_checkpoint(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another machine may measure otherwise; what was begun in bfloat16 goes on in it."""
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    training = trainer(folder)
    begun = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0, made_with={"dtype": "bfloat16"})
    begun.save(Position(6), training.model, adamw(training.model, CONFIG))
    found = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0)
    assert session._dtype("auto", "cpu", found) == torch.bfloat16
    assert "dtype: bfloat16, as in the checkpoint it goes on from" in capsys.readouterr().err
    assert session._dtype("float32", "cpu", found) == torch.float32, "what is asked for is not overruled, and will be refused"


def test_a_damaged_checkpoint_does_not_count_among_the_kept(two: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    (folder / "checkpoints" / "step-00000004").rename(folder / "checkpoints" / "step-00000002")
    (folder / "checkpoints" / "step-00000005" / "weights-00000-00000.safetensors").write_bytes(b"")
    training = trainer(folder, keep=1)
    assert training.checkpoints is not None
    optimizer = adamw(training.model, CONFIG)
    position = training.checkpoints.restore(training.model, optimizer)
    assert position.step == 4  # as its own state says
    position.step, position.test = 3, {}
    training.checkpoints.save(position, training.model, optimizer)
    assert "step-00000003" in {p.name for p in (folder / "checkpoints").iterdir()}
    assert not (folder / "checkpoints" / "step-00000005").exists()


def test_a_damaged_checkpoint_between_whole_ones_goes_first(two: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(two, folder)
    (folder / "checkpoints" / "step-00000005" / "weights-00000-00000.safetensors").write_bytes(b"")
    training = trainer(folder, keep=2)
    assert training.checkpoints is not None
    optimizer = adamw(training.model, CONFIG)
    position = training.checkpoints.restore(training.model, optimizer)
    position.step = 6  # by the clock: 5 is not saved again
    training.checkpoints.save(position, training.model, optimizer)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
