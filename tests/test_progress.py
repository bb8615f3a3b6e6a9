"""Progress: on stderr alone, a bar where somebody watches, a few lines where a file does."""

from __future__ import annotations

import io
import re
import sys

import pytest

from zephyr import progress


def test_a_log_gets_few_lines_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.bar("dSFT", 100, "tokens") as bar:
        for _ in range(100):
            bar.advance(1, "loss 0.5")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 10
    assert lines[0] == "  dSFT: 10/100 tokens, 1.0/s, 90 s left, loss 0.5"
    assert lines[-1] == "  dSFT: 100/100 tokens, 1.0/s, 0 s left, loss 0.5"


def test_what_takes_no_time_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("quick", 50, "answers") as bar:
        for _ in range(50):
            bar.advance()
    assert capsys.readouterr() == ("", "")


def terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A stderr that is a terminal, and keeps what it was told."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    return screen


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(160, monkeypatch)
    with progress.bar("dSFT", 3, "tokens") as bar:
        bar.advance(2, "loss 0.5")
        progress.say("a line between")
        bar.advance(1, "loss [0.4]")
    shown = screen.getvalue()
    assert "dSFT" in shown and "3/3" in shown and "tokens" in shown and "loss [0.4]" in shown and "a line between" in shown


@pytest.mark.parametrize("columns", [72, 80, 100, 140, 200])
@pytest.mark.parametrize("step_s", [4, 45])
def test_a_narrow_terminal_shortens_the_bar_alone(columns: int, step_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(columns, monkeypatch)
    clock = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: clock[0])
    text = "loss 0.6931, reward accuracy 0.5000, margin 0.0000, MFU 27%, 2.0 GiB"
    with progress.bar("dDPO", 1_974_000, "tokens") as bar:
        for _ in range(3):
            clock[0] += step_s
            bar.advance(65_800, text)
    *_, line, below = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).rstrip().splitlines()
    assert below.strip() == text
    took, left = f"0:{3 * step_s // 60:02}:{3 * step_s % 60:02}", f"0:{27 * step_s // 60:02}:{27 * step_s % 60:02}"
    said = rf"  dDPO (\S+) +197400/1974000 tokens {65_800 / step_s:,.1f}/s {took} left {left}"
    drawn = re.fullmatch(said, line.rstrip())
    assert drawn and len(drawn[1]) >= 10 and len(line) <= columns
    assert len(drawn[1]) == 24 or len(line) == columns


def test_what_was_done_before_is_shown_and_not_in_the_rate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.bar("dDPO", 1000, "tokens", done=500) as line:
        line.advance(100)
    assert capsys.readouterr().err == "  dDPO: 600/1,000 tokens, 10.0/s, 40 s left\n"
