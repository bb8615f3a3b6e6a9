"""How the two training stages train."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer

from zephyr.recipe.base import Count, Name, Positive, Section, Share


class TrainConfig(Section):
    """What both training stages share; none of it changes what is computed (but the masks of dropout), only how.

    What is kept out of the manifest (`exclude`) is not part of a stage's key either: changing it runs nothing again.
    """

    # auto: bfloat16 where a timed matrix product says that it pays, else float32
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    # how many tokens go through the model at once; more is faster and takes more memory; the same numbers, but other masks of dropout
    micro_batch_tokens: Count = Field(default=2048, exclude=True)
    # a checkpoint at least this often, from which the same command goes on
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(default=10, exclude=True)
    # how many of the last checkpoints are kept
    keep_checkpoints: Count = Field(default=2, exclude=True)
    # paused: the training waits while one is written; background: it goes on, and memory for a copy of weights and optimizer is needed;
    # auto: background where there is a GPU and nothing is offloaded: its host has memory to spare
    checkpoint_writing: Literal["auto", "paused", "background"] = Field(default="auto", exclude=True)
    # compute what is inside the layers again on the way back: less memory, one more pass forward, the same numbers
    activation_checkpointing: bool = Field(default=False, exclude=True)
    # what is held in the host's memory instead of the GPU's: optimizer, Adam's moments between updates (one process); all, weights and
    # gradients, too, of which a layer at a time is on the GPU (FSDP2), and the update is made by the host
    offload: Literal["none", "optimizer", "all"] = Field(default="none", exclude=True)
    # where to show the log while it runs, besides metrics.jsonl
    log_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default=[], exclude=True)


class LoRAConfig(Section):
    """Small matrices learn beside the frozen ones of the model, and are added to them at the end."""

    # the inner width of the small matrices: how much an adapter can learn
    rank: Count = 16
    # the adapter counts alpha / rank
    alpha: Count = 16
    # in sft; preferences are learnt without any, as their reference is computed
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    # names of modules as they end; all-linear: every linear layer but the head
    target_modules: list[Name] = Field(default=["all-linear"], min_length=1)
    # nf4: the frozen weights in 4 bits (QLoRA, through bitsandbytes); the reference of dDPO, too
    quantize: Literal["nf4"] | None = None

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A setting that came later: unset, it changes no key."""
        return {name: value for name, value in handler(self).items() if name != "quantize" or value}


# settings that came later: as they are by default, they change no key
LATER = ("lora", "truncation")


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    # how often every row is learnt from
    epochs: Count = 1
    # the peak size of an update
    learning_rate: Positive
    # how the learning rate falls after the warm-up: along half a cosine, along a line, or not at all
    schedule: Literal["cosine", "linear", "constant"]
    # the share of the steps over which the learning rate rises to its peak
    warmup_ratio: Share = 0.1
    # how many rows an update is the mean of
    batch_size: Count
    # longer gradients are shortened to this norm
    max_grad_norm: Positive = 1.0
    # by how much weights are drawn to zero at each update
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    # how much of the past the running means of the gradient and of its square keep
    adam_betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    # added to the root that an update is divided by, so that it is never zero
    adam_epsilon: Positive = 1e-8
    # optimizer steps between two looks at the test split; the first and the last step are always looked at
    evaluate_every: Count = 10
    # train an adapter instead of all weights
    lora: LoRAConfig | None = None

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not used is no part of what a stage was made from."""
        return {name: value for name, value in handler(self).items() if self._is_read(name)}

    @property
    def quantize(self) -> Literal["nf4"] | None:
        """How the frozen weights are held."""
        return self.lora.quantize if self.lora else None

    def _is_read(self, name: str) -> bool:
        return name not in LATER or getattr(self, name) != type(self).model_fields[name].default


class SFTConfig(OptimizerConfig):
    """Distilled supervised fine-tuning: paper, section 3."""

    learning_rate: Positive = 2e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    # sequences of max_length tokens when packed, dialogues when not
    batch_size: Count = 512
    # the longest sequence, in tokens
    max_length: Count = 2048
    # a longer dialogue: exchanges, it loses its last ones, whole, until it fits; drop, it is left out
    truncation: Literal["exchanges", "drop"] = "exchanges"
    # several dialogues in one sequence, none of which sees another
    packing: bool = True
    # assistant: learn what the assistant says; all: every token, as the first public recipe did
    loss_on: Literal["assistant", "all"] = "assistant"


Truncation = Literal["prompt_left", "drop", "answer_right"]
# settings of dpo that one objective alone reads
READ_BY = {"label_smoothing": "cdpo", "gamma": "simpo"}


class DPOConfig(OptimizerConfig):
    """Distilled direct preference optimization: paper, Eq. 1."""

    # dpo: Eq. 1; cdpo: some labels are wrong; ipo: drawn to a margin, not past it; simpo: without a reference
    objective: Literal["dpo", "cdpo", "ipo", "simpo"] = "dpo"
    # how far the model may move from the reference: less of it lets it move further
    beta: Positive = 0.1
    # cdpo: the share of pairs expected to be the wrong way round
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    # simpo: the margin that the preferred answer should win by
    gamma: Annotated[float, Field(ge=0)] = 0.5
    learning_rate: Positive = 5e-7
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    batch_size: Count = 32
    # the longest prompt with an answer, in tokens
    max_length: Count = 1024
    # the longest prompt, in tokens
    max_prompt_length: Count = 512
    # prompt_left: a longer prompt loses its beginning, and a pair with an answer that does not fit after it is left out; drop: a pair
    # with a longer prompt is left out, too; answer_right: an answer that does not fit loses its end, as in the first public recipe
    truncation: Truncation = "prompt_left"

    @field_validator(*READ_BY)
    @classmethod
    def _read_by_the_objective(cls, value: float, info: ValidationInfo) -> float:
        reader, objective = READ_BY[str(info.field_name)], info.data.get("objective")
        if objective not in (None, reader):  # None: it is wrong itself, and said to be
            raise ValueError(f"objective {objective} does not read it; take it out, or set objective: {reader}")
        return value

    @property
    def has_reference(self) -> bool:
        """Whether the objective compares the policy with a frozen model."""
        return self.objective != "simpo"

    def _is_read(self, name: str) -> bool:
        return super()._is_read(name) and READ_BY.get(name, self.objective) == self.objective


def number_of_looks(steps: int, evaluate_every: int) -> int:
    """How often so many updates look at the test split: before the first, at every so many, and after the last in any case."""
    return 1 + math.ceil(steps / evaluate_every)
