"""Flat, packed streams through our attention give what plain transformers gives on padded batches."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

import tiny
from zephyr.errors import ModelError
from zephyr.train.attention import _TreeAttention, plain_attention, segment_attention
from zephyr.train.batches import Example, branching, flatten
from zephyr.train.blockwise import BlockAttention
from zephyr.train.head import head_loss
from zephyr.train.kernels import library
from zephyr.train.logprobs import sequence_sums, stream_hidden, stream_logprobs
from zephyr.train.parallel import recompute_activations
from zephyr.train.tasks import Dialogues

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{arch}, {'tied' if tied else 'untied'}": (arch, {"tie_word_embeddings": tied})
        for arch in tiny.ARCHITECTURES
        for tied in (True, False)
    },
    **{f"gemma, {'tied' if tied else 'untied'}": ("gemma", {"tie_word_embeddings": tied}) for tied in (True, False)},
    "llama, no groups": ("llama", {"num_key_value_heads": 4}),
    "llama, one group": ("llama", {"num_key_value_heads": 1}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "qwen3, windows": ("qwen3", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}),
    "gemma2, no caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
}
# windows are 7: one document longer, one as long, one shorter by one; one of a single token
LENGTHS = (23, 7, 1, 6, 2, 31, 8)
# of a parameter's gradient, relative: what products in bfloat16 give on models of two layers
BFLOAT16_GRADIENT = 0.03


def exact_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """transformers' eager attention, but for its softmax: there it is in float32 even where the rest is in float64."""
    groups = query.shape[1] // key.shape[1]
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key.repeat_interleave(groups, 1)) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    weights = (scores + attention_mask).softmax(-1)
    return torch.einsum("bhqk,bhkd->bqhd", weights, value.repeat_interleave(groups, 1)), weights


AttentionInterface.register("exact_eager", exact_attention)
AttentionMaskInterface.register("exact_eager", eager_mask)


def exact(arch: str, **settings: Any) -> Any:
    """A tiny model in float64 throughout: transformers' norms compute in float32, whatever the type of their input."""
    model = tiny.tiny_model(arch, dtype=torch.float64, **settings)
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(exact_norm, module)
    return model


def exact_norm(module: Any, hidden: Tensor) -> Tensor:
    """Root mean square norm; Gemma's weights are offsets from one."""
    gemma = type(module).__name__.startswith("Gemma")
    scaled = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + (module.eps if gemma else module.variance_epsilon))
    return scaled * (1 + module.weight if gemma else module.weight)


def examples_of(seed: int, lengths: tuple[int, ...] = LENGTHS) -> list[Example]:
    """Random documents; about half the tokens of each are learnt, none of the fourth's."""
    rng = random.Random(seed)
    return [
        Example(tuple(rng.randrange(704) for _ in range(n)), tuple(index != 3 and rng.random() < 0.5 for _ in range(n)))
        for index, n in enumerate(lengths)
    ]


def padded_logprobs(model: Any, examples: list[Example]) -> Tensor:
    """The plain way: pad, run the whole model, log_softmax of all logits, keep the learnt targets; in stream order."""
    longest = max(len(e.ids) for e in examples)
    ids_SL = torch.tensor([[*e.ids, *[0] * (longest - len(e.ids))] for e in examples])
    mask_SL = torch.tensor([[1] * len(e.ids) + [0] * (longest - len(e.ids)) for e in examples])
    logprob_SLV = F.log_softmax(model(input_ids=ids_SL, attention_mask=mask_SL, use_cache=False).logits, -1)
    return torch.stack([logprob_SLV[s, t - 1, e.ids[t]] for s, e in enumerate(examples) for t in range(1, len(e.ids)) if e.learnt[t]])


def weights(sequences: int) -> Tensor:
    return torch.linspace(-1.0, 2.0, sequences, dtype=torch.float64)


@dataclass(frozen=True)
class Weighted:
    """A loss in which no two sequences count the same."""

    weight_S: Tensor
    by_token = False

    def loss(self, sums_S: Tensor, items: Any) -> Tensor:
        return (self.weight_S * sums_S).sum()

    def stats(self, sums_S: Tensor, items: Any) -> dict[str, float]:
        return {}


def gradients(model: Any, *streams: list[Example], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """As the training computes them, all examples in one stream, or in several whose sums are weighted as those of one."""
    model.zero_grad(set_to_none=True)
    weight_S = weights(sum(len(e.targets) for examples in streams for e in examples))
    for examples in streams:
        stream = flatten(examples)
        here_S, weight_S = weight_S[: stream.sequences], weight_S[stream.sequences :]
        items = [Dialogues("all", tuple(examples))]
        head_loss(model, stream_hidden(model, stream, dtype), stream, items, Weighted(here_S), 1.0)[0].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def plain_gradients(model: Any, examples: list[Example]) -> dict[str, Tensor]:
    """The same of padded batches, by autograd."""
    model.zero_grad(set_to_none=True)
    logprob_N = padded_logprobs(model, examples)
    owner_N = torch.repeat_interleave(torch.arange(len(examples)), torch.tensor([e.targets[0] for e in examples]))
    (weights(len(examples))[owner_N] * logprob_N.double()).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def worst(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest relative difference of any parameter's gradient (2-norms)."""
    assert ours.keys() == theirs.keys()
    assert all(g.norm() > 0 for g in theirs.values())  # every weight matters to the result
    return max(float((ours[name] - g).norm() / g.norm()) for name, g in theirs.items())


@pytest.mark.parametrize("name", MODELS)
def test_float64_equals_padded_transformers(name: str) -> None:
    arch, overrides = MODELS[name]
    examples = examples_of(1)
    ours, plain = exact(arch, **overrides), exact(arch, attention="exact_eager", **overrides)
    got_N, want_N = stream_logprobs(ours, flatten(examples)), padded_logprobs(plain, examples)
    assert got_N.dtype == torch.float64
    torch.testing.assert_close(got_N, want_N, rtol=0, atol=1e-12)
    assert worst(gradients(ours, examples), plain_gradients(plain, examples)) < 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_float32_equals_padded_transformers(name: str) -> None:
    arch, overrides = MODELS[name]
    examples = examples_of(2)
    ours = tiny.tiny_model(arch, **overrides)
    plain = tiny.tiny_model(arch, attention="eager", **overrides)
    got_N, want_N = stream_logprobs(ours, flatten(examples)), padded_logprobs(plain, examples)
    assert got_N.dtype == torch.float32
    torch.testing.assert_close(got_N, want_N, rtol=0, atol=1e-5)
    assert worst(gradients(ours, examples), plain_gradients(plain, examples)) < 1e-5


def trees_of(seed: int) -> list[Example]:
    """Prompts with no, one, two and three answers, among them very short ones; windows (7) end before, in and after the trunk."""
    rng = random.Random(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(704) for _ in range(n))

    shapes = ((9, (5, 12)), (1, (1, 1)), (4, ()), (3, (8,)), (20, (2, 17, 6)), (2, (30, 1)))
    return [branching(ids(n), *map(ids, answers)) if answers else Example(ids(n), (True,) * n) for n, answers in shapes]


def grown_apart(examples: list[Example]) -> list[Example]:
    """The same sequences, each with its own copy of the prompt."""
    apart = []
    for e in examples:
        apart += [Example(e.ids + b, (False,) * len(e.ids) + (True,) * len(b)) for b in e.branches] or [e]
    return apart


@pytest.mark.parametrize("name", MODELS)
def test_shared_prompts_equal_separate_ones(name: str) -> None:
    arch, overrides = MODELS[name]
    trees = trees_of(8)
    for make, attention, tolerance in ((exact, "exact_eager", 1e-12), (tiny.tiny_model, "eager", 1e-5)):
        ours, plain = make(arch, **overrides), make(arch, attention=attention, **overrides)  # type: ignore[operator]
        got_N, want_N = stream_logprobs(ours, flatten(trees)), padded_logprobs(plain, grown_apart(trees))
        torch.testing.assert_close(got_N, want_N, rtol=0, atol=tolerance)
        assert worst(gradients(ours, trees), plain_gradients(plain, grown_apart(trees))) < tolerance


def test_sums_of_shared_prompts_go_to_their_sequences() -> None:
    model, trees = tiny.tiny_model("llama"), trees_of(9)
    streams = flatten(trees), flatten(grown_apart(trees))
    shared_S, apart_S = (sequence_sums(stream_logprobs(model, s), s) for s in streams)
    assert [n for e in trees for n in e.targets] == [e.targets[0] for e in grown_apart(trees)]
    assert shared_S.shape == (11,)
    torch.testing.assert_close(shared_S, apart_S, rtol=0, atol=1e-4)
    assert len(streams[0].ids_T) == sum(e.tokens for e in trees) < len(streams[1].ids_T)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_attention_without_masks_equals_the_one_with_masks(heads: tuple[int, int], dtype: torch.dtype) -> None:
    """Longer than the kernel's blocks, scores of both signs and far apart."""
    segments = [(300, 40, 700, 1), (1, 600, 2), (513,), (1,), (64, 64)]
    length = sum(map(sum, segments))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, length, h, 16, generator=generator).transpose(1, 2).to(dtype) * 2 for h in (heads[0], heads[1], heads[1]))
    grad = torch.randn(1, length, heads[0], 16, generator=generator).to(dtype)
    found = []
    others = [BlockAttention.apply] if dtype != torch.bfloat16 and library(dtype) else []
    for attention in (lambda *a: plain_attention(*a, 0.0, None, None), _TreeAttention.apply, *others):
        leaves = [t.detach().requires_grad_() for t in (q, k, v)]
        out = attention(*leaves, segments, 0.25)
        found.append([out.detach(), *torch.autograd.grad(out, leaves, grad)])
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.03}[dtype]
    for ours in found[1:]:
        for one, plain in zip(ours, found[0], strict=True):
            assert float((one - plain).double().norm() / plain.double().norm()) < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_packed_equals_unpacked(name: str, dtype: torch.dtype) -> None:
    arch, overrides = MODELS[name]
    model = exact(arch, **overrides) if dtype == torch.float64 else tiny.tiny_model(arch, **overrides)
    examples = examples_of(3)
    packed_N = stream_logprobs(model, flatten(examples))
    apart_N = torch.cat([stream_logprobs(model, flatten([e])) for e in examples])
    torch.testing.assert_close(packed_N, apart_N, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)
    assert worst(gradients(model, examples), gradients(model, *([e] for e in examples))) < (1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_a_document_does_not_see_its_neighbours(arch: str) -> None:
    """Not even in the last bit of its own gradient: other words beside it change nothing, as what is masked would."""
    model = tiny.tiny_model(arch)
    first, second, other = examples_of(4, (20, 12, 12))
    ids_T = flatten([first, second]).ids_T
    sums = [sequence_sums(stream_logprobs(model, s), s) for s in (flatten([first, second]), flatten([first, other]))]
    assert sums[0][0] == sums[1][0] and sums[0][1] != sums[1][1]
    embedded_TD = model.get_input_embeddings()(ids_T).detach().requires_grad_()
    stream = flatten([first, second])
    with torch.enable_grad():
        hidden_1TD = model.base_model(
            inputs_embeds=embedded_TD[None], position_ids=stream.positions_T[None], segments=stream.segments
        ).last_hidden_state
        (grad_TD,) = torch.autograd.grad(hidden_1TD[0, 25].sum(), embedded_TD)
    seen = grad_TD.abs().sum(1) > 0
    assert seen[20:26].all() and not seen[:20].any() and not seen[26:].any()


def test_window_is_as_long_as_the_model_says() -> None:
    """One layer of Mistral sees `sliding_window` positions, itself included."""
    model = tiny.tiny_model("mistral", num_hidden_layers=1, sliding_window=5)
    stream = flatten(examples_of(5, (20,)))
    embedded_TD = model.get_input_embeddings()(stream.ids_T).detach().requires_grad_()
    hidden_1TD = model.base_model(
        inputs_embeds=embedded_TD[None], position_ids=stream.positions_T[None], segments=[(20,)]
    ).last_hidden_state
    (grad_TD,) = torch.autograd.grad(hidden_1TD[0, 12].sum(), embedded_TD)
    assert (grad_TD.abs().sum(1) > 0).nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_nothing_learnt_gives_no_values_and_no_gradient(arch: str) -> None:
    model = tiny.tiny_model(arch)
    stream = flatten([Example((1, 2, 3), (False, False, False)), Example((4,), (True,))])
    logprob_N = stream_logprobs(model, stream)
    assert logprob_N.shape == (0,)
    sums_S = sequence_sums(logprob_N, stream)
    assert sums_S.tolist() == [0.0, 0.0]
    assert not any(g.any() for g in gradients(model, [Example((1, 2, 3), (False, False, False)), Example((4,), (True,))]).values())


def test_bfloat16_stays_near_float32() -> None:
    """Products in bfloat16 (8 bits: 2^-9 relative each), the log-probabilities themselves in float32."""
    model, examples = tiny.tiny_model("llama"), examples_of(6)
    exact_N = stream_logprobs(model, flatten(examples))
    rough_N = stream_logprobs(model, flatten(examples), torch.bfloat16)
    assert rough_N.dtype == torch.float32
    error = float((rough_N - exact_N).norm() / exact_N.norm())
    assert 1e-5 < error < 0.01  # not the same computation, and no worse than it must be
    exact, rough = (gradients(model, trees_of(6), dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert 1e-5 < worst(rough, exact) < BFLOAT16_GRADIENT


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_recomputing_activations_changes_nothing_but_memory(arch: str) -> None:
    def kept(model: Any) -> tuple[int, dict[str, Tensor]]:
        held: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found = gradients(model, examples_of(7))
        return sum(held.values()), found

    model = tiny.tiny_model(arch, num_hidden_layers=4)
    before, want = kept(model)
    recompute_activations(model)
    after, found = kept(model)
    assert worst(found, want) == 0
    assert after < before


# --- what the attention refuses -------------------------------------------------------------------------------


def test_without_segments_it_refuses() -> None:
    """A plain forward, or an architecture that drops the keyword, would let every document see the ones before it."""
    model = tiny.tiny_model("llama")
    with pytest.raises(ModelError, match="`segments` did not reach the attention"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


def test_segments_must_add_up() -> None:
    with pytest.raises(ValueError, match="add up to 2, not to the 3 positions"):
        tiny.tiny_model("llama").base_model(input_ids=torch.tensor([[1, 2, 3]]), segments=[(2,)])


def test_other_kinds_of_attention_are_refused() -> None:
    heads = torch.zeros(1, 2, 3, 4)
    layer = torch.nn.Module()
    with pytest.raises(ModelError, match="attention sinks"):
        segment_attention(layer, heads, heads, heads, None, segments=[(3,)], s_aux=torch.zeros(2))
    for name in ("block_indices", "position_bias"):
        with pytest.raises(ModelError, match=f"attention with `{name}` is not supported"):
            segment_attention(layer, heads, heads, heads, None, segments=[(3,)], position_ids=torch.zeros(1, 3), **{name: torch.zeros(2)})
    with pytest.raises(ModelError, match="a mask of its own"):
        segment_attention(layer, heads, heads, heads, torch.zeros(1, 1, 3, 3), segments=[(3,)])
    windowed = torch.nn.Module()
    windowed.sliding_window = 2
    segment_attention(windowed, heads, heads, heads, None, sliding_window=2, segments=[(3,)])
    with pytest.raises(ModelError, match="a window that is in the mask alone"):
        segment_attention(windowed, heads, heads, heads, None, segments=[(3,)])
    windowed.is_sliding = False
    segment_attention(windowed, heads, heads, heads, None, segments=[(3,)])
    layer.is_causal = False
    with pytest.raises(ModelError, match="both directions"):
        segment_attention(layer, heads, heads, heads, None, segments=[(3,)])
    chunked = torch.nn.Module()
    chunked.config = type("Config", (), {"attention_chunk_size": 8})()
    with pytest.raises(ModelError, match="chunks"):
        segment_attention(chunked, heads, heads, heads, None, segments=[(3,)])


def test_dropout_is_for_training_only() -> None:
    heads, layer = torch.randn(1, 2, 40, 4), torch.nn.Module()
    for softcap in (None, 5.0):
        calls = [
            segment_attention(layer.train(mode), heads, heads, heads, None, dropout=0.5, softcap=softcap, segments=[(40,)])[0]
            for mode in (False, False, True)
        ]
        assert torch.equal(calls[0], calls[1]) and not torch.equal(calls[0], calls[2])
