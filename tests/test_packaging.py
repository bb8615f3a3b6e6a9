"""The wheel holds what the commands need, and works where the source tree is not."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

import zephyr

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source tree without anything fetched."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT], cwd=out, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_every_file_of_the_package_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/zephyr").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == source | {"zephyr/reproduce/presets/zephyr-7b-beta.yaml"}  # which the sources have among the recipes
    demo = {f"zephyr/demo/{kind}/{split}.jsonl" for kind in ("dialogues", "feedback") for split in ("train", "test")}
    assert names >= demo | {"zephyr/demo/recipe.yaml", "zephyr/demo/README.md", "zephyr/report/page.html.j2", "zephyr/report/page.css"}


def test_an_editable_install_points_to_the_sources_and_copies_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pytest.importorskip("hatchling.build")
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / backend.build_editable(str(tmp_path))) as archive:
        (pointer,) = (name for name in archive.namelist() if ".dist-info/" not in name)
        assert archive.read(pointer).decode() == str(ROOT / "src")


def test_the_wheel_says_what_it_is(wheel: Path, unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    scripts = ConfigParser()
    scripts.read(info / "entry_points.txt")
    assert dict(scripts["console_scripts"]) == {"zephyr": "zephyr.cli:main"}
    metadata = Parser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
    assert (metadata["Name"], metadata["Version"]) == ("zephyr-align", zephyr.__version__)
    assert wheel.name == f"zephyr_align-{zephyr.__version__}-py3-none-any.whl"
    assert (info / "licenses/LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def elsewhere(unpacked: Path, cwd: Path, *arguments: str) -> str:
    """What an interpreter prints that sees the wheel's content, and stands in another folder."""
    env = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_works_where_the_source_tree_is_not(unpacked: Path, tmp_path: Path) -> None:
    code = "import zephyr; print(zephyr.__file__); print(zephyr.run.__module__); import zephyr.api as a; print(a.__file__)"
    package, module, api = elsewhere(unpacked, tmp_path, "-c", code).splitlines()
    assert (Path(package), module, Path(api)) == (unpacked / "zephyr/__init__.py", "zephyr.api.runs", unpacked / "zephyr/api/__init__.py")
    assert zephyr.__version__ in elsewhere(unpacked, tmp_path, "-m", "zephyr", "--version")


def test_the_wheel_finds_the_texts_it_ships(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "from zephyr import recipe, sources; import zephyr; from pathlib import Path; "
        "r = recipe.load(Path(zephyr.__file__).parent / 'demo/recipe.yaml'); "
        "print(r.name, [sum(1 for _ in sources.rows(s)) for s in (*r.curate.data, *r.complete.prompts)], sources.resolve('builtin:demo'))"
    )
    name, rest = elsewhere(unpacked, tmp_path, "-c", code).split(" ", 1)
    assert name == "demo"
    counts, place = rest.removeprefix("[").split("] ")
    assert sum(map(int, counts.split(","))) == 400  # 200 dialogues, 200 prompts
    assert Path(place) == unpacked / "zephyr/demo"


def test_the_wheel_has_the_papers_recipe_where_reproduce_looks(unpacked: Path, tmp_path: Path) -> None:
    code = "from zephyr import api\ntry:\n    api.reproduce('table3', preset='paper')\nexcept ValueError as error:\n    print(error)"
    said = elsewhere(unpacked, tmp_path, "-c", code)
    shipped = unpacked / "zephyr/reproduce/presets/zephyr-7b-beta.yaml"
    assert f"on the paper's recipe ({shipped}; " in said
    assert shipped.read_bytes() == (ROOT / "recipes/zephyr-7b-beta.yaml").read_bytes()


def test_the_recipe_to_read_is_the_one_that_ships() -> None:
    assert (ROOT / "recipes/demo.yaml").read_bytes() == (ROOT / "src/zephyr/demo/recipe.yaml").read_bytes()


def test_the_version_is_in_the_change_log() -> None:
    released = zephyr.__version__.partition(".dev")[0]
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    assert headings[0].startswith(f"## {released}")
    assert ("not released" in headings[0]) == (".dev" in zephyr.__version__)
