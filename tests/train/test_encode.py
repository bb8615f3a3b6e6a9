"""Rows to sequences: what is learnt, what is cut, what is dropped and how it is said."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tiny
from zephyr.artifacts import Draft, Manifest
from zephyr.models.load import ModelRef
from zephyr.recipe import DPOConfig, SFTConfig, TrainConfig
from zephyr.records import Dialogue, parse_dialogue, parse_preference
from zephyr.sources import Located
from zephyr.stages import reference
from zephyr.text.chat import ChatFormat
from zephyr.train import encode, prepare, rows
from zephyr.train.batches import shuffled
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
    assert [d.id for d in found] == [prepare.name_of(items[0].record), prepare.name_of(items[2].record)]
    assert found[0].examples[0].ids == chat.encode(items[0].record.messages[:2]).ids
    assert out.manifest.notes == [
        f"1 train dialogues lost their last exchanges: they were longer than sft.max_length ({short + 3} tokens)."
    ]
    assert out.manifest.results["cut"]["train"] == {"dialogues": 1}
    assert dropped(out) == {"the first exchange is longer than sft.max_length": 1}


def test_a_dialogue_too_long_is_left_out_where_the_recipe_says_so(chat: ChatFormat, out: Draft) -> None:
    items = [dialogue("One?", "Two.", "Three?", "Four."), dialogue("Hello!", "Hi.")]
    short = len(chat.encode(items[0].record.messages[:2]).ids)
    found = dialogues(items, chat, SFTConfig(max_length=short + 3, packing=False, truncation="drop"), out)
    assert [d.id for d in found] == [prepare.name_of(items[1].record)] and not out.manifest.notes
    assert out.manifest.results["cut"]["train"] == {"dialogues": 0}
    assert dropped(out) == {"the dialogue is longer than sft.max_length": 1}


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
    (found,) = encode.pairs([pair("Why?", "Because.", "No.")], chat, DPOConfig(max_length=100, max_prompt_length=50), out, "train")
    assert list(map(chat.tokenizer.decode, found.answers.branches)) == ["Because.<|im_end|>", "No.<|im_end|>"]
    assert chat.tokenizer.decode(found.answers.ids).endswith("Why?<|im_end|>\n<|assistant|>\n")
    assert not any(found.answers.learnt)


@pytest.mark.parametrize("policy", ["prompt_left", "drop", "answer_right"])
def test_what_of_a_pair_does_not_fit_is_cut_or_left_out_as_declared(policy: Any, chat: ChatFormat, out: Draft) -> None:
    items = [
        pair("word " * 100, "Yes.", "No."),
        pair("Why?", "x" * 200, "No."),
        pair("Hm?", "Ok.", "No."),
        pair("So?", "y" * 200, "y" * 300),
    ]
    found = encode.pairs(items, chat, DPOConfig(max_length=60, max_prompt_length=30, truncation=policy), out, "train")
    ids = {item.where: item.record.pair_id for item in items}
    kept = {"prompt_left": ("word " * 100, "Hm?"), "drop": ("Hm?",), "answer_right": ("word " * 100, "Why?", "Hm?")}[policy]
    assert [p.id for p in found] == [ids[name] for name in kept]
    for one in found:
        prompt, (chosen, rejected) = one.answers.ids, one.answers.branches
        (record,) = (item.record for item in items if item.record.pair_id == one.id)
        whole, theirs = chat.encode_pair(record.chosen)
        assert prompt == whole[-30:] and rejected == chat.encode_pair(record.rejected)[1]
        assert chosen == theirs[: 60 - len(prompt)] and (chosen == theirs) == (record.prompt != "Why?")
    reasons = {
        "prompt_left": {"an answer does not fit into dpo.max_length": 2},
        "drop": {"an answer does not fit into dpo.max_length": 2, "the prompt is longer than dpo.max_prompt_length": 1},
        "answer_right": {"what fits of both answers into dpo.max_length is the same": 1},
    }
    prompts, answers = int(policy != "drop"), int(policy == "answer_right")
    assert out.manifest.results["cut"] == {"train": {"prompts": prompts, "answers": answers}}
    notes = ["1 train prompts lost their beginning: they were longer than dpo.max_prompt_length (30 tokens)."] * prompts
    lost = (
        "1 train answers lost their end, and the token that says so: they did not fit into dpo.max_length (60 tokens, the prompt included)."
    )
    assert out.manifest.notes == notes + [lost] * answers
    assert dropped(out) == reasons[policy]


def test_a_pair_of_whose_answer_nothing_is_left_is_refused(chat: ChatFormat, out: Draft) -> None:
    items = [pair("word " * 100, "Yes.", "No."), pair("Hm?", "Ok.", "No.")]
    room = len(chat.encode_pair(items[1].record.chosen)[0]) + 10
    config = DPOConfig(max_length=room, max_prompt_length=room, truncation="answer_right")
    assert [p.id for p in encode.pairs(items, chat, config, out, "test")] == [items[1].record.pair_id]
    assert dropped(out) == {"nothing of an answer fits into dpo.max_length": 1}


def test_a_policy_that_is_not_set_changes_no_key() -> None:
    assert not {"truncation", "lora"} & ({*DPOConfig().model_dump()} | {*SFTConfig().model_dump()})
    assert DPOConfig(truncation="drop").model_dump()["truncation"] == SFTConfig(truncation="drop").model_dump()["truncation"] == "drop"
    settings = {"chat_template": "zephyr", "train": TrainConfig(), "max_length": 9, "max_prompt_length": 5}
    assert "truncation" not in reference.Config(**settings).model_dump()
    assert reference.Config(**settings, truncation="drop").model_dump()["truncation"] == "drop"


def test_packs_of_ids_that_begin_alike_have_names_of_their_own(chat: ChatFormat, out: Draft) -> None:
    """The order of an epoch hangs on the names."""
    items = [
        Located("row", parse_dialogue({**dialogue(f"Why {i}?", "So.").record.row(), "prompt_id": f"ultrachat-train-{i:09d}"}))
        for i in range(9)
    ]
    packs = dialogues(items, chat, SFTConfig(max_length=40), out)
    assert len({p.id for p in packs}) == len(packs) > 2


def test_dialogues_of_one_prompt_lie_anywhere_in_an_epoch(chat: ChatFormat, out: Draft) -> None:
    items = [dialogue(f"Why {i % 4}?", f"Answer {i}.") for i in range(64)]
    orders = []
    for given in (items, items[::-1]):
        found = dialogues(given, chat, SFTConfig(packing=False), out)
        orders.append([found[i] for i in shuffled([d.id for d in found], 0, 0)])
    first, other = ([d.examples for d in order] for order in orders)
    assert first == other, "the order hangs on where the rows lay"
    prompts = [d.id[:64] for d in orders[0]]
    assert len(set(prompts)) == 4 and sum(a != b for a, b in pairwise(prompts)) > 30
