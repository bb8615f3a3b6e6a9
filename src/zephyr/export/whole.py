"""Are the weights in the files those of the whole model, whatever the files call them?

Transformers renames and merges weights when it loads them (the experts of a layer become one tensor), and undoes that when it
saves. So names are compared by its own loader, which is given tensors that have shapes and no numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr.errors import ModelError
from zephyr.models.load import ModelRef
from zephyr.models.reading import first_line, from_pretrained
from zephyr.models.weights import BUFFER, refuse_other_weights

Shapes = Mapping[str, tuple[int, ...]]


def loaded(ref: ModelRef, config: Any, shapes: Shapes) -> Any:
    """The model that transformers makes of files with these weights, on torch's meta device.

    Raises:
        ModelError: it cannot build one of this configuration; or weights are missing, of another shape, or no part of it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise ModelError(f"{ref.name}: is no causal language model that transformers can build ({first_line(error)})") from None

    def read(_: str, **settings: Any) -> Any:
        return type(built).from_pretrained(None, **settings)

    try:
        model, found = from_pretrained(
            read,
            ref,
            ref.name,
            "the model",
            config=config,
            state_dict={name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    except ModelError:
        _refuse_by_names_in_files(built, shapes, ref.name)
        raise
    strange = sorted(str(name) for name in found["unexpected_keys"] if not BUFFER.search(str(name)))
    if found["missing_keys"] or found["mismatched_keys"]:
        _refuse_by_names_in_files(built, shapes, ref.name)
    elif strange:
        raise _no_part(strange[0], built, ref.name)
    refuse_other_weights(model, found, ref.name)
    return model


def _refuse_by_names_in_files(model: Any, shapes: Shapes, where: str) -> None:
    """Transformers names weights as they are in memory, or none if some cannot be merged; what it would save has the names of files.

    Nothing is said where the files have other names than those, so that one cannot tell which belongs to which.
    """
    from transformers.core_model_loading import revert_weight_conversion

    tied = model.all_tied_weights_keys
    saved = revert_weight_conversion(model, {name: weight for name, weight in model.state_dict().items() if name not in tied})
    wanted = {name: tuple(weight.shape) for name, weight in saved.items()}
    there = {name for name in shapes if name not in tied and not BUFFER.search(name)}
    missing, strange = sorted(set(wanted) - there), sorted(there - set(wanted))
    if missing and not strange:
        raise ModelError(f"{where}: {missing[0]} is missing, which a {type(model).__name__} has; give a whole model")
    if strange and not missing:
        raise _no_part(strange[0], model, where)
    if wrong := [name for name in wanted if not missing and shapes[name] != wanted[name]]:
        raise ModelError(f"{where}: {wrong[0]} is of shape {shapes[wrong[0]]}, not {wanted[wrong[0]]} as its config.json says")


def _no_part(name: str, model: Any, where: str) -> ModelError:
    return ModelError(f"{where}: {name} is no part of a {type(model).__name__}; give the config.json of these weights")
