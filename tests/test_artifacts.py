"""An artifact is there whole or not at all, and what is on disk is what its manifest says."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zephyr import artifacts, durable, guards, hashes
from zephyr.artifacts import MANIFEST, Artifact, Manifest, TornManifestError, draft, recover
from zephyr.errors import ArtifactError, UsageError
from zephyr.teachers.journal.owners import Owners

SRC = Path(__file__).resolve().parent.parent / "src"


def publish(path: Path, text: str = "new", **changes: Any) -> Artifact:
    """A small artifact: two splits, a dropped row, a log, a file of a model."""
    with draft(path, **{"stage": "curate", "key": "k", "config": {"a": 1}, "parents": {}, **changes}) as out:
        out.write_rows("train", [{"text": text}, {"text": "é"}])
        out.write_rows("test", [])
        out.drop("too odd", "x:1", {"text": "\ud800"})
        out.log({"step": 1})
        out.model_dir.mkdir()
        (out.model_dir / "weights").write_bytes(text.encode() * 50)
    return Artifact.open(path)


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_published_is_what_was_written(tmp_path: Path) -> None:
    made = publish(tmp_path / "a")
    assert left(tmp_path) == ["a"]
    assert made.rows("train") == [{"text": "new"}, {"text": "é"}]
    assert (made.rows("test"), made.splits(), made.log(), made.log("none")) == ([], ["train"], [{"step": 1}], [])
    assert (made.manifest.rows_out, made.manifest.dropped) == ({"train": 2, "test": 0}, {"too odd": 1})
    assert sorted(made.manifest.files) == ["data/train-00000.parquet", "dropped/dropped.jsonl", "metrics.jsonl", "model/weights"]
    assert made.check() is None
    assert made.check(verify=True) is None


def test_nothing_is_under_the_name_before_the_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renames = []
    replace = Path.replace

    def watched(self: Path, to: Path) -> Path:
        if Path(to).name == "a":
            assert not (tmp_path / "a").exists()
            renames.append(left(self))
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", watched)
    publish(tmp_path / "a")
    assert renames == [["data", "dropped", MANIFEST, "metrics.jsonl", "model"]]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [False, True])
def test_an_exception_leaves_what_was_there(tmp_path: Path, error: type[BaseException], old: bool) -> None:
    path = tmp_path / "a"
    if old:
        publish(path, "old")
    with pytest.raises(error), draft(path, stage="s", key="k", config={}, parents={}) as out:
        out.write_rows("train", [{"text": "half"}])
        raise error
    assert left(tmp_path) == (["a"] if old else [])
    if old:
        assert Artifact.open(path).rows("train")[0] == {"text": "old"}
        assert Artifact.open(path).check(verify=True) is None


def test_a_replaced_artifact_is_gone(tmp_path: Path) -> None:
    old, new = publish(tmp_path / "a", "old"), publish(tmp_path / "a", "new")
    assert left(tmp_path) == ["a"]
    assert new.rows("train")[0] == {"text": "new"}
    assert old.manifest.digest != new.manifest.digest


# --- killed --------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from zephyr import artifacts, hashes

path, at = Path(sys.argv[1]), sys.argv[2]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

replace = Path.replace

def replacing(self, to):
    if at == "before " + Path(to).name:
        die()
    result = replace(self, to)
    if at == "after " + Path(to).name:
        die()
    return result

Path.replace = replacing
if at == "hashing":
    hashes.sha256_file = die
with artifacts.draft(path, stage="s", key="new", config={}, parents={}) as out:
    out.write_rows("train", [{"text": "new"}])
    if at == "body":
        die()
"""
# when, what is under the name where an old one was, and what it is once recovered: with an old one, without
STEPS = {
    "body": ("old", "old", None),
    "hashing": ("old", "old", None),
    "before manifest.json": ("old", "old", None),
    "after manifest.json": ("old", "old", "new"),
    "before .a.stale": ("old", "old", "never"),
    "after .a.stale": (None, "new", "never"),
    "before a": (None, "new", "new"),
    "after a": ("new", "new", "new"),
}


def text_in(path: Path) -> str | None:
    """The text of the artifact, which must be whole, or None where there is none."""
    if not path.exists():
        return None
    made = Artifact.open(path)
    assert made.check(verify=True) is None
    return str(made.rows("train")[0]["text"])


def kill(path: Path, step: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, path, step], env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_replacing_leaves_the_old_or_the_new(tmp_path: Path, step: str) -> None:
    path = tmp_path / "a"
    publish(path, "old")
    kill(path, step)
    found, recovered, _ = STEPS[step]
    assert text_in(path) == found
    recover(path)
    assert text_in(path) == recovered
    recover(path)
    assert text_in(path) == recovered
    assert ".a.stale" not in left(tmp_path)
    publish(path, "next")
    assert (text_in(path), left(tmp_path)) == ("next", ["a"])


@pytest.mark.parametrize("step", [step for step, (_, _, recovered) in STEPS.items() if recovered != "never"])
def test_killed_the_first_time_leaves_nothing_or_the_new(tmp_path: Path, step: str) -> None:
    path = tmp_path / "a"
    kill(path, step)
    assert text_in(path) == ("new" if step == "after a" else None)
    recover(path)
    assert text_in(path) == STEPS[step][2]
    publish(path, "next")
    assert (text_in(path), left(tmp_path)) == ("next", ["a"])


def test_recover_leaves_alone_what_was_never_cut(tmp_path: Path) -> None:
    recover(tmp_path / "none")
    made = publish(tmp_path / "a")
    recover(tmp_path / "a")
    assert left(tmp_path) == ["a"]
    assert made.check() is None


# --- a full disk ---------------------------------------------------------------------------------------------


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["rows", "fsync", "the last rename"])
@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk_leaves_no_partial_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, old: bool) -> None:
    path = tmp_path / "a"
    if old:
        publish(path, "old")
    replace = Path.replace
    if call == "rows":
        import pyarrow.parquet as pq

        monkeypatch.setattr(pq, "write_table", no_space)
    elif call == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    else:
        partial = ".a.partial"
        monkeypatch.setattr(Path, "replace", lambda self, to: no_space() if self.name == partial else replace(self, to))
    with pytest.raises(OSError, match="No space left"):
        publish(path)
    monkeypatch.undo()
    assert left(tmp_path) == (["a"] if old else [])
    assert text_in(path) == ("old" if old else None)


def test_a_text_that_could_not_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t"
    durable.write_text(file, "old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        durable.write_text(file, "new")
    assert left(tmp_path) == ["t"]
    assert file.read_text() == "old"


STUCK = """
import os, sys, time
from pathlib import Path
from zephyr.durable import write_text
os.fsync = lambda fd: (print("writing", flush=True), time.sleep(600))
os.getpid = lambda: int(sys.argv[2])
write_text(Path(sys.argv[1]), "half")
"""


@pytest.mark.parametrize("number", ["another", "ours"])
def test_what_the_dead_left_aside_goes_and_what_the_living_write_stays(number: str, tmp_path: Path) -> None:
    """Whatever their numbers: another machine, or another container, has processes of the same ones, and ours knows nothing of theirs."""
    if (dead := os.fork()) == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    file = tmp_path / "t[1]"
    command = [sys.executable, "-c", STUCK, str(file), str(os.getpid() if number == "ours" else dead)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
            (theirs,) = tmp_path.iterdir()
            (tmp_path / theirs.name.replace("t[1]", "u")).write_text("of another name")
            durable.write_text(file, "new")
            assert theirs.exists() and file.read_text() == "new"
        finally:
            writer.kill()
    durable.write_text(file, "newer")
    assert sorted(p.name for p in tmp_path.iterdir()) == [theirs.name.replace("t[1]", "u"), "t[1]"]
    assert file.read_text() == "newer"


def test_a_file_that_was_taken_for_left_before_it_was_locked_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, taken = fcntl.flock, []

    def late(file: Any, kind: int) -> None:
        if not taken:
            taken.extend(tmp_path.glob(".t.*"))
            taken[0].unlink()
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    durable.write_text(tmp_path / "t", "new")
    assert taken and left(tmp_path) == ["t"] and (tmp_path / "t").read_text() == "new"


def test_where_the_disk_knows_no_locks_nothing_is_taken_for_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / ".t.0123abcd.partial").write_text("half")
    durable.write_text(tmp_path / "t", "new")
    assert left(tmp_path) == [".t.0123abcd.partial", "t"] and (tmp_path / "t").read_text() == "new"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_disk_knows_no_locks_a_run_is_not_guarded_and_that_is_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with guards.locked(tmp_path / ".lock"):
        assert (tmp_path / ".lock").exists()
    with guards.locked(tmp_path / ".lock"):
        pass
    assert capsys.readouterr().err.count(f"{tmp_path}: this disk knows no file locks") == 1 and left(tmp_path) == []
    with contextlib.ExitStack() as stack, pytest.raises(UsageError, match="knows no file locks, and teachers' answers need them"):
        Owners(tmp_path / "journal.sqlite", "me").live_in(stack)
    assert left(tmp_path) == []


MAKES = """
import sys, time
from pathlib import Path
from zephyr.durable import aside
with aside(Path(sys.argv[1])) as own:
    (own / "in").mkdir()
    print("making", flush=True)
    time.sleep(600)
"""


def test_a_folder_that_the_dead_left_aside_goes_and_what_the_living_make_stays(tmp_path: Path) -> None:
    folder = tmp_path / "v[1]"
    with subprocess.Popen([sys.executable, "-c", MAKES, str(folder)], stdout=subprocess.PIPE, text=True) as maker:
        try:
            assert maker.stdout is not None and maker.stdout.readline() == "making\n"
            (theirs,) = tmp_path.iterdir()
            shutil.copytree(theirs, tmp_path / theirs.name.replace("v[1]", "w"))  # of another name
            with durable.aside(folder) as own:
                assert own != theirs and (theirs / "in").is_dir()
                (own / "whole").touch()
                own.replace(folder)
        finally:
            maker.kill()
    assert theirs.exists() and left(tmp_path) == sorted([theirs.name, theirs.name.replace("v[1]", "w"), "v[1]"])
    with durable.aside(folder) as own:
        assert not theirs.exists() and own.is_dir()
    assert left(tmp_path) == [theirs.name.replace("v[1]", "w"), "v[1]"] and (folder / "whole").exists()


def test_a_folder_that_was_taken_for_left_before_it_was_locked_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, taken = fcntl.flock, []

    def late(file: Any, kind: int) -> None:
        if not taken:
            taken.extend(tmp_path.glob(".v.*"))
            taken[0].rmdir()
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with durable.aside(tmp_path / "v") as own:
        assert own.is_dir() and [own] != taken
    assert taken and not left(tmp_path)


def test_where_folders_cannot_be_locked_none_is_taken_for_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / ".v.0123abcd.partial").mkdir()
    with durable.aside(tmp_path / "v") as own:
        assert own.is_dir()
    assert left(tmp_path) == [".v.0123abcd.partial"]


# --- checking ------------------------------------------------------------------------------------------------


def flip_a_bit(file: Path, *, keep_time: bool) -> None:
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    time = stat.st_mtime_ns if keep_time else stat.st_mtime_ns + 10**9
    os.utime(file, ns=(time, time))


def test_a_flipped_bit_is_found_by_its_time_or_by_verify(tmp_path: Path) -> None:
    for name in publish(tmp_path / "kept").manifest.files:
        made = publish(tmp_path / "a")
        flip_a_bit(made.path / name, keep_time=True)
        assert made.check() is None  # size and mtime are believed
        assert made.check(verify=True) == f"{made.path / name} is not what the manifest says (sha256 differs)"
        flip_a_bit(made.path / name, keep_time=True)
        assert made.check(verify=True) is None
        flip_a_bit(made.path / name, keep_time=False)
        assert made.check() == f"{made.path / name} is not what the manifest says (sha256 differs)"


def test_missing_cut_and_added_files_are_found(tmp_path: Path) -> None:
    made = publish(tmp_path / "a")
    rows, weights = made.path / "data/train-00000.parquet", made.path / "model/weights"
    shutil.copy2(rows, made.path / "data/train-00001.parquet")  # it would be read as rows of train
    assert made.check() == f"{made.path / 'data/train-00001.parquet'} is not in the manifest"
    (made.path / "data/train-00001.parquet").unlink()
    weights.write_bytes(b"short")
    assert made.check() == f"{weights} has 5 bytes, the manifest says 150"
    weights.unlink()
    assert made.check() == f"{weights} is missing"
    weights.parent.rmdir()
    weights.parent.write_text("a file where the folder was")
    assert made.check() == f"{weights} is missing"


def test_a_copy_with_other_times_is_accepted(tmp_path: Path) -> None:
    made = publish(tmp_path / "a")
    shutil.copytree(made.path, tmp_path / "b", copy_function=shutil.copyfile)
    copy = Artifact.open(tmp_path / "b")
    assert copy.manifest == made.manifest
    assert all((copy.path / name).stat().st_mtime_ns != entry.mtime_ns for name, entry in made.manifest.files.items())
    assert copy.check() is None


def test_equal_work_has_an_equal_digest(tmp_path: Path) -> None:
    one, two = publish(tmp_path / "a"), publish(tmp_path / "b", key="other", config={"b": 2})
    assert one.manifest.digest == two.manifest.digest
    assert {name: f.sha256 for name, f in one.manifest.files.items()} == {name: f.sha256 for name, f in two.manifest.files.items()}
    assert publish(tmp_path / "c", "other text").manifest.digest != one.manifest.digest


def test_a_key_depends_on_everything_that_goes_in_and_on_no_order() -> None:
    keys = [
        artifacts.key_of("s", 1, {"a": 1, "b": 2}, {"x": "1"}),
        artifacts.key_of("t", 1, {"a": 1, "b": 2}, {"x": "1"}),
        artifacts.key_of("s", 2, {"a": 1, "b": 2}, {"x": "1"}),
        artifacts.key_of("s", 1, {"a": 1, "b": 3}, {"x": "1"}),
        artifacts.key_of("s", 1, {"a": 1, "b": 2}, {"x": "2"}),
    ]
    assert len(set(keys)) == 5
    assert artifacts.key_of("s", 1, {"b": 2, "a": 1}, {"x": "1"}) == keys[0]


# --- manifests -----------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"stage": "s", "key": "k", "config": {}, "parents": {}, "files": {}, "format": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a readable manifest"),
        ("{", "not a readable manifest"),
        ("[" * 100_000, "not a readable manifest"),
        (b"\xff", "not a readable manifest"),
        (json.dumps({**GOOD, "format": 2}), "manifest format 2, this version reads 1"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "files"}), "damaged manifest"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "stage"}), "damaged manifest"),
        (json.dumps({**GOOD, "files": []}), "damaged manifest"),
        (json.dumps({**GOOD, "files": {"a": 1}}), "damaged manifest"),
        (json.dumps({**GOOD, "files": {"a": {"sha256": ""}}}), "damaged manifest"),
        (json.dumps({**GOOD, "rows_out": None}), "damaged manifest"),
        (json.dumps({**GOOD, "colour": 1}), "damaged manifest"),
    ],
)
def test_a_damaged_manifest_is_refused_with_what_to_do(tmp_path: Path, text: str | bytes, problem: str) -> None:
    (tmp_path / MANIFEST).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ArtifactError) as caught:
        Manifest.read(tmp_path)
    assert isinstance(caught.value, TornManifestError) == (problem == "not a readable manifest")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / MANIFEST}: {problem}")
    assert message.endswith(f"; remove {tmp_path} to make it again")
    assert "\n" not in message


@pytest.mark.parametrize("text", ['{"manifest_version": 3}', "[1, 2]", '"hi"'])
def test_a_manifest_of_something_else_is_told_apart(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError) as caught:
        Manifest.read(tmp_path)
    assert "manifest format None, not that of an artifact; if " in str(caught.value)
    assert "; remove" not in str(caught.value)  # it may be the data of the reader


def test_no_manifest_is_no_artifact(tmp_path: Path) -> None:
    assert Manifest.read(tmp_path) is None
    (tmp_path / "file").touch()
    assert Manifest.read(tmp_path / "file") is None
    with pytest.raises(ArtifactError, match=r"not an artifact \(no manifest\.json\)"):
        Artifact.open(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(GOOD))
    assert Artifact.open(tmp_path).manifest.stage == "s"
    (tmp_path / MANIFEST).unlink()
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(ArtifactError, match=r"not a readable manifest \(Is a directory\); make it readable") as caught:
        Manifest.read(tmp_path)
    assert not isinstance(caught.value, TornManifestError)  # nothing is known of what is in it


# --- fingerprints --------------------------------------------------------------------------------------------


def test_a_fingerprint_sees_every_file_also_those_of_one_name(tmp_path: Path) -> None:
    files = [tmp_path / "a/x.jsonl", tmp_path / "b/x.jsonl", tmp_path / "y.jsonl"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("1")
    seen = {hashes.fingerprint(files)}
    for i, file in enumerate(files):
        file.write_text("2" * (i + 1))
        seen.add(hashes.fingerprint(files))
    assert len(seen) == 4


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"FILE": 3}', '{"FILE": [1, 0]}', b"\xff"])
def test_a_damaged_cache_of_hashes_is_made_again(tmp_path: Path, damage: str | bytes) -> None:
    file, cache = tmp_path / "x", tmp_path / "cache/hashes.json"
    file.write_text("1")
    right = hashes.fingerprint([file], cache)
    cache.write_bytes(damage.replace("FILE", str(file.resolve())).encode() if isinstance(damage, str) else damage)
    assert hashes.fingerprint([file], cache) == right
    assert json.loads(cache.read_text())[str(file.resolve())][2] == hashes.sha256_file(file)


def test_a_cached_hash_is_used_until_size_or_time_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "x", tmp_path / "hashes.json"
    file.write_text("1")
    first = hashes.fingerprint([file], cache)
    with monkeypatch.context() as patch:
        patch.setattr(hashes, "sha256_file", lambda _: pytest.fail("hashed again"))
        assert hashes.fingerprint([file], cache) == first
    flip_a_bit(file, keep_time=False)
    assert hashes.fingerprint([file], cache) != first


def test_two_processes_may_write_one_file(tmp_path: Path) -> None:
    """A cache that several runs share: each write is whole, and none fails over the other's."""
    code = (
        "import sys; from pathlib import Path; from zephyr.durable import write_text\n"
        "for i in range(300): write_text(Path(sys.argv[1]), sys.argv[2] * 1000)"
    )
    file = tmp_path / "cache.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), letter], stderr=subprocess.PIPE) for letter in "ab"]
    for writer in writers:
        _, said = writer.communicate(timeout=120)
        assert writer.returncode == 0, said
    assert file.read_text() in ("a" * 1000, "b" * 1000)
    assert [p.name for p in tmp_path.iterdir()] == ["cache.json"]


def test_a_cache_that_cannot_be_written_or_read_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    (tmp_path / "file").write_text("")
    want = hashes.fingerprint([tmp_path / "x"])
    assert hashes.fingerprint([tmp_path / "x"], tmp_path / "file" / "cache.json") == want
    (tmp_path / "folder").mkdir()
    assert hashes.fingerprint([tmp_path / "x"], tmp_path / "folder") == want


@pytest.mark.parametrize("others", [False, True])
def test_a_kill_between_the_name_and_the_end_leaves_no_checkpoints(others: bool, tmp_path: Path) -> None:
    """The artifact had got its name, and its checkpoints were still there; those of other settings stay."""
    with draft(tmp_path / "sft", stage="sft", key="k" * 20, config={}, parents={}) as out:
        out.log({"step": 1})
    (out.checkpoints / "step-00000001").mkdir(parents=True)
    if others:
        (out.checkpoints.parent / "other").mkdir()
    recover(tmp_path / "sft")
    assert [p.name for p in tmp_path.iterdir() if p.name != "sft"] == ([".sft.checkpoints"] if others else [])
    assert not out.checkpoints.exists()


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_checkpoints_of_a_damaged_artifact_that_is_made_again_stay(damage: str, tmp_path: Path) -> None:
    """It keeps its name until the new one is whole: whoever is interrupted before that goes on from them."""
    with draft(tmp_path / "sft", stage="sft", key="k" * 20, config={}, parents={}) as out:
        out.log({"step": 1})
    log = next((tmp_path / "sft").glob("*.jsonl"))
    if damage == "missing":
        log.unlink()
    else:
        before = log.stat()
        log.write_bytes(b"x" * before.st_size)
        os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))
    (out.checkpoints / "step-00000001").mkdir(parents=True)
    recover(tmp_path / "sft")
    assert (out.checkpoints / "step-00000001").is_dir()


def test_a_folder_that_was_moved_and_linked_is_replaced_again_and_again(tmp_path: Path) -> None:
    for number in range(3):
        with draft(tmp_path / "sft", stage="sft", key=str(number) * 20, config={}, parents={}) as out:
            out.log({"step": number})
        if number == 0:
            (tmp_path / "sft").rename(tmp_path / "elsewhere")
            (tmp_path / "sft").symlink_to("elsewhere", target_is_directory=True)
            (tmp_path / "mine.txt").write_text("mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "mine.txt", "sft"]
    assert Manifest.read(tmp_path / "sft").key == "2" * 20  # type: ignore[union-attr]
    (tmp_path / ".sft.stale").symlink_to("elsewhere", target_is_directory=True)  # what an earlier version has left
    recover(tmp_path / "sft")
    assert not (tmp_path / ".sft.stale").is_symlink() and (tmp_path / "elsewhere").is_dir()
