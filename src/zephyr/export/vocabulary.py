"""A tokenizer as GGUF says it, and one made of what a GGUF says: both directions, so that one can be held against the other.

Two kinds are known. Byte-level BPE (`gpt2`): tokens, merges, and the name of the rule that cuts a text before it is merged. BPE over
`▁`-text with bytes for the unknown, as SentencePiece makes it (`llama`): tokens with scores, the higher the earlier they are merged,
and whether a space is put before a text.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from zephyr.errors import ModelError
from zephyr.export.check import TEXTS, differing

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of tokens, as GGUF numbers them
_SPACE = "▁"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# how llama.cpp calls the rules that are known here, and whether a word that is a token as a whole is left so
RULES = {"gpt-2": False, "smollm": False, "llama-bpe": True}


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF says of a tokenizer.

    Args:
        model: `gpt2` or `llama`.
        tokens: by id.
        types: by id.
        merges: of `gpt2`: pairs, the first to be merged first.
        scores: of `llama`: by id.
        rule: of `gpt2`: how a text is cut before.
        space_first: of `llama`: whether a space is put before a text, and before what follows a control token.
        special: ids by role: bos, eos, eot, unk, pad.
        adds_bos: whether a text begins with the bos.
        adds_eos: whether it ends with the eos.
    """

    model: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    special: Mapping[str, int]
    adds_bos: bool
    adds_eos: bool
    merges: tuple[tuple[str, str], ...] = ()
    scores: tuple[float, ...] = ()
    rule: str = "default"
    space_first: bool = False

    def encode(self, text: str) -> list[int]:
        """The ids of a text as a reader of the GGUF gives them, without what is put before and after it."""
        ids: list[int] = []
        after_special = True
        for piece in self._split(text):
            if (special := self._apart.get(piece)) is not None:
                ids.append(special)
                after_special = True
            elif piece:
                ids += self._piece(f" {piece}" if self.model == "llama" and self.space_first and after_special else piece)
                after_special = False
        return ids

    @cached_property
    def _apart(self) -> dict[str, int]:
        """Tokens that are found in a text before it is cut."""
        return {token: i for i, token in enumerate(self.tokens) if self.types[i] in (CONTROL, USER_DEFINED)}

    @cached_property
    def _split(self) -> Callable[[str], list[str]]:
        found = sorted(filter(None, self._apart), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, found))})").split if found else lambda text: [text]

    @cached_property
    def _piece(self) -> Callable[[str], list[int]]:
        if self.model == "llama":
            return self._by_scores
        bpe = _byte_level(self)
        return lambda text: list(bpe.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def _by_scores(self, text: str) -> list[int]:
        """SentencePiece's way: of all neighbours that make a token, those with the highest score become one first, left before right."""
        parts: list[str] = list(text.replace(" ", _SPACE))
        left, right = list(range(-1, len(parts) - 1)), [*range(1, len(parts)), -1]
        heap: list[tuple[float, int, int, str]] = []

        def offer(i: int, j: int) -> None:
            if i >= 0 and j >= 0 and (found := self._ids.get(parts[i] + parts[j])) is not None:
                heapq.heappush(heap, (-self.scores[found], i, j, parts[i] + parts[j]))

        for i in range(len(parts) - 1):
            offer(i, i + 1)
        while heap:
            _, i, j, whole = heapq.heappop(heap)
            if not parts[i] or not parts[j] or right[i] != j or parts[i] + parts[j] != whole:
                continue  # one of them has become part of something else
            parts[i], parts[j] = whole, ""
            right[i] = right[j]
            if right[j] >= 0:
                left[right[j]] = i
            offer(left[i], i)
            offer(i, right[i])
        return [token for part in parts if part for token in self._found(part)]

    def _found(self, part: str) -> list[int]:
        known = self._ids.get(part)
        if known is not None:
            return [known]
        return [self._ids.get(f"<0x{byte:02X}>", self.special.get("unk", 0)) for byte in part.encode("utf-8")]


def _byte_level(vocabulary: Vocabulary) -> Any:
    """Byte-level BPE by one of the rules."""
    from tokenizers import Tokenizer, models

    plain = {t: i for i, t in enumerate(vocabulary.tokens) if vocabulary.types[i] not in (UNUSED,)}
    merges = list(vocabulary.merges)
    made = Tokenizer(models.BPE(vocab=plain, merges=merges, ignore_merges=RULES[vocabulary.rule]))
    made.pre_tokenizer = _cut(vocabulary.rule)
    return made


def _cut(rule: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    split = {"gpt-2": [_GPT2], "smollm": [r"\p{N}", _GPT2], "llama-bpe": [_LLAMA3]}[rule]
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in split]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


# --- from a tokenizer ----------------------------------------------------------------------------------------------


def of(tokenizer: Any, rows: int, texts: Sequence[str], stops: Sequence[int] = ()) -> Vocabulary:
    """What a GGUF has to say of a tokenizer, tried on texts.

    Args:
        tokenizer: of transformers, with a file of its own rules (tokenizer.json).
        rows: of the model's embedding; rows that no token belongs to are given names.
        texts: beside the usual ones, what it has to cut alike: dialogues as its template writes them.
        stops: ids that end an answer, beside the eos.

    Raises:
        ModelError: it is of a kind that is not known here, or no GGUF says what it does.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    said = json.loads(backend.to_str()) if backend is not None else {}
    model = said.get("model", {})
    if model.get("type") != "BPE":
        raise ModelError(f"its tokenizer is {model.get('type', type(tokenizer).__name__)}, and GGUF is written here of BPE alone")
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ", 1)) for m in model["merges"]]
    tokens, types = _tokens(said, tokenizer, rows)
    ids = tokenizer("a")["input_ids"]
    special = {role: found for role in ("bos", "eos", "unk", "pad") if (found := getattr(tokenizer, f"{role}_token_id")) is not None}
    if other := [stop for stop in stops if stop != special.get("eos")]:
        special["eot"] = other[0]
    adds_bos, adds_eos = (bool(ids) and ids[end] == special.get(role, -1) for role, end in (("bos", 0), ("eos", -1)))
    base = Vocabulary("gpt2", tokens, types, special, adds_bos, adds_eos, merges=tuple(merges))
    if model.get("byte_fallback"):
        llama = replace(base, model="llama", merges=(), scores=_scores(tokens, types, merges))
        possible = [replace(llama, space_first=first) for first in (True, False)]
    else:
        possible = [replace(base, rule=rule) for rule in RULES]
    return _tried(possible, tokenizer, [*TEXTS, *texts])


def _tried(possible: Sequence[Vocabulary], tokenizer: Any, texts: Sequence[str]) -> Vocabulary:
    """The one that cuts all texts as the tokenizer does.

    Raises:
        ModelError: there is none.
    """

    def wanted(text: str) -> Sequence[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    wrong = ""
    for vocabulary in possible:
        found = differing(texts, wanted, vocabulary.encode)
        if found is None:
            return vocabulary
        wrong = found
    rules = "with a space before each stretch of text, or with none" if possible[0].model == "llama" else f"by its rules {', '.join(RULES)}"
    raise ModelError(f"no GGUF says what its tokenizer does: tried {rules}, and {wrong[:60]!r} is cut otherwise; export it as safetensors")


def _tokens(said: Mapping[str, Any], tokenizer: Any, rows: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Tokens by id, and their types.

    Raises:
        ModelError: the tokenizer has more of them than the model has rows.
    """
    by_id = {i: (token, NORMAL) for token, i in said["model"]["vocab"].items()}
    if said["model"].get("byte_fallback"):
        by_id.update({i: (t, BYTE) for i, (t, _) in by_id.items() if re.fullmatch(r"<0x[0-9A-F]{2}>", t)})
    by_id.update({a["id"]: (a["content"], CONTROL if a["special"] else USER_DEFINED) for a in said.get("added_tokens", [])})
    if said["model"].get("byte_fallback") and tokenizer.unk_token_id is not None:
        by_id[tokenizer.unk_token_id] = (tokenizer.unk_token, UNKNOWN)
    if max(by_id) >= rows:
        raise ModelError(f"its tokenizer has {max(by_id) + 1} tokens, the model {rows}; they do not belong together")
    whole = [by_id.get(i, (f"[PAD{i}]", UNUSED)) for i in range(rows)]
    return tuple(token for token, _ in whole), tuple(kind for _, kind in whole)


def _scores(tokens: Sequence[str], types: Sequence[int], merges: Sequence[tuple[str, ...]]) -> tuple[float, ...]:
    """The first pair to be merged has the highest score; what no pair makes comes last, what is found apart does not count."""
    rank: dict[str, int] = {}
    for i, pair in enumerate(merges):
        rank.setdefault("".join(pair), i)
    last = len(merges)
    return tuple(
        -float(rank.get(token, last + i)) if kind == NORMAL else -1000.0 if kind in (USER_DEFINED, UNUSED) else 0.0
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
    )
