"""Chat templates: the paper's format as one, and a fixed day in the place of the present one.

Some templates write the date of the day. A prompt must not change overnight, so `strftime_now("…")` is replaced by the date of
a fixed day, in the template that travels with the model as well. Templates that take a `date_string` still do.
"""

from __future__ import annotations

import re
from datetime import datetime

from zephyr.errors import ModelError

# What `strftime_now` gives, whatever day it is: the date that Llama 3's own template falls back on.
TODAY = datetime(2024, 7, 26)
_ASKS_FOR_THE_DATE = re.compile(r"""\bstrftime_now\s*\(\s*(?P<quote>["'])(?P<format>[^"'\\]*)(?P=quote)\s*\)""")
_IS_THERE = re.compile(r"\bstrftime_now\s+is\s+(not\s+)?(un)?defined\b")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)

# An empty system turn where none is given, as in the paper's data. The generation prompt belongs to the prompt.
ZEPHYR_BODY = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|system|>\\n' + eos_token + '\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def zephyr_template(*, with_bos: bool) -> str:
    """The paper's format as a Jinja template, with a leading BOS for tokenizers that put one before a text."""
    return ("{{ bos_token }}" if with_bos else "") + ZEPHYR_BODY


def with_fixed_date(template: str, name: str) -> str:
    """The template with the date of `TODAY` wherever it asks for the present one.

    Raises:
        ModelError: it asks for it in a way that is not understood.
    """

    def fixed(found: re.Match[str]) -> str:
        return found["quote"] + TODAY.strftime(found["format"]) + found["quote"]

    made = _ASKS_FOR_THE_DATE.sub(fixed, template)
    if "strftime_now" in _IS_THERE.sub("", _COMMENT.sub("", made)):
        raise ModelError(
            f"{name}: the chat template depends on the time (strftime_now) in a way that cannot be fixed, so prompts would change from day "
            "to day; give a Jinja file that writes a date instead"
        )
    return made
