"""Progress: on stderr alone, a bar where somebody watches, a few lines where a file does."""

from __future__ import annotations

import io
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


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with progress.bar("dSFT", 3, "tokens") as bar:
        bar.advance(2, "loss 0.5")
        progress.say("a line between")
        bar.advance(1, "loss [0.4]")
    shown = screen.getvalue()
    assert "dSFT" in shown and "3/3" in shown and "tokens" in shown and "loss [0.4]" in shown and "a line between" in shown


def test_what_was_done_before_is_shown_and_not_in_the_rate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.bar("dDPO", 1000, "tokens", done=500) as line:
        line.advance(100)
    assert capsys.readouterr().err == "  dDPO: 600/1,000 tokens, 10.0/s, 40 s left\n"
