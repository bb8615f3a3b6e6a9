"""How large a model is and what a token costs it, from its configuration alone: no weight is loaded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from zephyr.errors import ModelError
from zephyr.models.reading import first_line


@dataclass(frozen=True)
class Shape:
    """Counts of weights, and the widths that decide what attention costs.

    Args:
        parameters: all weights, tied ones once.
        products: weights that multiply every token: the head among them, the input embedding not.
        head: weights of the output matrix (vocabulary x hidden).
        layer: weights of one decoder layer, of the largest where they differ.
        layers: how many.
        hidden: width of the stream.
        attention: heads x head size: the width that attends.
        vocabulary: rows of the output matrix.
    """

    parameters: int
    products: int
    head: int
    layer: int
    layers: int
    hidden: int
    attention: int
    vocabulary: int

    def forward_flops(self, tokens: float, predicted: float, seen: float) -> float:
        """Of a pass forward.

        Args:
            tokens: that go through the layers.
            predicted: that meet the output matrix, too.
            seen: how many tokens one sees on average, which is what attention costs.

        Source: 2 a weight and token; attention 4 x width x seen in every layer (Chowdhery et al. 2022, PaLM, appendix B).
        """
        inside = self.products - self.head
        return tokens * (2 * inside + 4 * self.layers * self.attention * seen) + 2 * predicted * self.head


def shape_of(config: Any) -> Shape:
    """The shape of a causal language model, from its transformers configuration.

    Raises:
        ModelError: transformers cannot build it.
    """
    model = skeleton(config)
    text = config.get_text_config()
    from zephyr.train.meter import matmul_weights
    from zephyr.train.parallel import decoder_layers

    layers = decoder_layers(model)
    heads = int(getattr(text, "num_attention_heads", 0) or 1)
    size = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        products=matmul_weights(model),
        head=int(model.get_output_embeddings().weight.numel()),
        layer=max((sum(p.numel() for p in layer.parameters()) for layer in layers), default=0),
        layers=len(layers),
        hidden=int(text.hidden_size),
        attention=heads * size,
        vocabulary=int(model.get_output_embeddings().weight.shape[0]),
    )


def skeleton(config: Any) -> Any:
    """A model with shapes and no numbers.

    Raises:
        ModelError: transformers cannot build it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(copy.deepcopy(config))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ModelError(f"a model of type {getattr(config, 'model_type', '?')} cannot be built ({first_line(error)})") from error
