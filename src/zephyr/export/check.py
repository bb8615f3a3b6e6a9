"""Is what was written what was there? The same dialogues have to read the same, and the same texts have to give the same ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zephyr.errors import ModelError

_ASKED = {"role": "user", "content": "Why is the sky blue?"}
_SAID = {"role": "assistant", "content": "Air scatters short waves of light more than long ones.\n\nBlue is short."}
_AGAIN = {"role": "user", "content": "  And at sunset?\n"}
_SYSTEM = {"role": "system", "content": "You answer in one sentence."}
# with and without a system turn, one exchange and several, up to a question and up to an answer
DIALOGUES: list[list[dict[str, str]]] = [
    [_ASKED],
    [_SYSTEM, _ASKED],
    [_ASKED, _SAID],
    [_ASKED, _SAID, _AGAIN],
    [_SYSTEM, _ASKED, _SAID, _AGAIN, _SAID],
]
# numbers, contractions, spaces, code, several scripts, what normalization would change, and what no vocabulary has
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "In 1234 of 56,789.01 cases it's we'll I'M DON'T they're",
    "  two  spaces   three\tand\ttabs \n\n\n new lines \r\n",
    "def f(x):\n    return {'a': x**2, \"b\": [1, 2]}  # square\n",
    "naïve façade, Straße, Übung; œuvre ﬁ Ⅷ １２３ ½ e\u0301",
    "Привет, как дела? 你好，世界。 こんにちは 한국어 مرحبا हिन्दी",
    "😀👩\u200d👧 \u00a0…\u2028 ▁ <b>x</b> snake_case camelCase --- end  ",
    "",
    " ",
    "a",
]

Encode = Callable[[str], Sequence[int]]


def renderings(tokenizer: Any, template: str | None) -> list[str | None]:
    """The dialogues as a template writes them, each whole and up to where the assistant begins; None where it refuses one."""
    from jinja2 import TemplateError

    found: list[str | None] = []
    for dialogue in DIALOGUES if template else []:
        for prompt in (False, True):
            try:
                text = tokenizer.apply_chat_template(dialogue, chat_template=template, tokenize=False, add_generation_prompt=prompt)
            except (TemplateError, TypeError, ValueError):
                text = None
            found.append(text)
    return found


def refuse_other_texts(before: Sequence[str | None], after: Sequence[str | None]) -> None:
    """Raise unless dialogues read the same.

    Raises:
        ModelError: one does not.
    """
    if list(before) != list(after):
        i = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
        raise ModelError(f"its chat template would not be the same: dialogue {i // 2 + 1} would read otherwise; nothing was kept")


def differing(texts: Sequence[str], before: Encode, after: Encode) -> str | None:
    """The first text that gives other ids, or None."""
    return next((text for text in texts if list(before(text)) != list(after(text))), None)
