"""A JSON file that holds one object: what is said where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from zephyr.errors import DataError
from zephyr.files import read_object


def test_an_object_is_read_and_anything_else_is_said(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"naïve": [1, null]}', encoding="utf-8")
    assert read_object(file, other="no") == {"naïve": [1, None]}
    for content in ("[{}]", "3", "null"):
        file.write_text(content)
        with pytest.raises(DataError, match=r"x\.json: an object belongs here$"):
            read_object(file, other="an object belongs here", unreadable="remove it")
    for broken in (b"{", b"", b"\xff", b"[" * 100_000):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"x\.json: not a readable JSON file \(.+\); remove it$"):
            read_object(file, other="", unreadable="remove it")
    file.unlink()
    with pytest.raises(DataError, match=r"x\.json: not a readable JSON file \(.*No such file.*\)$"):
        read_object(file, other="")
