"""A chat template rendered from its text alone, as readers of a GGUF file do it: no tokenizer of transformers takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_DATE = "26 Jul 2024"


def render(template: str, messages: Sequence[Mapping[str, str]], generation_prompt: bool, names: Mapping[str, str]) -> str | None:
    """The text of a dialogue, None where the template refuses it.

    Args:
        template: Jinja.
        messages: the turns.
        generation_prompt: up to where the assistant begins to speak.
        names: the texts of tokens, as `bos_token`.
    """
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment: Any = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals.update(raise_exception=refuse, strftime_now=lambda _: _DATE)
    try:
        compiled = environment.from_string(template)
        return str(compiled.render(messages=[dict(m) for m in messages], add_generation_prompt=generation_prompt, **names))
    except (TemplateError, TypeError, ValueError):
        return None
