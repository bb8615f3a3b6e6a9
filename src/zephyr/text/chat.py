r"""The chat format: how turns become tokens, and which of them are learnt.

The paper's format is plain markers and the tokenizer's own end-of-sequence token (EOS)::

    <|system|>\n{text}</s>\n<|user|>\n{text}</s>\n<|assistant|>\n{text}</s>\n

Any tokenizer's own template works as well, if it can be cut: what stands before an assistant turn must not change
when the turn is added, and each assistant turn must end in one special token, which is where the model learns to stop.

A conversation is cut into a prompt part and an assistant part per assistant turn. The text is tokenized part by part,
each after the part before it, so a prompt is a prefix of prompt + completion in ids, by construction; and it is what
`tokenizer.apply_chat_template` gives for the whole, wherever the tokenizer does not merge across the cut.

What the template says is in `template`, which texts are control tokens in `control`, how parts become ids in `tokens`; here they
make a format.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zephyr.errors import DataError, ModelError
from zephyr.records import Message
from zephyr.text.control import ControlTokens
from zephyr.text.template import ZEPHYR_BODY, with_fixed_date, zephyr_template
from zephyr.text.tokens import Encoder, Part, Tokens, adds_bos, short

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLE_MARKERS = ("<|system|>", "<|user|>", "<|assistant|>")

_PROBE: list[Message] = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
    {"role": "assistant", "content": "Four."},
]

_NOTHING = Tokens((), ())
_TO_BE_CUT = (
    "; set `chat_template: zephyr` (--chat-template zephyr), or give a Jinja file whose generation prompt holds what is written before an "
    "answer, and which leaves earlier turns as they are"
)


class _UncutError(DataError):
    """The template does not write this conversation such that a prompt is a prefix of its answer."""


class ChatFormat:
    """Turns to ids, with one tokenizer and one template.

    Attributes:
        template: the Jinja text, as it travels with the model.
        asked_for_the_date: whether it wrote the date of the day; now it writes that of `template.TODAY`.

    Raises:
        ModelError: the tokenizer has no EOS, no template is there, it depends on the time in a way that cannot be fixed, or it
            cannot be cut.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str = "zephyr", *, learns: bool = True) -> None:
        """`template` is `zephyr`, `tokenizer`, or the text of a Jinja template.

        With `learns` false, only prompts are written in it, for a model to answer: a template that cannot be cut will do, and a
        conversation that it does not cut is tokenized in one piece.
        """
        self._learns = learns
        self.name = tokenizer.name_or_path or "the tokenizer"
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{self.name}: the tokenizer has no end-of-sequence token; a chat model needs one to learn where to stop")
        if template == "zephyr":
            tokenizer.chat_template = zephyr_template(with_bos=adds_bos(tokenizer))
        elif template != "tokenizer":
            tokenizer.chat_template = template
        if isinstance(tokenizer.chat_template, dict):  # some ship several by name; `default` is the one that chats
            tokenizer.chat_template = tokenizer.chat_template.get("default")
        if not tokenizer.chat_template:
            raise ModelError(f"{self.name}: the tokenizer has no chat template; set `model.chat_template: zephyr`, or give a Jinja file")
        given = str(tokenizer.chat_template)
        tokenizer.chat_template = with_fixed_date(given, self.name)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = tokenizer
        self.template = str(tokenizer.chat_template)
        self.asked_for_the_date = self.template != given
        self.is_zephyr = template == "zephyr" or ZEPHYR_BODY in self.template
        self._check()

    # --- text ------------------------------------------------------------------------------------------------

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
        """The text of a conversation; with `generation_prompt`, up to where the assistant begins to speak."""
        from jinja2 import TemplateError

        turns = [{"role": str(m["role"]), "content": m["content"]} for m in messages]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation_prompt))
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(f"the chat template refuses this conversation: {error}") from None

    def parts(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> list[Part]:
        """The text of a conversation as (text, learnt) parts, in order; joined, they are what `render` gives.

        A learnt part is what the assistant says and the token that ends its turn.

        Raises:
            DataError: a turn contains a control token, the template changes what stood before, or writes an
                answer that is not the turn's (but for space around it, which templates may trim).
        """
        self.refuse_control_tokens(messages)
        parts: list[Part] = []
        done = whole = ""
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:i], generation_prompt=True)
            whole = self.render(messages[: i + 1])
            _refuse_change(done, before)
            _refuse_change(before, whole)
            said, end = self._cut_answer(whole[len(before) :])
            if said.strip() != message["content"].strip():
                raise _UncutError(
                    f"turn {i}: the chat template writes {short(said)} where the assistant says {short(message['content'])}; "
                    "what it writes before an answer must be part of its generation prompt"
                )
            parts += [(before[len(done) :], False), (said + end, True)]
            done = before + said + end
        is_whole = bool(parts) and messages[-1]["role"] == "assistant" and not generation_prompt
        rest = whole if is_whole else self.render(messages, generation_prompt=generation_prompt)
        _refuse_change(done, rest)
        if rest[len(done) :]:
            parts.append((rest[len(done) :], False))
        return parts

    def _cut_answer(self, text: str) -> tuple[str, str]:
        """What the assistant says, and the token that ends its turn: the first control token of the vocabulary."""
        found = self._control.first_in(text)
        if found is None:
            raise ModelError(
                "the chat template ends an assistant turn without an end-of-sequence token, so the model would never learn to stop; "
                "set `model.chat_template: zephyr`, or mend the template"
            )
        return text[: found.start()], found.group()

    @cached_property
    def _scaffold(self) -> str:
        """What the template writes around the turns; where nothing is learnt, in prompts: an answer may hold what opens its thoughts."""
        probe = _PROBE if self._learns else _PROBE[:-1]
        texts = [self.render(probe, generation_prompt=not self._learns)]
        with contextlib.suppress(DataError):  # some refuse a system turn
            texts.append(self.render([{"role": "system", "content": "One?"}, *probe], generation_prompt=not self._learns))
        around = "\n".join(texts)
        for message in _PROBE:
            around = around.replace(message["content"], "\n")
        return around

    @cached_property
    def _control(self) -> ControlTokens:
        return ControlTokens(self.tokenizer, self._scaffold, ROLE_MARKERS if self.is_zephyr else ())

    @property
    def control_tokens(self) -> list[str]:
        """Texts that must not stand inside a turn: they would be read as the end of it, or as another's turn."""
        return self._control.texts

    def refuse_control_tokens(self, messages: Sequence[Message]) -> None:
        """Raise `DataError` if a turn contains a control token."""
        self._control.refuse_in(messages)

    # --- ids -------------------------------------------------------------------------------------------------

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self._control)

    def encode(self, messages: Sequence[Message], *, loss_on: str = "assistant") -> Tokens:
        """A whole conversation. With `loss_on="all"` every token but the first is learnt, else the assistant's alone."""
        return Tokens.of(self._encoder.one(self.parts(messages)), loss_on)

    def encode_each(self, conversations: Sequence[Sequence[Message]], *, loss_on: str = "assistant") -> list[Tokens | DataError]:
        """As `encode`, several at a time, which is quicker; what cannot be encoded is given as the error that `encode` raises."""
        found: list[Tokens | DataError] = []
        cut: list[list[Part]] = []
        waiting: list[int] = []
        for messages in conversations:
            try:
                cut.append(self.parts(messages))
            except DataError as error:
                found.append(error)
            else:
                waiting.append(len(found))
                found.append(_NOTHING)
        for at, pieces in zip(waiting, self._encoder.many(cut), strict=True):
            found[at] = pieces if isinstance(pieces, DataError) else Tokens.of(pieces, loss_on)
        return found

    def encode_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """What the model sees before it answers: the turns so far and the generation prompt."""
        return tuple(t for piece, _ in self._encoder.one(self._prompt_parts(messages)) for t in piece)

    def _prompt_parts(self, messages: Sequence[Message]) -> list[Part]:
        """The text of a prompt as it is cut in training; in one piece where it cannot be cut and nothing is learnt."""
        try:
            return self.parts(messages, generation_prompt=True)
        except (_UncutError, ModelError):
            if self._learns:
                raise
            return [(self.render(messages, generation_prompt=True), False)]

    def encode_pair(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(prompt ids, completion ids) of a conversation whose last turn is the answer in question.

        Raises:
            DataError: the last turn is not the assistant's.
        """
        if not messages or messages[-1]["role"] != "assistant":
            raise DataError("the last turn is not the assistant's: there is no answer to score")
        pieces = self._encoder.one(self.parts(messages))
        last = max(i for i, (_, learnt) in enumerate(pieces) if learnt)
        return tuple(t for piece, _ in pieces[:last] for t in piece), tuple(pieces[last][0])

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids at which generation stops: EOS, and the token that ends a turn in this template."""
        return tuple(sorted({int(self.tokenizer.eos_token_id), *self._end_of_turn}))

    @cached_property
    def _end_of_turn(self) -> tuple[int, ...]:
        """The id that ends an assistant turn; none where nothing is learnt and the template writes none."""
        try:
            return self.encode_pair(_PROBE)[1][-1:]
        except (DataError, ModelError):
            if self._learns:
                raise
        with contextlib.suppress(DataError):
            after = self.render(_PROBE).rpartition(_PROBE[-1]["content"])[2]
            if found := self._control.first_in(after):
                return self._control.ids_of(found.group())
        return ()

    @cached_property
    def ids_needed(self) -> int:
        """How many ids a model must know. Control tokens that the template does not write never come up (Gemma 3 has one such)."""
        known = set(self.tokenizer.get_vocab().values()) - self._control.unwritten
        return 1 + max(known | {*self.stop_ids, int(self.tokenizer.pad_token_id)})

    # --- is it usable? ---------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Refuse a template that cannot be used, before any work is done with it: where something is learnt, it must be one to cut."""
        try:
            ids = self.encode(_PROBE).ids if self._learns else self.encode_prompt(_PROBE[:1])
        except DataError as error:
            advice = _TO_BE_CUT if isinstance(error, _UncutError) else ""
            raise ModelError(f"{self.name}: the chat template cannot be used: {error}{advice}") from None
        bos = self.tokenizer.bos_token_id
        if bos is None or bos == self.tokenizer.eos_token_id or not adds_bos(self.tokenizer):
            return
        if ids[0] != bos:
            raise ModelError(
                f"{self.name}: the chat template does not begin with the beginning-of-sequence token that the tokenizer's models expect; "
                "put {{ bos_token }} at its start"
            )
        # one a text; Llama 2's own template begins every exchange with one
        if ids.count(bos) not in (1, 2) or ids[1] == bos:
            raise ModelError(f"{self.name}: the chat template writes more beginning-of-sequence tokens than the tokenizer's models expect")


def _refuse_change(before: str, after: str) -> None:
    if not after.startswith(before):
        raise _UncutError("the chat template changes earlier turns when a turn is added, so a prompt is no prefix of its answer")


def describe(chat: ChatFormat) -> Mapping[str, Any]:
    """What identifies a format: part of the key of anything computed with it."""
    return {"template": chat.template, "vocabulary": len(chat.tokenizer), "eos": chat.tokenizer.eos_token_id}
