"""What transformers reads: without a word from it, and with one line where it fails."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from zephyr.errors import ModelError
from zephyr.progress import say

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef


def from_pretrained(read: Callable[..., Any], ref: ModelRef, where: str, what: str, **settings: Any) -> Any:
    """What transformers reads, without a word from it; an error of any kind becomes one line.

    Args:
        read: the `from_pretrained` of a class.
        ref: the model; its revision, and whether its code is trusted.
        where: its folder or hub name.
        what: is read, for the error.
        settings: handed on.

    Raises:
        ModelError: it cannot be read.
    """
    import transformers

    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return read(where, revision=ref.revision, trust_remote_code=ref.trust_remote_code, **settings)
    except Exception as error:
        raise ModelError(f"{where}: {what} cannot be loaded ({first_line(error)}){how_to_ask(where, error)}") from error
    finally:
        transformers.utils.logging.set_verbosity(level)


def first_line(error: BaseException) -> str:
    """An error in one line: its kind, and the first that it says."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def how_to_ask(name: str, error: BaseException) -> str:
    """What to do where the hub lends a model on request alone; nothing, where that is not what it says."""
    return f"; ask for access on the page of {name} on the hub, then `hf auth login`" if "gated repo" in str(error) else ""


@cache
def say_once(text: str) -> None:
    """A line on stderr that is not said again by this process."""
    say(text)
