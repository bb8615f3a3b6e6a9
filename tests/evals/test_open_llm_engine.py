"""Prompts that begin alike, computed once: the log-likelihoods are those of lm-eval's own model class."""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from zephyr.errors import DataError
from zephyr.evals.open_llm import attention, engine
from zephyr.evals.open_llm.prefixes import Forest, Question
from zephyr.evals.open_llm.scorer import Scorer

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sees", "three", "things", "today"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Instance:
    """A request as lm-eval hands it to a model."""

    def __init__(self, *args: str) -> None:
        self.args = args


def _pairs() -> list[tuple[str, str]]:
    """A long common beginning, contexts of several lengths behind it, one without it, answers in one token or many."""
    numbers = random.Random(0)

    def words(count: int) -> str:
        return " ".join(numbers.choice(WORDS) for _ in range(count))

    shots, pairs = words(60), []
    for i in range(6):
        context = words(3) if i == 4 else f"{shots}\n\n{words(5 + 3 * i)}\nAnswer:" + "  " * (i == 5)
        pairs += [(context, f" {letter}" if i % 2 else f" {words(1 + numbers.randrange(6))}") for letter in "ABCD"]
    return [*pairs, ("", "hello there"), pairs[0]]


def _stock(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=1)
    found: list[tuple[float, bool]] = lm.loglikelihood([_Instance(*pair) for pair in pairs], disable_tqdm=True)
    return found


def _same(got: list[tuple[float, bool]], want: list[tuple[float, bool]], within: float = 1e-4) -> None:
    assert [greedy for _, greedy in got] == [greedy for _, greedy in want]
    assert [nats for nats, _ in got] == pytest.approx([nats for nats, _ in want], abs=within)


# --- against lm-eval ------------------------------------------------------------------------------------------------------

MAKERS: list[Callable[[], PreTrainedTokenizerFast]] = [tiny.byte_tokenizer, tiny.llama3_tokenizer, tiny.sentencepiece_tokenizer]


@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_log_likelihoods_are_those_of_lm_eval(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every architecture: sliding windows, grouped heads, caps on scores and logits; by kernels and without; in small passes and large."""
    tokenizer = MAKERS[tiny.ARCHITECTURES.index(arch) % 3]()
    model = tiny.tiny_model(arch, attention="eager" if arch == "gemma2" else "sdpa")
    pairs = _pairs()
    want = _stock(model, tokenizer, pairs)
    for tokens, gap, rows, kernels in ((17, 32, 288, "1"), (150, 0, 12, "1"), (2048, 0, 40, "0"), (2048, 32, 288, "1")):
        monkeypatch.setattr(attention, "GAP", gap)
        monkeypatch.setattr(attention, "ROWS", rows)
        monkeypatch.setattr(engine, "HEAD_BYTES", 4 * 704 * 5)  # five positions at a time
        monkeypatch.setenv("ZEPHYR_KERNELS", kernels)
        scorer = Scorer(model, tokenizer, 2, sys.stderr, tokens=tokens)
        assert scorer.problem is None
        _same(scorer.loglikelihood([_Instance(*pair) for pair in pairs], disable_tqdm=True), want)
        assert scorer.tokens < 0.15 * scorer.plain_tokens
        assert scorer.truncated == 0
    assert model.config._attn_implementation != attention.NAME


@pytest.mark.parametrize("make", MAKERS)
def test_prompts_that_are_too_long_lose_their_beginning(make: Callable[[], PreTrainedTokenizerFast]) -> None:
    model, tokenizer, pairs = tiny.tiny_model("llama", attention="sdpa", max_position_embeddings=90), make(), _pairs()
    scorer = Scorer(model, tokenizer, 2, sys.stderr)
    _same(scorer.loglikelihood([_Instance(*pair) for pair in pairs], disable_tqdm=True), _stock(model, tokenizer, pairs))
    assert scorer.truncated == 5  # contexts; the sixth is short, the seventh empty
    longer = [_Instance("the dog", " " + "fox " * 100)]
    with pytest.raises(DataError, match=r"the continuation ' fox .* tokens, and the model takes 90"):
        scorer.loglikelihood(longer, disable_tqdm=True)
    with pytest.raises(DataError, match="the continuation '' has no tokens of its own"):
        scorer.loglikelihood([_Instance("the dog", "")], disable_tqdm=True)


def test_a_model_that_cannot_share_goes_the_plain_way_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A head that does more than we compute, and positions that depend on the neighbours."""
    tokenizer, pairs = tiny.byte_tokenizer(), _pairs()
    model = tiny.tiny_model("llama", attention="sdpa")
    head: Any = model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.randn(704, generator=torch.Generator().manual_seed(1)))
    scorer = Scorer(model, tokenizer, 2, sys.stderr)
    assert scorer.problem is not None and "other log-likelihoods" in scorer.problem
    assert "llama: prompts go through the model one by one" in capsys.readouterr().err
    _same(scorer.loglikelihood([_Instance(*pair) for pair in pairs], disable_tqdm=True), _stock(model, tokenizer, pairs))
    assert scorer.tokens == scorer.plain_tokens > 2000

    rope = {
        "rope_type": "longrope",
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 60,
        "factor": 8.0,
    }
    model = tiny.tiny_model("llama", attention="sdpa", rope_parameters={**rope, "rope_theta": 10000.0}, max_position_embeddings=480)
    scorer = Scorer(model, tokenizer, 2, sys.stderr)
    assert scorer.problem is None
    _same(scorer.loglikelihood([_Instance(*pair) for pair in pairs], disable_tqdm=True), _stock(model, tokenizer, pairs))


def test_rolling_log_likelihoods_and_generation_are_lm_evals() -> None:
    model, tokenizer = tiny.tiny_model("llama", attention="sdpa", max_position_embeddings=64), tiny.llama3_tokenizer()
    scorer = Scorer(model, tokenizer, 2, sys.stderr)
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=1)
    texts = [_Instance(" ".join(WORDS * n)) for n in (1, 6)]
    assert scorer.loglikelihood_rolling(texts, disable_tqdm=True) == pytest.approx(
        lm.loglikelihood_rolling(texts, disable_tqdm=True), abs=1e-4
    )
    asked: Any = [_Instance("the dog", {"until": ["\n"], "max_gen_toks": 5})]  # type: ignore[arg-type]
    assert scorer.generate_until(asked, disable_tqdm=True) == lm.generate_until(asked, disable_tqdm=True)


# --- the real model --------------------------------------------------------------------------------------------------------


def _stories(file: Path) -> PreTrainedModel:
    """The model of a file in llama2.c's format: seven numbers, then float32 weights, all layers of a kind together."""
    from transformers import LlamaConfig, LlamaForCausalLM

    data = file.read_bytes()
    width, inner, layers, heads, kv_heads, vocabulary, context = np.frombuffer(data, np.int32, 7).tolist()
    rest, at, size = torch.from_numpy(np.frombuffer(data, np.float32, offset=28).copy()), 0, width // heads

    def take(*shape: int) -> torch.Tensor:
        nonlocal at
        at += math.prod(shape)
        return rest[at - math.prod(shape) : at].view(shape)

    def halves(weight: torch.Tensor, count: int) -> torch.Tensor:
        """Rows of each head: pairs that are turned against each other stand side by side there, half a head apart here."""
        return weight.view(count, size // 2, 2, width).transpose(1, 2).reshape(count * size, width)

    names = {"input_layernorm": (width,), "q": (heads * size, width), "k": (kv_heads * size, width), "v": (kv_heads * size, width)}
    names |= {
        "o": (width, width),
        "post_attention_layernorm": (width,),
        "gate": (inner, width),
        "down": (width, inner),
        "up": (inner, width),
    }
    weights = {"model.embed_tokens.weight": take(vocabulary, width)}
    for name, shape in names.items():
        group = "mlp." if name in ("gate", "down", "up") else "self_attn." if len(name) == 1 else ""
        for layer, weight in enumerate(take(layers, *shape)):
            turned = halves(weight, heads if name == "q" else kv_heads) if name in ("q", "k") else weight
            weights[f"model.layers.{layer}.{group}{name}{'_proj' if group else ''}.weight"] = turned
    weights["model.norm.weight"] = take(width)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, max_position_embeddings=context, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights)
    return model.eval()


def test_a_trained_model_on_real_items(shared: Path) -> None:
    """A real model's weights, real texts: fixed examples, contexts and endings as HellaSwag has them."""
    model = _stories(shared / "data" / "models" / "stories260K" / "stories260K.bin")
    story = torch.tensor([[1, 403, 407, 261, 378]])  # Once upon a time
    assert model(story).logits[0, -1].softmax(-1).max() > 0.5  # it was read as it was written: the next token is no riddle
    tokenizer = tiny.llama3_tokenizer()
    with gzip.open(shared / "data" / "eval" / "open_llm" / "hellaswag_validation.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(next(file)) for _ in range(9)]
    shots = "\n\n".join(f"{row['ctx']} {row['endings'][int(row['label'])]}" for row in rows[:2])[-400:]
    pairs = [(f"{shots}\n\n{row['ctx'][:60]}", f" {ending[:16]}") for row in rows[2:] for ending in row["endings"]]
    scorer = Scorer(model, tokenizer, 2, sys.stderr)
    assert scorer.problem is None
    _same(scorer.loglikelihood([_Instance(*pair) for pair in pairs], disable_tqdm=True), _stock(model, tokenizer, pairs))
    assert scorer.tokens < 0.5 * scorer.plain_tokens


# --- division into passes --------------------------------------------------------------------------------------------------

_SEQUENCES = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 30)).map(lambda p: (p[0], min(p[1], len(p[0])))),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(_SEQUENCES, st.integers(3, 40), st.integers(1, 6))
def test_every_question_meets_its_own_path_and_no_other(sequences: list[tuple[list[int], int]], budget: int, short: int) -> None:
    """Followed token by token: what each asked position sees is the beginning of its question, and it is asked once."""
    questions = [Question(ids, [7] * asked) for ids, asked in sequences]
    before = short_of(short)
    try:
        forest = Forest(questions, budget)
        kept: dict[int, int] = {}
        asked: list[list[tuple[int, ...]]] = [[] for _ in questions]
        through = 0
        for one in forest.passes():
            assert len(one.ids) <= budget and one.units[0] == 0
            through += len(one.ids)
            beginning = tuple(kept[i] for i in range(one.before))
            for at, owner in zip(one.at.tolist(), one.owner.tolist(), strict=True):
                seen = [j for j in range(at + 1) if at < one.ends[j]]
                assert one.positions[seen].tolist() == list(range(one.before, one.positions[at] + 1))
                asked[owner].append(beginning + tuple(one.ids[seen].tolist()))
            if one.keep:
                kept |= dict(zip(one.positions.tolist(), one.ids.tolist(), strict=True))
        for question, paths in zip(questions, asked, strict=True):
            lengths = range(len(question.ids) - len(question.targets) + 1, len(question.ids) + 1)
            assert sorted(paths, key=len) == [tuple(question.ids[:n]) for n in lengths]
        assert through == forest.tokens
        distinct = len({tuple(ids[:n]) for ids, _ in sequences for n in range(1, len(ids) + 1)})
        assert forest.tokens >= distinct
        if budget >= distinct:
            assert forest.tokens == distinct
    finally:
        short_of(before)


def short_of(value: int) -> int:
    """Set the length of a beginning that is computed again; returns what it was."""
    from zephyr.evals.open_llm import prefixes

    before, prefixes.SHORT = prefixes.SHORT, value
    return before


def test_a_fixed_beginning_is_computed_once() -> None:
    shots, items = list(range(100)), [[200 + i, 201 + i, 202 + i] for i in range(0, 300, 3)]
    questions = [Question([*shots, *item, answer], [1, 2]) for item in items for answer in (1, 2)]
    forest = Forest(questions, budget=64)
    assert forest.tokens == 100 + 100 * (3 + 2)
    assert max(len(one.ids) for one in forest.passes()) <= 64
    assert forest.kept == 100


def test_equal_likeliest_tokens() -> None:
    """Of two equal logits the first is taken for the likeliest, as argmax has it; NaN stays NaN."""
    logits = torch.zeros(3, 400)
    logits[0, [5, 9]] = 3.0
    logits[2, 0] = math.nan
    rows, targets = torch.tensor([0, 0, 1, 2]), torch.tensor([5, 9, 7, 1])
    nats, top = engine._logprobs(logits, None, rows, targets)
    assert top.tolist()[:3] == [True, False, False]
    assert nats[:3].tolist() == pytest.approx([3 - math.log(2 * math.e**3 + 398)] * 2 + [-math.log(400)], abs=1e-6)
    assert np.isnan(nats[3].item())
