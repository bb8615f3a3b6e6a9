"""Reward models: any sequence classifier with one output, from a folder, as a judge of answers.

A reward is what the model gives the whole conversation, written in its own chat template. Batches are of similar length; what is padded
does not count, so a reward does not depend on what else is in its batch but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import ModelError
from zephyr.models.context import context_of
from zephyr.models.load import ModelRef, device, load_tokenizer
from zephyr.models.reading import from_pretrained
from zephyr.progress import bar
from zephyr.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_TOKENS = 8192  # padding included


class RewardModel:
    """A reward model in memory.

    Attributes:
        name: its folder or hub name.
        longest: tokens that it can read; None where its configuration names no limit.
    """

    def __init__(self, ref: ModelRef) -> None:
        """Load it, in float32.

        Raises:
            ModelError: there are no safetensors, it has not one output, its reward head is not among its weights, or its tokenizer has
                no chat template.
        """
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification

        self.name = where = ref.locate()
        config = from_pretrained(AutoConfig.from_pretrained, ref, where, "its configuration")
        if config.num_labels != 1:
            raise ModelError(f"{where}: has {config.num_labels} outputs; a reward model has one (num_labels: 1 in its config.json)")
        _refuse_pickle(where)
        self._tokenizer = load_tokenizer(ref)
        if not self._tokenizer.chat_template:
            raise ModelError(
                f"{where}: its tokenizer has no chat template, so nothing says how it was shown conversations; put the one it was trained "
                "with into its tokenizer_config.json (or chat_template.jinja)"
            )
        model, found = from_pretrained(
            AutoModelForSequenceClassification.from_pretrained,
            ref,
            where,
            "the reward model",
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
        _refuse_invented_weights(found, where)
        self.longest = context_of(model.config).longest
        self._pad = _padding(model, self._tokenizer)
        self._model = model.to(device()).eval()

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """A conversation in ids, as the model's own template writes it.

        Raises:
            ModelError: the template does not take this conversation.
        """
        from jinja2 import TemplateError

        turns = [{"role": str(m["role"]), "content": m["content"]} for m in messages]
        try:
            text = str(self._tokenizer.apply_chat_template(turns, tokenize=False))
        except (TemplateError, TypeError) as error:
            raise ModelError(f"{self.name}: its chat template refuses a conversation ({error})") from None
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])  # the template writes what stands before a text

    def rewards(self, sequences: Sequence[Sequence[int]], label: str = "rewards") -> list[float]:
        """The reward of each sequence of ids, in their order.

        Args:
            sequences: what `encode` gave; none longer than `longest`.
            label: what the progress bar says.
        """
        import torch

        found = [0.0] * len(sequences)
        where = self._model.device
        with torch.no_grad(), bar(label, sum(map(len, sequences)), "tokens") as progress:
            for batch in _batches([len(ids) for ids in sequences], single=self._pad is None):
                width = max(len(sequences[i]) for i in batch)
                ids = [[*sequences[i], *[self._pad or 0] * (width - len(sequences[i]))] for i in batch]
                seen = [[1] * len(sequences[i]) + [0] * (width - len(sequences[i])) for i in batch]
                logits_B1 = self._model(
                    input_ids=torch.tensor(ids, device=where), attention_mask=torch.tensor(seen, device=where), **self._settings
                ).logits
                for i, reward in zip(batch, logits_B1[:, 0].double().tolist(), strict=True):
                    found[i] = reward
                progress.advance(sum(len(sequences[i]) for i in batch))
        return found

    @property
    def _settings(self) -> dict[str, Any]:
        """No cache of keys and values: nothing is generated. Encoders know no such setting."""
        return {"use_cache": False} if hasattr(self._model.config, "use_cache") and not self._model.config.is_encoder_decoder else {}


def _batches(sizes: Sequence[int], *, single: bool) -> Iterator[list[int]]:
    """Indices of sequences of similar length, the longest first, as many at a time as fit into a batch with their padding."""
    batch: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if batch and (single or sizes[batch[0]] * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _padding(model: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id to pad with: a decoder finds the last token by it, so it must be the one of its configuration; None: one at a time."""
    if model.config.pad_token_id is None and tokenizer.pad_token_id is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    pad: int | None = model.config.pad_token_id
    return pad


def _refuse_pickle(where: str) -> None:
    folder = Path(where)
    if folder.is_dir() and not list(folder.glob("*.safetensors")):
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        there = f"; {others[0]} is a pickle, which can run code and is not read: convert it to safetensors" if others else ""
        raise ModelError(f"{where}: no weights in safetensors{there}")


def _refuse_invented_weights(found: Any, where: str) -> None:
    """Transformers fills in what a checkpoint lacks with random numbers: a reward head that is not there would judge at random.

    Raises:
        ModelError: a weight is missing or of another shape.
    """
    wrong = [f"{name} is missing" for name in sorted(found["missing_keys"])]
    wrong += [f"{name} has another shape" for name, *_ in found["mismatched_keys"]]
    if wrong:
        raise ModelError(
            f"{where}: not a trained reward model of its config.json: {wrong[0]}{f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''}; "
            "give the folder of a sequence classifier with its head"
        )
