"""The page in a real browser, clicked: what is folded away opens, what is marked is seen, and nothing in the data does anything."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import devtools
import inspecting
import pytest

from zephyr import inspection

# the first marked passage of the first victim of a filter, if the eye can see it; its first line, for it may go on in the next
SEEN = f"""(() => {{
  const stratum = [...document.querySelectorAll('#left-out details.stratum')].find(d => d.textContent.includes('filter: disclaimer'));
  const found = stratum.querySelector('mark.hit'); {devtools.SCROLLED}
  const box = found.getClientRects()[0] ?? new DOMRect(), at = document.elementFromPoint(box.x + 5, box.y + box.height / 2);
  const shown = found.checkVisibility({{contentVisibilityAuto: true}}) && at === found;
  return {{id: stratum.id, text: found.textContent, shown: shown, open: stratum.open}};
}})()"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not on PATH; install it to see the page drawn")
    return found


def test_clicked(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "inspect.html"
    page.write_text(inspection.page(inspection.inspect(inspecting.curated(tmp_path))), encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text(encoding="utf-8").replace("</main>", "<script>1</script><img src='x.png'></main>"), encoding="utf-8")
    asyncio.run(_click_through(browser, page, broken, tmp_path))


async def _click_through(browser: str, page: Path, broken: Path, tmp_path: Path) -> None:
    async with devtools.opened(browser, tmp_path / "wide") as tab:
        await tab.open(page)
        before = await tab.value(SEEN)
        assert (before["open"], before["shown"]) == (False, False)
        await tab.click(f"#{before['id']} > summary")
        assert await tab.becomes(f"{SEEN}.shown")
        after = await tab.value(SEEN)
        assert after["open"]
        assert after["text"].lower() == inspecting.REASON.lower()
        # the whole dialogue is folded away within, and opens too
        inner = f"#{before['id']} .card > details.more"
        await tab.click(f"{inner} > summary")
        assert await tab.becomes(f"document.querySelector({inner!r}).open")
        # a link leads to its section
        await tab.click("nav a[href='#distributions']")
        assert await tab.becomes("location.hash === '#distributions'")
        await _harmless(tab, page)
        # what is complained of would be seen
        await tab.open(broken)
        assert any("Content Security Policy" in complaint for complaint in tab.complaints)
    async with devtools.opened(browser, tmp_path / "narrow", width=400, dark=True) as tab:
        await tab.open(page)
        await tab.value("document.querySelectorAll('details').forEach(d => { d.open = true })")
        # nothing is wider than the screen, whatever the data says
        assert await tab.value("document.documentElement.scrollWidth") <= await tab.value("document.documentElement.clientWidth")
        await _harmless(tab, page)


async def _harmless(tab: devtools.Tab, page: Path) -> None:
    state: dict[str, Any] = await tab.value(
        "({pwned: window.pwned ?? null, title: document.title, scripts: document.scripts.length, images: document.images.length})"
    )
    assert state == {"pwned": None, "title": "A look at dialogues – Zephyr", "scripts": 0, "images": 0}
    assert tab.complaints == []
    assert {url.partition("#")[0] for url in tab.requests} == {page.as_uri()}
