r"""The chat format: how turns become tokens, and which of them are learnt.

The paper's format is plain markers and the tokenizer's own end-of-sequence token (EOS)::

    <|system|>\n{text}</s>\n<|user|>\n{text}</s>\n<|assistant|>\n{text}</s>\n

Any tokenizer's own template works as well, if it can be cut: what stands before an assistant turn must not change
when the turn is added, and each assistant turn must end in one special token, which is where the model learns to stop.

A conversation is cut into a prompt part and an assistant part per assistant turn. The text is tokenized part by part,
each after the part before it, so a prompt is a prefix of prompt + completion in ids, by construction; and it is what
`tokenizer.apply_chat_template` gives for the whole, wherever the tokenizer does not merge across the cut.

Some templates write the date of the day. A prompt must not change overnight, so `strftime_now("…")` is replaced by the date of
a fixed day, in the template that travels with the model as well. Templates that take a `date_string` still do.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from zephyr.errors import DataError, ModelError
from zephyr.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLE_MARKERS = ("<|system|>", "<|user|>", "<|assistant|>")

# How templates mark roles in plain text: <|user|>, [INST], <<SYS>>. Written by a user, one would open another's turn.
_PLAIN_MARKER = re.compile(r"<\|[^<>|\s]+\|>|<<?/?[A-Z]+>>?|\[/?[A-Z]+\]")

# What `strftime_now` gives, whatever day it is: the date that Llama 3's own template falls back on.
TODAY = datetime(2024, 7, 26)
_ASKS_FOR_THE_DATE = re.compile(r"""\bstrftime_now\s*\(\s*(?P<quote>["'])(?P<format>[^"'\\]*)(?P=quote)\s*\)""")
_IS_THERE = re.compile(r"\bstrftime_now\s+is\s+(not\s+)?(un)?defined\b")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)

_PROBE: list[Message] = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
    {"role": "assistant", "content": "Four."},
]

# An empty system turn where none is given, as in the paper's data. The generation prompt belongs to the prompt.
_ZEPHYR_BODY = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|system|>\\n' + eos_token + '\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def zephyr_template(*, with_bos: bool) -> str:
    """The paper's format as a Jinja template, with a leading BOS for tokenizers that put one before a text."""
    return ("{{ bos_token }}" if with_bos else "") + _ZEPHYR_BODY


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a beginning-of-sequence token (BOS) before a text of its own accord."""
    bos = tokenizer.bos_token_id
    ids = tokenizer("a")["input_ids"]
    return bos is not None and bool(ids) and ids[0] == bos


@dataclass(frozen=True)
class Tokens:
    """A conversation in ids, and for each id whether it is learnt.

    The loss at position t is about predicting `ids[t]` from `ids[:t]`; `learnt[t]` says whether it counts.
    """

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]


_NOTHING = Tokens((), ())
Pieces = list[tuple[list[int], bool]]  # ids, and whether they are learnt


class _UncutError(DataError):
    """The template does not write this conversation such that a prompt is a prefix of its answer."""


class ChatFormat:
    """Turns to ids, with one tokenizer and one template.

    Attributes:
        template: the Jinja text, as it travels with the model.
        asked_for_the_date: whether it wrote the date of the day; now it writes that of `TODAY`.

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
        tokenizer.chat_template = _with_fixed_date(given, self.name)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = tokenizer
        self.template = str(tokenizer.chat_template)
        self.asked_for_the_date = self.template != given
        self.is_zephyr = template == "zephyr" or _ZEPHYR_BODY in self.template
        self._head: dict[str, list[int]] = {}
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

    def parts(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> list[tuple[str, bool]]:
        """The text of a conversation as (text, learnt) parts, in order; joined, they are what `render` gives.

        A learnt part is what the assistant says and the token that ends its turn.

        Raises:
            DataError: a turn contains a control token, the template changes what stood before, or writes an
                answer that is not the turn's (but for space around it, which templates may trim).
        """
        self.refuse_control_tokens(messages)
        parts: list[tuple[str, bool]] = []
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
                    f"turn {i}: the chat template writes {_short(said)} where the assistant says {_short(message['content'])}; "
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
        found = self._atomic_pattern.search(text)
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
    def _atomic(self) -> frozenset[str]:
        """The control tokens that are one id each: the special ones, and those that the template writes.

        The rest of the added vocabulary is text: Gemma has runs of line breaks there, GPT-NeoX runs of spaces.
        """
        added = self.tokenizer.added_tokens_decoder.values()
        special = {t.content for t in added if t.special} | set(self.tokenizer.all_special_tokens)
        written = {t.content for t in added if t.content.strip() and t.content in self._scaffold}
        return frozenset((special | written) - {""})

    @cached_property
    def _atomic_pattern(self) -> re.Pattern[str]:
        return _any_of(self._atomic)

    @cached_property
    def _atomic_ids(self) -> frozenset[int]:
        ids = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.content in self._atomic}
        return frozenset(ids - {self.tokenizer.unk_token_id})  # the unknown token may stand for text

    @cached_property
    def control_tokens(self) -> list[str]:
        """Texts that must not stand inside a turn: they would be read as the end of it, or as another's turn."""
        plain = {*_PLAIN_MARKER.findall(self._scaffold), *(ROLE_MARKERS if self.is_zephyr else ())}
        return sorted(self._atomic | plain)

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        return _any_of(self.control_tokens)

    def refuse_control_tokens(self, messages: Sequence[Message]) -> None:
        """Raise `DataError` if a turn contains a control token."""
        for i, message in enumerate(messages):
            if found := self._control_pattern.search(message["content"]):
                raise DataError(f"turn {i} ({message['role']}) contains the control token {found.group()!r}")

    # --- ids -------------------------------------------------------------------------------------------------

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        if not self._is_plain:
            return [list(ids) for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
        backend: Any = self.tokenizer.backend_tokenizer
        # what transformers sets before each call; only where it differs, since nobody may read meanwhile
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        if backend.encode_special_tokens != self.tokenizer.split_special_tokens:
            backend.encode_special_tokens = self.tokenizer.split_special_tokens
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _is_plain(self) -> bool:
        """Is a call of the tokenizer no more than its library's own? That one, asked for ids alone, takes a third less time."""
        from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

        kind = type(self.tokenizer)
        return (
            isinstance(self.tokenizer, PreTrainedTokenizerFast)
            and kind.__call__ is PreTrainedTokenizerBase.__call__
            and kind._encode_plus is PreTrainedTokenizerFast._encode_plus
            and not hasattr(kind, "_switch_to_input_mode")
        )

    def _heads(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """The ids of some texts, those that are short remembered: the same few headers come again and again."""
        heads = {text: self._head.get(text) for text in texts}
        unknown = [text for text, ids in heads.items() if ids is None]
        for text, ids in zip(unknown, self._ids(unknown), strict=True):
            heads[text] = ids
            if len(text) < 200 and len(self._head) < 4096:
                self._head[text] = ids
        return {text: ids for text, ids in heads.items() if ids is not None}

    def _anchor(self, before: str) -> str:
        """The end of `before` that can change how what follows is read: tokenizers split at control tokens."""
        return before[max(0, *(before.rfind(t) for t in self._atomic)) :]

    def _encode_parts(self, parts: Sequence[tuple[str, bool]]) -> Pieces:
        """The ids of each part, such that those of the parts before it stay what they are."""
        (found,) = self._encode_many([parts])
        if isinstance(found, DataError):
            raise found
        return found

    def _encode_many(self, many: Sequence[Sequence[tuple[str, bool]]]) -> list[Pieces | DataError]:
        """The parts of several conversations in ids, in one call of the tokenizer; or why one cannot be encoded."""
        anchors = [self._anchors(parts) for parts in many]
        paired = [pair for before, parts in zip(anchors, many, strict=True) for pair in zip(before, parts, strict=True)]
        joints = iter(self._ids([anchor + text for anchor, (text, _) in paired]))
        heads = self._heads({anchor for before in anchors for anchor in before if anchor})
        found: list[Pieces | DataError] = []
        for before, parts in zip(anchors, many, strict=True):
            own = [next(joints) for _ in parts]
            try:
                found.append([self._piece(heads.get(a, []), joint, *part) for a, joint, part in zip(before, own, parts, strict=True)])
            except DataError as error:
                found.append(error)
        return found

    def _anchors(self, parts: Sequence[tuple[str, bool]]) -> list[str]:
        """For each part what of the text before it is read with it."""
        anchors = [""]
        for text, _ in parts[:-1]:
            anchors.append(self._anchor(anchors[-1] + text))
        return anchors

    def _piece(self, head: list[int], joint: list[int], text: str, is_answer: bool) -> tuple[list[int], bool]:
        piece = joint[len(head) :] if joint[: len(head)] == head else self._apart(text)
        if is_answer and (self._atomic_ids.isdisjoint(piece[-1:]) or not self._atomic_ids.isdisjoint(piece[:-1])):
            raise DataError(f"the tokenizer reads a control token inside the answer {_short(text)}, or none at its end")
        return piece, is_answer

    def _apart(self, text: str) -> list[int]:
        """The ids of a text that the tokenizer would merge with what stands before it.

        It is read after a letter or a line break, whichever stays apart from it: at the very beginning, some
        tokenizers put a space before it that nobody wrote.
        """
        for before in ("a", "\n"):
            head = self._heads([before])[before]
            (joint,) = self._ids([before + text])
            if joint[: len(head)] == head:
                return joint[len(head) :]
        return self._ids([text])[0]

    def encode(self, messages: Sequence[Message], *, loss_on: str = "assistant") -> Tokens:
        """A whole conversation. With `loss_on="all"` every token but the first is learnt, else the assistant's alone."""
        return _tokens(self._encode_parts(self.parts(messages)), loss_on)

    def encode_each(self, conversations: Sequence[Sequence[Message]], *, loss_on: str = "assistant") -> list[Tokens | DataError]:
        """As `encode`, several at a time, which is quicker; what cannot be encoded is given as the error that `encode` raises."""
        found: list[Tokens | DataError] = []
        cut: list[list[tuple[str, bool]]] = []
        waiting: list[int] = []
        for messages in conversations:
            try:
                cut.append(self.parts(messages))
            except DataError as error:
                found.append(error)
            else:
                waiting.append(len(found))
                found.append(_NOTHING)
        for at, pieces in zip(waiting, self._encode_many(cut), strict=True):
            found[at] = pieces if isinstance(pieces, DataError) else _tokens(pieces, loss_on)
        return found

    def encode_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """What the model sees before it answers: the turns so far and the generation prompt."""
        return tuple(t for piece, _ in self._encode_parts(self._prompt_parts(messages)) for t in piece)

    def _prompt_parts(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
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
        pieces = self._encode_parts(self.parts(messages))
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
            if found := self._atomic_pattern.search(after):
                return tuple(i for i, token in self.tokenizer.added_tokens_decoder.items() if token.content == found.group())
        return ()

    @cached_property
    def ids_needed(self) -> int:
        """How many ids a model must know. Control tokens that the template does not write never come up (Gemma 3 has one such)."""
        unwritten = {i for i in self._atomic_ids if self.tokenizer.added_tokens_decoder[i].content not in self._scaffold}
        known = set(self.tokenizer.get_vocab().values()) - unwritten
        return 1 + max(known | {*self.stop_ids, int(self.tokenizer.pad_token_id)})

    # --- is it usable? ---------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Refuse a template that cannot be used, before any work is done with it: where something is learnt, it must be one to cut."""
        try:
            ids = self.encode(_PROBE).ids if self._learns else self.encode_prompt(_PROBE[:1])
        except DataError as error:
            raise ModelError(f"{self.name}: the chat template cannot be used: {error}") from None
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


def _tokens(pieces: Pieces, loss_on: str) -> Tokens:
    ids = tuple(chain.from_iterable(piece for piece, _ in pieces))
    if loss_on == "all":
        return Tokens(ids, (False,) * (len(ids) > 0) + (True,) * (len(ids) - 1))
    return Tokens(ids, tuple(chain.from_iterable(repeat(learnt, len(piece)) for piece, learnt in pieces)))


def _with_fixed_date(template: str, name: str) -> str:
    """The template with the date of `TODAY` wherever it asks for the present one.

    Raises:
        ModelError: it asks for it in a way that is not understood.
    """

    def fixed(found: re.Match[str]) -> str:
        return found["quote"] + TODAY.strftime(found["format"]) + found["quote"]

    made = _ASKS_FOR_THE_DATE.sub(fixed, template)
    if "strftime_now" in _IS_THERE.sub("", _COMMENT.sub("", made)):
        raise ModelError(
            f"{name}: the chat template depends on the time (strftime_now) in a way that cannot be fixed, so prompts would change from day "
            "to day; give a Jinja file that writes a date instead"
        )
    return made


def _refuse_change(before: str, after: str) -> None:
    if not after.startswith(before):
        raise _UncutError("the chat template changes earlier turns when a turn is added, so a prompt is no prefix of its answer")


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True))
    )  # the longest first: it is what a tokenizer takes


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def describe(chat: ChatFormat) -> Mapping[str, Any]:
    """What identifies a format: part of the key of anything computed with it."""
    return {"template": chat.template, "vocabulary": len(chat.tokenizer), "eos": chat.tokenizer.eos_token_id}
