"""Showing a text to a model that must not take it for more than a text.

A fence is a marker around it that nobody who wrote the text can have known; and in the text itself, whatever a server or a parser might
take for a control token or a verdict gets a space. Who reads it still sees what was written.
"""

from __future__ import annotations

import hashlib
import re

# what chat templates are made of; servers read some of it as such wherever it stands, and an answer could leave its turn by it
CONTROL = r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
# a verdict in double brackets, as judges are asked to write it
BRACKETS = r"\[(?=\[)|\](?=\])"


def disarmed(text: str, *verdicts: str) -> str:
    """A text with a space in every piece of a chat template: a judge can still read it, no tokenizer takes it for one.

    Args:
        text: what is shown.
        verdicts: regular expressions of what else gets a space after its first character: that by which a parser would know a verdict.
    """
    return re.sub("|".join((CONTROL, *verdicts)), lambda found: f"{found[0][0]} {found[0][1:]}", text)


def fence(seed: int, *texts: str) -> str:
    """A marker of 16 hex digits that no answer can know: it depends on a secret of the run and on all that is fenced."""
    return hashlib.sha256("\x1f".join([str(seed), *texts]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
