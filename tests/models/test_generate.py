"""Generation does what the recipe says and nothing else, and ends where the model's context does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import small
import tiny
from zephyr import chat as terminal
from zephyr.errors import ModelError, NonFiniteError
from zephyr.models import load
from zephyr.models.generate import generate, nucleus
from zephyr.recipe import ModelConfig

PROMPTS = ["Hi!", "Why is the sky blue? Because air scatters short waves of light.", "One?", "Two, or three of them."]
OWN = {
    "repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_new_tokens": 12, "forced_eos_token_id": 5, "suppress_tokens": [40, 41, 42],
    "bad_words_ids": [[43]], "do_sample": True, "temperature": 7.0, "top_k": 3, "top_p": 0.5, "num_beams": 3, "min_p": 0.2,
    "begin_suppress_tokens": [44], "max_length": 5, "eos_token_id": list(range(300, 480)), "exponential_decay_length_penalty": [1, 3.0],
    "sequence_bias": [[[45], 50.0]], "return_dict_in_generate": True, "cache_implementation": "static",
}  # fmt: skip


def speaker(folder: Path, **settings: Any) -> tuple[Any, Any]:
    """A model that always says the same two tokens in turn, and its format."""
    ref = load.refer(ModelConfig(path=str(folder)))
    chat = load.load_chat(ref, "zephyr")
    return load.load_model(ref, chat, attention="generation"), chat


def answers(model: Any, chat: Any, prompts: list[str], **settings: Any) -> list[Any]:
    conversations: list[Any] = [[{"role": "user", "content": p}] for p in prompts]
    rest = {"names": prompts, "max_new_tokens": 10, "temperature": 0.0, "top_p": 1.0, "seed": 0, **settings}
    found = dict(generate(model, chat, conversations, **rest))
    return [found[i] for i in range(len(prompts))]


@pytest.mark.parametrize("top_p", [1e-6, 0.1, 0.5, 0.95, 0.999])
def test_the_nucleus_is_transformers_but_for_ties(top_p: float) -> None:
    from transformers import TopPLogitsWarper

    ids = torch.zeros(1, 1, dtype=torch.long)
    scores = torch.randn(64, 500, generator=torch.Generator().manual_seed(0)) * 4
    scores[0, 7:] = -torch.inf
    assert torch.equal(nucleus(top_p)(ids, scores), TopPLogitsWarper(top_p)(ids, scores))
    tied = torch.tensor([[3.0, 1.0, 3.0, 1.0]])
    kept = nucleus(top_p)(ids, tied).isfinite()
    assert torch.equal(kept, tied >= (3.0 if top_p < 0.88 else 1.0))  # the threes have 0.88 of it; no more of one than of its equal


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_a_models_own_settings_do_not_act(tmp_path: Path, temperature: float) -> None:
    """Greedy, the tiny model repeats itself, which a penalty on repetition forbids; each of these settings would show."""
    folder = small.model_folder(tmp_path / "model")
    model, chat = speaker(folder)
    wanted = answers(model, chat, PROMPTS, temperature=temperature)
    if temperature == 0:
        by_hand = torch.tensor([chat.encode_prompt([{"role": "user", "content": PROMPTS[0]}])])
        start = by_hand.shape[1]
        with torch.no_grad():
            for _ in range(10):
                by_hand = torch.cat([by_hand, model(by_hand).logits[:, -1:].argmax(-1)], 1)
        assert wanted[0].text == chat.tokenizer.decode(by_hand[0, start:], skip_special_tokens=True).strip()
        assert len(set(by_hand[0, start:].tolist())) < 10, "nothing is repeated, so a penalty on it would not show"
    for name in OWN:
        (folder / "generation_config.json").write_text(json.dumps({name: OWN[name]}))
        model, chat = speaker(folder)
        assert getattr(model.generation_config, name) == OWN[name], "the setting did not reach the model"
        assert answers(model, chat, PROMPTS, temperature=temperature) == wanted, name
        assert getattr(model.generation_config, name) == OWN[name], "the model's own settings were changed"


def test_logits_that_are_not_numbers_are_no_answer(tmp_path: Path) -> None:
    model, chat = speaker(small.model_folder(tmp_path / "model"))
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(NonFiniteError, match="the model's logits are not numbers"):
            answers(model, chat, PROMPTS[:1], temperature=temperature)


# --- the context -----------------------------------------------------------------------------------------------------


def lengths(chat: Any) -> list[int]:
    return [len(chat.encode_prompt([{"role": "user", "content": p}])) for p in PROMPTS]


def gpt2(folder: Path, positions: int) -> tuple[Any, Any]:
    """With an embedding of positions, which has no more rows than its context has tokens."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 480, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": positions, "bos_token_id": None, "eos_token_id": 2}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **sizes)).save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)
    return speaker(folder)


def test_an_answer_ends_with_the_context_and_not_with_that_of_another(tmp_path: Path) -> None:
    wide, chat = gpt2(tmp_path / "wide", 200)
    sizes = lengths(chat)
    longest = max(sizes)
    model, chat = gpt2(tmp_path / "narrow", longest + 4)
    same = wide.state_dict()
    model.load_state_dict({**same, "transformer.wpe.weight": same["transformer.wpe.weight"][: longest + 4]})
    found = answers(model, chat, PROMPTS, max_new_tokens=30)
    assert [a.tokens for a in found if not a.ended] == [min(30, longest + 4 - n) for n, a in zip(sizes, found, strict=True) if not a.ended]
    assert found[sizes.index(longest)].tokens == 4
    for index, answer in enumerate(found):
        assert answers(model, chat, PROMPTS[index : index + 1], max_new_tokens=30) == [answer]
        assert answers(wide, chat, PROMPTS[index : index + 1], max_new_tokens=answer.tokens)[0].text == answer.text


def test_a_prompt_that_fills_the_context_is_refused_before_anything_is_generated(tmp_path: Path) -> None:
    _, chat = gpt2(tmp_path / "wide", 200)
    longest = max(lengths(chat))
    model, chat = gpt2(tmp_path / "narrow", longest)
    model.generate = lambda **_: pytest.fail("something was generated")
    with pytest.raises(
        ModelError, match=rf"the prompt of 'Why .*' has {longest} tokens, and the model reads {longest} at most, the answer"
    ):
        answers(model, chat, PROMPTS, names=PROMPTS)


def test_beside_a_longer_prompt_an_answer_is_what_it_is_alone(tmp_path: Path) -> None:
    """Beyond a length, positions of the type `longrope` are those of the longest prompt of a batch: there a prompt is alone."""
    _, chat = speaker(small.model_folder(tmp_path / "any"))
    sizes = lengths(chat)
    rope = {
        "rope_type": "longrope", "factor": 8.0, "original_max_position_embeddings": max(sizes) - 2,
        "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [5.0, 20.0, 30.0, 40.0],
    }  # fmt: skip
    model, chat = speaker(small.model_folder(tmp_path / "model", rope_parameters=rope))
    together = answers(model, chat, PROMPTS)
    assert together == [answers(model, chat, [p])[0] for p in PROMPTS]
    seen = []
    really = model.generate
    model.generate = lambda **given: seen.append(len(given["input_ids"])) or really(**given)
    answers(model, chat, PROMPTS, max_new_tokens=2)
    assert seen == [3, 1]


# --- in the terminal ---------------------------------------------------------------------------------------------------


def talk(folder: Path, lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    (tmp_path / "typed.txt").write_text(lines)
    rest = {"system": "", "chat_template": "zephyr", "max_new_tokens": 6, "temperature": 1.0, "top_p": 1.0, "seed": 0, **settings}
    with (tmp_path / "typed.txt").open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        terminal.talk(str(folder), **rest)


def test_any_whole_number_is_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small.model_folder(tmp_path / "model")
    said = {}
    for seed in (0, 1, -1, 2**64, 10**40):
        talk(folder, "Hi!\n", tmp_path, monkeypatch, seed=seed)
        said[seed] = capsys.readouterr().out
    assert len(set(said.values())) == len(said)
    talk(folder, "Hi!\n/reset\nHi!\n", tmp_path, monkeypatch, seed=10**40)
    both = capsys.readouterr().out
    assert both.startswith(said[10**40]) and both != 2 * said[10**40], "the second answer is another sample"


def test_a_models_own_settings_do_not_act_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small.model_folder(tmp_path / "model")
    talk(folder, "Hi!\n", tmp_path, monkeypatch, temperature=0.0, max_new_tokens=10)
    plain = capsys.readouterr().out
    (folder / "generation_config.json").write_text(json.dumps({"repetition_penalty": 5.0, "no_repeat_ngram_size": 1}))
    talk(folder, "Hi!\n", tmp_path, monkeypatch, temperature=0.0, max_new_tokens=10)
    assert capsys.readouterr().out == plain


def test_an_answer_as_long_as_the_context_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.model_folder(tmp_path / "model", max_position_embeddings=64)
    with pytest.raises(ModelError, match=r"--max-new-tokens is 64, but .*model reads 64 tokens at most, the answer included; give less"):
        talk(folder, "Hi!\n", tmp_path, monkeypatch, max_new_tokens=64)


def test_a_message_longer_than_the_context_is_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small.model_folder(tmp_path / "model", max_position_embeddings=64)
    talk(folder, "Why? " * 40 + "\nHi!\n", tmp_path, monkeypatch)
    out, err = capsys.readouterr()
    assert "and the model reads 64 at most, its answer included)" in err
    assert len(out.splitlines()) >= 1 and err.count("at most") == 1


def test_the_end_of_a_turn_is_neither_written_nor_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some tokenizers do not mark `<|im_end|>` as special, and would write it; in the next prompt it would be refused."""
    folder = small.model_folder(tmp_path / "model")
    settings = json.loads((folder / "tokenizer.json").read_text())
    for token in settings["added_tokens"]:
        token["special"] = token["content"] == "<|endoftext|>"
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "chat_template": tiny.CHATML})
    )
    end = load.load_tokenizer(load.refer(ModelConfig(path=str(folder)))).convert_tokens_to_ids("<|im_end|>")
    really = load.load_model

    def brief(*args: Any, **kwargs: Any) -> Any:
        model = really(*args, **kwargs)
        forward = model.forward

        def says_end_second(*given: Any, **rest: Any) -> Any:
            out = forward(*given, **rest)
            if rest["input_ids"].shape[1] == 1:
                out.logits[:, -1, end] = 1e6
            return out

        model.forward = says_end_second
        return model

    monkeypatch.setattr(load, "load_model", brief)
    talk(folder, "Hi!\nWhy?\n", tmp_path, monkeypatch, chat_template="tokenizer")
    out, err = capsys.readouterr()
    assert "<|im_end|>" not in out and "control token" not in err
    assert len(out.splitlines()) == 2
