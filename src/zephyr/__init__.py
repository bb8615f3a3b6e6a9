"""Zephyr: from a language model and some prompts to an aligned, measured chat model, without human labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zephyr._version import __version__

__all__ = ["__version__", "run"]

if TYPE_CHECKING:
    from zephyr.api import run


def __getattr__(name: str) -> Any:
    # `zephyr.run` without making every import of the package pay for what it needs
    if name == "run":
        from zephyr.api import run

        return run
    raise AttributeError(f"module 'zephyr' has no attribute {name!r}")
