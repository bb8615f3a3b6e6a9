"""Rows to sequences: what is learnt, what is cut, what is dropped and how it is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from zephyr.artifacts import Draft, Manifest
from zephyr.models.load import ModelRef
from zephyr.recipe import SFTConfig
from zephyr.records import Dialogue, parse_dialogue, parse_preference
from zephyr.sources import Located
from zephyr.text.chat import ChatFormat
from zephyr.train import encode, prepare, rows
from zephyr.train.prepared import Packs, Split, Writer, seal_of


@pytest.fixture
def chat() -> ChatFormat:
    return ChatFormat(tiny.byte_tokenizer(template=None), "zephyr")


@pytest.fixture
def out(tmp_path: Path) -> Draft:
    return Draft(tmp_path, tmp_path, Manifest("test", "", {}, {}))


def dialogue(*texts: str) -> Located[Dialogue]:
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]
    return Located(texts[0], parse_dialogue({"messages": messages}))


def dialogues(items: list[Located[Dialogue]], chat: ChatFormat, config: SFTConfig, out: Draft, split: str = "train") -> Packs:
    """As they come to training."""
    fate = next(fate for fate, name in rows.SPLITS.items() if name == split)
    work = prepare.Work([], ModelRef("", ""), "", config, out.path / "prepared", "key")
    with Writer(work.folder, work.key) as to:
        prepare.write_rows([(fate, item) for item in items], len(items), chat, config, to)
        to.publish()
    seal = seal_of(work.folder, work.key)
    assert seal
    prepare.tell(work, seal, out)
    packs = Packs(Split(work.folder, split), config.max_length if config.packing and split == "train" else None)
    shutil.rmtree(work.folder)  # what was opened stays readable
    return packs


def dropped(out: Draft) -> dict[str, int]:
    out.seal(0)
    return out.manifest.dropped


def test_assistant_turns_are_learnt_or_all_tokens(chat: ChatFormat, out: Draft) -> None:
    items = [dialogue("Hello!", "Hi there.", "Why?", "Because.")]
    ((one,), (other,)) = (dialogues(items, chat, SFTConfig(loss_on=loss, packing=False), out)[0].examples for loss in ("assistant", "all"))
    learnt = [token for token, is_learnt in zip(one.ids, one.learnt, strict=True) if is_learnt]
    assert chat.tokenizer.decode(learnt) == "Hi there.<|im_end|>Because.<|im_end|>"
    assert one.ids == other.ids and other.learnt == (False,) + (True,) * (len(other.ids) - 1)


def test_a_dialogue_too_long_loses_whole_exchanges_from_its_end(chat: ChatFormat, out: Draft) -> None:
    items = [dialogue("One?", "Two.", "Three?", "Four."), dialogue("Three?", "x" * 300), dialogue("Hello!", "Hi.")]
    short = len(chat.encode(items[0].record.messages[:2]).ids)
    found = dialogues(items, chat, SFTConfig(max_length=short + 3, packing=False), out)
    assert [d.id for d in found] == [items[0].record.prompt_id, items[2].record.prompt_id]
    assert found[0].examples[0].ids == chat.encode(items[0].record.messages[:2]).ids
    assert out.manifest.notes == [
        f"1 train dialogues lost their last exchanges: they were longer than sft.max_length ({short + 3} tokens)."
    ]
    assert dropped(out) == {"the first exchange is longer than sft.max_length": 1}


def test_what_is_cut_never_ends_in_a_question(chat: ChatFormat, out: Draft) -> None:
    item = dialogue("One?", "Two.", "Three?", "Four.")
    whole = len(chat.encode(item.record.messages).ids)
    for limit in range(whole - 6, whole):
        (found,) = dialogues([item], chat, SFTConfig(max_length=limit, packing=False), out)
        assert found.examples[0].ids == chat.encode(item.record.messages[:2]).ids


def test_packing_keeps_every_dialogue_once_and_the_test_split_apart(chat: ChatFormat, out: Draft) -> None:
    items = [dialogue(f"Question {i}?", "Yes. " * (1 + i % 5)) for i in range(20)]
    config = SFTConfig(max_length=128)
    packed = dialogues(items, chat, config, out)
    apart = dialogues(items, chat, config, out, "test")
    assert len(packed) < len(apart) == 20
    assert all(sum(len(e.ids) for e in pack.examples) <= 128 for pack in packed)
    assert sorted(e.ids for pack in packed for e in pack.examples) == sorted(e.ids for d in apart for e in d.examples)


def test_a_control_token_in_a_turn_sets_the_row_aside(chat: ChatFormat, out: Draft) -> None:
    items = [dialogue("Hello!", "Hi."), dialogue("What is <|im_end|>?", "A token."), dialogue("And?", "It is <|im_end|>.")]
    assert len(dialogues(items, chat, SFTConfig(packing=False), out)) == 1
    assert dropped(out) == {"not for this chat format: contains the control token '<|im_end|>'": 2}


def pair(prompt: str, chosen: str, rejected: str) -> Located[Any]:
    return Located(prompt, parse_preference({"prompt": prompt, "chosen": chosen, "rejected": rejected}))


def test_a_pair_shares_its_prompt_and_learns_the_answers(chat: ChatFormat, out: Draft) -> None:
    (found,) = encode.pairs([pair("Why?", "Because.", "No.")], chat, 100, 50, out, "train")
    assert list(map(chat.tokenizer.decode, found.answers.branches)) == ["Because.<|im_end|>", "No.<|im_end|>"]
    assert chat.tokenizer.decode(found.answers.ids).endswith("Why?<|im_end|>\n<|assistant|>\n")
    assert not any(found.answers.learnt)


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_its_pair(chat: ChatFormat, out: Draft) -> None:
    long = pair("word " * 100, "Yes.", "No.")
    found = encode.pairs([long, pair("Why?", "x" * 200, "No."), pair("Hm?", "Ok.", "No.")], chat, 60, 30, out, "train")
    assert [p.id for p in found] == [long.record.pair_id, found[1].id] and len(found) == 2
    prompt, chosen = chat.encode_pair(long.record.chosen)
    assert (found[0].answers.ids, found[0].answers.branches[0]) == (prompt[-30:], chosen)
    assert out.manifest.notes == ["1 train prompts lost their beginning: they were longer than dpo.max_prompt_length (30 tokens)."]
    assert dropped(out) == {"an answer does not fit into dpo.max_length": 1}


def test_packs_of_ids_that_begin_alike_have_names_of_their_own(chat: ChatFormat, out: Draft) -> None:
    """The order of an epoch hangs on the names."""
    items = [
        Located("row", parse_dialogue({**dialogue(f"Why {i}?", "So.").record.row(), "prompt_id": f"ultrachat-train-{i:09d}"}))
        for i in range(9)
    ]
    packs = dialogues(items, chat, SFTConfig(max_length=40), out)
    assert len({p.id for p in packs}) == len(packs) > 2
