"""A language model from nothing, on plain text: what the experiments start from where no model is given.

It has a tokenizer of its own, learnt from the same text, and no chat template: it was never shown a dialogue. What it is trained with is
the training of the two stages, on windows of `max_length` tokens that run on from one document into the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.progress import say
from zephyr.recipe import DataSource, Section, ShapeConfig, TrainConfig
from zephyr.reproduce.preset import BaseConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from zephyr.train.tasks import Dialogues

VERSION = 1
EOS = "</s>"
PIECE = 20_000  # characters that are tokenized at once
# GPT-2's: contractions, words with the space before them, numbers, the rest
SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


class Config(Section):
    """What the model depends on, beside the text."""

    seed: int
    train: TrainConfig
    base: BaseConfig


def run(config: Config, data: Sequence[DataSource], out: Draft) -> None:
    """Learn the vocabulary, make the model, train it, and write it as a plain folder.

    Raises:
        DataError: the text does not fill two windows.
    """
    texts = [str(row["text"]) for source in data for _, _, row in sources.rows(source, whole=True)]
    shape, training = config.base.shape, config.base.training
    say(f"  a vocabulary of {shape.vocab_size:,} tokens from {sum(map(len, texts)):,} characters")
    tokenizer = vocabulary(texts, shape.vocab_size)
    items = windows(tokenizer, texts, training.max_length)
    if len(items) < 2:
        raise DataError(f"the text for the base fills {len(items)} windows of {training.max_length} tokens; give more text")
    from zephyr.text.chat import ChatFormat
    from zephyr.train import session
    from zephyr.train.tasks import SFT

    model = random_model(shape, tokenizer, config.seed)
    # the trainer saves a model with a chat format; that of the base is taken off again
    chat = ChatFormat(tokenizer)
    session.fit(model, chat, SFT(), training, config.train, items, (), seed=config.seed, out=out, label="base")
    tokenizer.chat_template = None
    (out.model_dir / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(out.model_dir)
    out.manifest.results |= {"characters": sum(map(len, texts)), "window_tokens": len(items) * training.max_length}
    out.note("Trained from nothing on plain text; it was shown no dialogue and has no chat template.")


def vocabulary(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `size` tokens at most: any text can be written in it. Its one special token ends a document."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # its own order changes from run to run
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=EOS, pad_token=EOS, clean_up_tokenization_spaces=False)


def windows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int) -> list[Dialogues]:
    """The documents end to end, each with the token that ends it, cut into windows of `length`; a rest that fills none is left out."""
    from zephyr.train.batches import Example
    from zephyr.train.tasks import Dialogues

    stream: list[int] = []
    for text in texts:
        stream += [
            *chain.from_iterable(tokenizer(_pieces(text), add_special_tokens=False, verbose=False)["input_ids"]),
            tokenizer.eos_token_id,
        ]
    learnt = (False,) + (True,) * (length - 1)
    return [
        Dialogues(f"window {at // length}", (Example(tuple(stream[at : at + length]), learnt),))
        for at in range(0, len(stream) - length + 1, length)
    ]


def _pieces(text: str) -> list[str]:
    """A long text in pieces that end at line breaks, so that a novel is not tokenized in one."""
    pieces, at = [], 0
    while at < len(text):
        end = text.find("\n", at + PIECE) + 1 or len(text)
        pieces.append(text[at:end])
        at = end
    return pieces


def random_model(shape: ShapeConfig, tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """The model before it has learnt anything, on its device, with attention over flat streams."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from zephyr.models import load
    from zephyr.train.attention import NAME
    from zephyr.train.fused import fuse

    values = shape.model_dump(exclude_none=True)
    config = AutoConfig.for_model(
        values.pop("model_type"), **values, bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=torch.float32)
    model = model.to(load.device())
    fuse(model)
    return model.eval()
