"""Does a model that was loaded compute what our log-probabilities take for granted: its logits, and its attention over flat streams?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr.errors import ModelError
from zephyr.models.context import context_of
from zephyr.models.reading import first_line


def refuse_unknown_head(model: Any, where: str) -> None:
    """Our log-probabilities are hidden states times the output matrix; a model that does more would come out wrong.

    Raises:
        ModelError: it does.
    """
    head = model.get_output_embeddings()
    extra = [k for k in ("logit_scale", "logits_scaling") if getattr(model.config, k, None) not in (None, 1, 1.0)]
    if getattr(head, "bias", None) is not None:
        extra.append("a bias on the output matrix")
    if extra:
        raise ModelError(f"{where}: {model.config.model_type} computes its logits with {extra[0]}, which is not supported yet")


def refuse_other_numbers(model: Any, where: str) -> None:
    """A model that mixes positions outside its attention (state spaces, convolutions) or does more with its logits would come out wrong.

    Not told by names but tried: two documents and a prompt with two answers in one stream, against each sequence alone and the
    model's own logits.

    Raises:
        ModelError: its log-probabilities are others, or it takes no flat streams.
    """
    import torch

    from zephyr.train.batches import Example, branching, flatten
    from zephyr.train.logprobs import sequence_sums, stream_logprobs

    size = min(model.config.get_text_config().vocab_size, model.get_input_embeddings().weight.shape[0])
    first, second, prompt, one, other = (tuple((31 * i * i + 7 * j + 5) % size for i in range(1, 7)) for j in range(5))
    alone = [Example(ids, (True,) * len(ids)) for ids in (first, second)]
    alone += [Example(prompt + ids, (False,) * len(prompt) + (True,) * len(ids)) for ids in (one, other)]
    device = str(model.device)
    try:
        with torch.no_grad():
            stream = flatten([*alone[:2], branching(prompt, one, other)], device)
            found = sequence_sums(stream_logprobs(model, stream), stream).tolist()
            wanted = []
            for example in alone:
                ids = torch.tensor([example.ids], device=device)
                logits = model(input_ids=ids, segments=[(len(example.ids),)], use_cache=False).logits[0, :-1].double()
                logprobs = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
                wanted.append(float(logprobs[torch.tensor(example.learnt[1:], device=device)].sum()))
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    except (TypeError, RuntimeError, AttributeError, IndexError) as error:
        raise ModelError(f"{where}: {model.config.model_type} cannot be trained on flat streams ({first_line(error)})") from error
    got, want = max(zip(found, wanted, strict=True), key=lambda pair: abs(pair[0] - pair[1]))
    if abs(got - want) > 5e-4:  # rounding gives some 1e-6; weights that are not numbers are for the training to stop at
        raise ModelError(
            f"{where}: {model.config.model_type} gives other log-probabilities in a flat stream ({got:.4f} instead of {want:.4f}); "
            "it mixes positions outside its attention or changes its logits, which is not supported yet"
        )


def guard_positions(model: Any, where: str) -> None:
    """Where positions depend on the longest sequence of a stream beyond a length, refuse streams that go beyond it."""
    limit = context_of(model.config).alike
    if limit is None:
        return

    def check(module: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        positions = kwargs.get("position_ids")
        longest = 0 if positions is None else int(positions.max()) + 1
        if kwargs.get("segments") is not None and longest > limit:
            raise ModelError(
                f"{where}: a sequence of {longest} tokens; beyond {limit} the positions of this model depend on what else is in the batch: "
                "lower sft.max_length or dpo.max_length"
            )

    model.base_model.register_forward_pre_hook(check, with_kwargs=True)
