"""What the tests share: real data where it is, small models, a home folder of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

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
