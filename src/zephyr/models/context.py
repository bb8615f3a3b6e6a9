"""How many tokens a model can read, from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zephyr.errors import ModelError


@dataclass(frozen=True)
class Context:
    """What a model's positions are made for.

    Args:
        longest: tokens that a sequence may have; None where the configuration names no limit.
        alike: up to so many tokens a position is the same whatever is computed beside it. Beyond, rotary positions of the types
            `dynamic` and `longrope` are those of the longest sequence of a batch, or of an earlier batch. None: always the same.
    """

    longest: int | None = None
    alike: int | None = None

    @property
    def exact(self) -> int | None:
        """Tokens up to which a sequence comes out the same alone and beside others; None where there is no limit."""
        return min((n for n in (self.longest, self.alike) if n is not None), default=None)


def context_of(config: Any) -> Context:
    """The context of a model, from its transformers configuration."""
    config = config.get_text_config()
    named = getattr(config, "max_position_embeddings", None)  # of GPT-2 it is another name of `n_positions`
    if not isinstance(named, int) or named < 1:
        return Context()
    longest, alike = named, None
    for rope in _rotary(config):
        kind = rope.get("rope_type") or rope.get("type") or "default"
        original = rope.get("original_max_position_embeddings") or named
        if kind in ("linear", "yarn"):  # configurations of both name the length before stretching or after
            longest = max(longest, int(original * rope.get("factor", 1)))
        elif kind == "longrope":
            alike = min(original, alike or original)
        elif "dynamic" in kind:
            # beyond, transformers keeps the frequencies of the longest sequence there ever was: the past would count
            alike = longest = named
    return Context(longest, alike)


def _rotary(config: Any) -> Iterator[Mapping[str, Any]]:
    """The parameters of rotary positions: one set, or one for each kind of layer (Gemma 3); none where positions are learnt."""
    found = getattr(config, "rope_parameters", None) or {}
    for rope in found.values() if all(isinstance(v, Mapping) for v in found.values()) else [found]:
        if rope:
            yield rope


def refuse_beyond(config: Any, where: str, settings: Mapping[str, int]) -> None:
    """Refuse settings that let a sequence of the training be longer than the model can take.

    Args:
        config: of the model.
        where: what the model is called.
        settings: lengths in tokens, by the name they have in the recipe.

    Raises:
        ModelError: a length is beyond the context, or beyond what is computed alike in every batch.
    """
    context = context_of(config)
    for name, tokens in settings.items():
        if context.longest is not None and tokens > context.longest:
            raise ModelError(
                f"{name} is {tokens}, but {where} reads {context.longest} tokens at most; set {name} to {context.longest} or less"
            )
        if context.alike is not None and tokens > context.alike:
            raise ModelError(
                f"{name} is {tokens}, but beyond {context.alike} tokens the positions of {where} depend on what else is in the batch; "
                f"set {name} to {context.alike} or less"
            )
