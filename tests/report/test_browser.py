"""The page in a real browser: it draws something in light and dark, wide and narrow, and complains of nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import fake_run
import numpy as np
import pytest
from matplotlib.image import imread

from zephyr.report import page


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not on PATH; install it to see the page drawn")
    return found


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(page.render("demo", "A small model, aligned", fake_run.make(folder / "run"), order=fake_run.ORDER), encoding="utf-8")
    return path


def shoot(
    browser: str, html: Path, tmp_path: Path, *, width: int = 1280, height: int = 1600, dark: bool = False
) -> tuple[np.ndarray, list[str]]:
    """A screenshot (height, width, RGB from 0 to 1) and what the page wrote to the console."""
    picture = tmp_path / "page.png"
    result = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},{height}",
            f"--screenshot={picture}",
            "--enable-logging=stderr",
            "--v=0",
            html.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert picture.exists(), result.stderr[-2000:]
    said = [line for line in result.stderr.splitlines() if "CONSOLE" in line or ("ERROR" in line and html.name in line)]
    return imread(picture)[..., :3], said


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_page_is_drawn_without_complaint(browser: str, html: Path, tmp_path: Path, width: int, dark: bool) -> None:
    pixels, console = shoot(browser, html, tmp_path, width=width, dark=dark)
    assert console == []
    assert pixels.shape == (1600, width, 3)
    # drawn all the way down: every fifth of the picture has something in it
    assert all(part.std() > 0.02 for part in np.array_split(pixels, 5))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    # the page is a calm one: most of it is ground, light or dark as the reader's system is
    ground = np.median(pixels)
    assert ground < 0.2 if dark else ground > 0.9


def test_complaints_of_a_page_would_be_seen(browser: str, html: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(html.read_text(encoding="utf-8").replace("</main>", "<script>1</script></main>"), encoding="utf-8")
    _, console = shoot(browser, broken, tmp_path, height=400)
    assert any("Content Security Policy" in line for line in console)
