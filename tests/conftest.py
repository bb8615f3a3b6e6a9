"""What the tests share: real data where it is, small models, a home folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# how long an example takes says how busy the machine is, nothing about the code
hypothesis.settings.register_profile("zephyr", deadline=None)
hypothesis.settings.load_profile("zephyr")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small are slower on several

# a shell that starts them in the background has told them to ignore Ctrl-C, which some of them send
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Caches of datasets and transformers go to a temporary folder, not to the home folder."""
    home = tmp_path_factory.mktemp("home")
    os.environ["HF_HOME"] = str(home / "huggingface")
    os.environ["MPLCONFIGDIR"] = str(home / "matplotlib")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models; tests that need it skip where it is absent."""
    path = Path(os.environ.get("ZEPHYR_SHARED", ROOT.parent / "shared")).resolve()
    if not (path / "data").is_dir():
        pytest.skip(f"real data not found at {path}; set ZEPHYR_SHARED to its folder")
    return path


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of fetched models and hashes for this test alone."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ZEPHYR_CACHE", str(path))
    return path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model, without a chat template."""
    import small

    return small.model_folder(tmp_path_factory.mktemp("tiny") / "model")


@dataclass
class SmallRun:
    """A finished run: its recipe as values and as a file, its folder, and what `zephyr.run` returned."""

    recipe: dict[str, Any]
    file: Path
    out: Path
    result: dict[str, Any]

    def copy(self, to: Path) -> Path:
        """The run's folder, copied with its times."""
        return Path(shutil.copytree(self.out, to, copy_function=shutil.copy2))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> SmallRun:
    """The whole path, once for all tests that read it; a test that changes it works on a copy."""
    import small
    import zephyr

    folder = tmp_path_factory.mktemp("small")
    values = small.recipe(folder / "data", tiny_folder)
    file = small.write_recipe(folder / "recipe.yaml", values)
    out = folder / "run"
    return SmallRun(values, file, out, zephyr.run(file, out=out))
