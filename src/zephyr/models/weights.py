"""Are the weights of a checkpoint those of the model that its configuration names?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from zephyr.errors import ModelError
from zephyr.models.reading import say_once

ADAPTER = "holds an adapter (adapter_config.json), not a whole model; merge it into its base model (`merge_and_unload` of peft) first"
SHOWN = 3  # of the weights that are wrong, so many are named
# buffers that older versions saved beside the weights, and that are computed anew
BUFFER = re.compile(r"(^|\.)(inv_freq|(attn|attention)\.(masked_)?bias)$")


def refuse_other_weights(model: Any, found: Mapping[str, Any], where: str) -> None:
    """Transformers fills in what a checkpoint lacks with random numbers, and leaves out what the architecture does not have.

    Raises:
        ModelError: a weight is missing or of another shape; or weights are left out that were part of the computation.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(f"{where}: {ADAPTER}")
    wrong = {str(name): "missing" for name in found["missing_keys"]}
    wrong |= {str(name): f"of shape {tuple(got)}, not {tuple(wanted)}" for name, got, wanted in found["mismatched_keys"]}
    left_out = sorted(str(name) for name in found["unexpected_keys"] if not BUFFER.search(str(name)))
    if wrong:
        said = _some([f"{name} is {what}" for name, what in sorted(wrong.items())])
        instead = f"; there are {_some(left_out)} instead" if left_out else ""
        raise ModelError(
            f"{where}: its weights are not those of a {type(model).__name__}: {said}{instead}; "
            "give a whole causal language model, with the config.json that belongs to its weights"
        )
    if body := [name for name in left_out if name.split(".")[0] in _parts_of(model)]:
        raise ModelError(
            f"{where}: a {type(model).__name__} of this config.json has no {_some(body)}, which its weights have, so it would compute "
            "something else; give the config.json that belongs to the weights"
        )
    if left_out:
        made_for = ", ".join(getattr(model.config, "architectures", None) or ())
        if made_for and not any(word in made_for for word in ("CausalLM", "LMHead", "ConditionalGeneration")):
            raise ModelError(
                f"{where}: is a {made_for} (it has {_some(left_out)}), not a causal language model; give the model it was made of"
            )
        say_once(f"  {where}: {_some(left_out)} of its weights are no part of a {type(model).__name__}, and are left out")


def _parts_of(model: Any) -> set[str]:
    """What the names of a model's weights begin with, with and without the prefix of its body."""
    return {name.split(".")[0] for part in (model, model.base_model) for name, _ in part.named_parameters(remove_duplicate=False)}


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
