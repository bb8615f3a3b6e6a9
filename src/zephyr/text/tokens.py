"""Text to ids, part by part: each after the part before it, whose ids stay what they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from zephyr.errors import DataError
from zephyr.text.control import ControlTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = tuple[str, bool]  # a text, and whether it is learnt
Pieces = list[tuple[list[int], bool]]  # ids, and whether they are learnt


@dataclass(frozen=True)
class Tokens:
    """A conversation in ids, and for each id whether it is learnt.

    The loss at position t is about predicting `ids[t]` from `ids[:t]`; `learnt[t]` says whether it counts.
    """

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]

    @staticmethod
    def of(pieces: Pieces, loss_on: str) -> Tokens:
        """The pieces one after the other; with `loss_on="all"` every token but the first is learnt."""
        ids = tuple(chain.from_iterable(piece for piece, _ in pieces))
        if loss_on == "all":
            return Tokens(ids, (False,) * (len(ids) > 0) + (True,) * (len(ids) - 1))
        return Tokens(ids, tuple(chain.from_iterable(repeat(learnt, len(piece)) for piece, learnt in pieces)))


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a beginning-of-sequence token (BOS) before a text of its own accord."""
    bos = tokenizer.bos_token_id
    ids = tokenizer("a")["input_ids"]
    return bos is not None and bool(ids) and ids[0] == bos


class Encoder:
    """Parts of texts to ids, with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: ControlTokens) -> None:
        self._tokenizer, self._control = tokenizer, control
        self._known: dict[str, list[int]] = {}

    def one(self, parts: Sequence[Part]) -> Pieces:
        """The ids of each part, such that those of the parts before it stay what they are.

        Raises:
            DataError: an answer has a control token inside, or none at its end.
        """
        (found,) = self.many([parts])
        if isinstance(found, DataError):
            raise found
        return found

    def many(self, several: Sequence[Sequence[Part]]) -> list[Pieces | DataError]:
        """The parts of several conversations in ids, in one call of the tokenizer; or why one cannot be encoded."""
        anchors = [self._anchors(parts) for parts in several]
        paired = [pair for before, parts in zip(anchors, several, strict=True) for pair in zip(before, parts, strict=True)]
        joints = iter(self._ids([anchor + text for anchor, (text, _) in paired]))
        heads = self._heads({anchor for before in anchors for anchor in before if anchor})
        found: list[Pieces | DataError] = []
        for before, parts in zip(anchors, several, strict=True):
            own = [next(joints) for _ in parts]
            try:
                found.append([self._piece(heads.get(a, []), joint, *part) for a, joint, part in zip(before, own, parts, strict=True)])
            except DataError as error:
                found.append(error)
        return found

    def _anchors(self, parts: Sequence[Part]) -> list[str]:
        """For each part what of the text before it is read with it."""
        anchors = [""]
        for text, _ in parts[:-1]:
            anchors.append(self._control.last_of(anchors[-1] + text))
        return anchors

    def _piece(self, head: list[int], joint: list[int], text: str, is_answer: bool) -> tuple[list[int], bool]:
        piece = joint[len(head) :] if joint[: len(head)] == head else self._apart(text)
        control = self._control.ids
        if is_answer and (control.isdisjoint(piece[-1:]) or not control.isdisjoint(piece[:-1])):
            raise DataError(f"the tokenizer reads a control token inside the answer {short(text)}, or none at its end")
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

    def _heads(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """The ids of some texts, those that are short remembered: the same few headers come again and again."""
        heads = {text: self._known.get(text) for text in texts}
        unknown = [text for text, ids in heads.items() if ids is None]
        for text, ids in zip(unknown, self._ids(unknown), strict=True):
            heads[text] = ids
            if len(text) < 200 and len(self._known) < 4096:
                self._known[text] = ids
        return {text: ids for text, ids in heads.items() if ids is not None}

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        if not self._is_plain:
            return [list(ids) for ids in self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
        backend: Any = self._tokenizer.backend_tokenizer
        # what transformers sets before each call; only where it differs, since nobody may read meanwhile
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        if backend.encode_special_tokens != self._tokenizer.split_special_tokens:
            backend.encode_special_tokens = self._tokenizer.split_special_tokens
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _is_plain(self) -> bool:
        """Is a call of the tokenizer no more than its library's own? That one, asked for ids alone, takes a third less time."""
        from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

        kind = type(self._tokenizer)
        return (
            isinstance(self._tokenizer, PreTrainedTokenizerFast)
            and kind.__call__ is PreTrainedTokenizerBase.__call__
            and kind._encode_plus is PreTrainedTokenizerFast._encode_plus
            and not hasattr(kind, "_switch_to_input_mode")
        )


def short(text: str) -> str:
    """A text as an error shows it."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
