"""An export is the model it was made of: the same numbers, the same ids, the same dialogues, in whatever form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from zephyr.artifacts import Artifact
from zephyr.errors import ArtifactError, ModelError, UsageError
from zephyr.export import check, export, folder, gguf, header, vocabulary, write
from zephyr.export.source import open_model

KINDS = {
    "bytes": lambda: (tiny.byte_tokenizer(), "llama", {}),
    "llama 3": lambda: (tiny.llama3_tokenizer(), "llama", {"head_dim": 12}),
    "llama 2": lambda: (tiny.sentencepiece_tokenizer(prefix="always", template=tiny.LLAMA2), "llama", {"tie_word_embeddings": False}),
    "gemma's": lambda: (tiny.sentencepiece_tokenizer(prefix="never", template=tiny.GEMMA), "mistral", {"sliding_window": None}),
}


def model(path: Path, tokenizer: Any, arch: str = "llama", **config: Any) -> Path:
    tiny.tiny_model(arch, attention="sdpa", **config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=KINDS)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer, arch, config = KINDS[request.param]()
    return model(tmp_path_factory.mktemp("plain") / "tiny-model", tokenizer, arch, **config)


def logits(loaded: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = loaded(input_ids=torch.arange(5, 45)[None]).logits
    return found


def test_gguf_is_the_same_model(plain: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = export(str(plain), tmp_path / "out", to="gguf", dtype="float32")
    name = "tiny-model-F32.gguf"
    assert name in made["files"] and made["status"] == "ran" and made["checked"]["dialogues"] == 10
    original = AutoModelForCausalLM.from_pretrained(plain)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file=name)
    assert made["parameters"] == sum(p.numel() for p in original.parameters())
    torch.testing.assert_close(logits(read), logits(original), rtol=0, atol=2e-5)
    # what transformers makes of it, which knows no rules of byte-level BPE but one
    tokens, template, _ = gguf.read_back(tmp_path / "out" / name)
    source = open_model(str(plain))
    assert template == source.tokenizer.chat_template
    assert tokens.special["eos"] == source.tokenizer.eos_token_id
    assert tokens.adds_bos == (source.tokenizer("a")["input_ids"][0] == source.tokenizer.bos_token_id)
    if tokens.model == "llama":
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file=name)
        assert theirs.chat_template == template
        text = "The quick brown fox jumps over the lazy dog."
        if tokens.space_first:
            assert theirs(text, add_special_tokens=False)["input_ids"] == source.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("dtype", "worst"), [("bfloat16", 0.004), ("float16", 0.0006), ("q8_0", 0.005)])
def test_gguf_in_fewer_bits(tmp_path: Path, dtype: str, worst: float) -> None:
    """Every weight is within the rounding of its format; norms are as they were."""
    from gguf import GGUFReader, quants

    plain = model(tmp_path / "m", tiny.byte_tokenizer())
    made = export(str(plain), tmp_path / "out", to="gguf", dtype=dtype)
    (file,) = [name for name in made["files"] if name.endswith(".gguf")]
    written = {t.name: quants.dequantize(t.data, t.tensor_type) for t in GGUFReader(tmp_path / "out" / file).tensors}
    kinds = {t.tensor_type.name for t in GGUFReader(tmp_path / "out" / file).tensors if len(t.shape) > 1}
    assert kinds == {"bfloat16": {"BF16"}, "float16": {"F16"}, "q8_0": {"Q8_0", "F16"}}[dtype]  # rows of 48 are no blocks of 32
    weights = dict(open_model(str(plain)).weights())
    down, norm = weights["model.layers.1.mlp.down_proj.weight"].numpy(), weights["model.layers.0.input_layernorm.weight"].numpy()
    assert abs(written["blk.1.ffn_down.weight"] - down).max() <= worst * abs(down).max()
    assert (written["blk.0.attn_norm.weight"] == norm).all()


def test_a_folder_in_another_format(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(folder, "SHARD_BYTES", 40_000)
    (plain / "README.md").write_text("A card.\n")
    made = export(str(plain), tmp_path / "out", to="safetensors", dtype="bfloat16")
    shards = [name for name in made["files"] if name.endswith(".safetensors")]
    assert len(shards) > 1 and "model.safetensors.index.json" in made["files"] and "README.md" in made["files"]
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert read.dtype == torch.bfloat16 and json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    original = AutoModelForCausalLM.from_pretrained(plain)
    for name, weight in original.named_parameters():
        assert torch.equal(read.get_parameter(name), weight.to(torch.bfloat16))
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(plain)
    assert ours.apply_chat_template(check.DIALOGUES[3], tokenize=False) == theirs.apply_chat_template(check.DIALOGUES[3], tokenize=False)


def test_the_model_of_a_run(small_run: Any, tmp_path: Path) -> None:
    """A stage's artifact, with the template it was trained with; its manifest says what it was made of, and names no stage's place."""
    made = export(str(small_run.out / "dpo"), tmp_path / "out", to="gguf", dtype="bfloat16")
    artifact = Artifact.open(tmp_path / "out")
    assert artifact.check(verify=True) is None and artifact.manifest.stage == "export"
    assert artifact.manifest.parents["model"]["digest"] == Artifact.open(small_run.out / "dpo").manifest.digest
    assert "dpo-BF16.gguf" in made["files"] and "README.md" in made["files"]
    template = header.read(tmp_path / "out/dpo-BF16.gguf").fields["tokenizer.chat_template"]
    assert "'<|system|>\\n'" in template
    # the run's card shows how transformers reads a folder; this one has a file for llama.cpp
    said = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "llama-cli -m dpo-BF16.gguf\n" in said and "from_pretrained" not in said and "library_name" not in said


def test_a_card_of_somebody_else_stays_as_it_is(tmp_path: Path) -> None:
    from zephyr.report.card import USE

    ours, theirs = (
        f"---\nlibrary_name: transformers\nlicense: mit\n---\n\n## Use\n\n{USE}\n",
        "---\nlibrary_name: transformers\n---\nMine.\n",
    )
    for text, wanted in ((ours, "---\nlicense: mit\n---\n\n## Use\n\n```sh\nllama-cli -m m.gguf\n```\n"), (theirs, theirs)):
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        write._say_how_it_is_used(tmp_path / "README.md", "m.gguf")
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == wanted
    (tmp_path / "README.md").write_bytes("Größe\r\n".encode("latin-1"))
    write._say_how_it_is_used(tmp_path / "README.md", "m.gguf")
    assert (tmp_path / "README.md").read_bytes() == "Größe\r\n".encode("latin-1")


def test_a_card_that_was_edited_stays(tmp_path: Path) -> None:
    plain, out = model(tmp_path / "m", tiny.byte_tokenizer()), tmp_path / "out"
    (plain / "README.md").write_text("A card.")
    export(str(plain), out, to="safetensors")
    (out / "README.md").write_text("Mine.")
    assert export(str(plain), out, to="safetensors")["status"] == "done"
    with pytest.raises(UsageError, match=r"README\.md: was edited, and an export would replace it"):
        export(str(plain), out, to="safetensors", dtype="float32")
    assert (out / "README.md").read_text() == "Mine."
    (out / "README.md").unlink()  # one that is gone comes back
    assert export(str(plain), out, to="safetensors")["status"] == "ran" and (out / "README.md").read_text() == "A card."


def test_a_card_of_ones_own_stays(tmp_path: Path) -> None:
    """The model has none, so it was written where the export is."""
    plain, out = model(tmp_path / "m", tiny.byte_tokenizer()), tmp_path / "out"
    export(str(plain), out, to="safetensors")
    (out / "README.md").write_text("Mine.")
    with pytest.raises(UsageError, match=r"README\.md: was written since, and an export would replace it; .* move the card away first"):
        export(str(plain), out, to="safetensors", dtype="float32")
    assert (out / "README.md").read_text() == "Mine."


def test_written_aside_and_only_over_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, out = model(tmp_path / "m", tiny.byte_tokenizer()), tmp_path / "out"
    first = export(str(plain), out, to="safetensors", dtype="float16")
    assert export(str(plain), out, to="safetensors", dtype="float16")["status"] == "done"

    def broken(*args: Any) -> None:
        raise ArtifactError("as if the disk had lied")

    with monkeypatch.context() as patched:
        patched.setattr(check, "refuse_other_texts", broken)
        with pytest.raises(ArtifactError, match="lied"):
            export(str(plain), out, to="safetensors", dtype="float32")
    assert Artifact.open(out).check(verify=True) is None and export(str(plain), out, to="safetensors", dtype="float16")["status"] == "done"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "out"]
    second = export(str(plain), out, to="safetensors", dtype="float32")
    assert second["digest"] != first["digest"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt: is no file of an export"):
        export(str(plain), out, to="gguf")
    for place in (plain, plain / "inside", tmp_path):
        with pytest.raises(UsageError, match="where the model itself is"):
            export(str(plain), place, to="gguf")


def test_what_cannot_be_said_is_refused(tmp_path: Path) -> None:
    """A model that would come out as something else does not come out."""
    refused = {
        "Qwen2ForCausalLM": (tiny.byte_tokenizer(), "qwen2", {}),
        "rotary positions are of the type llama3": (
            tiny.byte_tokenizer(),
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 64}},
        ),
        "biases": (tiny.byte_tokenizer(), "llama", {"attention_bias": True}),
        # a space before the first piece alone: a reader puts one before each, or none
        "cut otherwise": (tiny.sentencepiece_tokenizer(prefix="first", template=tiny.MISTRAL), "llama", {}),
    }  # fmt: skip
    for i, (problem, (tokenizer, arch, config)) in enumerate(refused.items()):
        plain = model(tmp_path / f"m{i}", tokenizer, arch, **config)
        with pytest.raises(ModelError, match=problem):
            export(str(plain), tmp_path / "out", to="gguf")
    assert not (tmp_path / "out").exists()
    for wrong in ({"to": "onnx"}, {"to": "safetensors", "dtype": "q8_0"}):
        with pytest.raises(UsageError, match=r"known are|it has bfloat16"):
            export(str(tmp_path / "m0"), tmp_path / "out", **wrong)


def test_weights_that_are_not_the_models(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    plain = model(tmp_path / "m", tiny.byte_tokenizer())
    whole = load_file(plain / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    for change, problem in (
        ({name: None}, f"{name} is missing"),
        ({"model.layers.0.extra.weight": torch.zeros(2)}, "extra.weight is no part"),
        ({name: whole[name][:4].contiguous()}, "is of shape"),
        ({name: torch.full_like(whole[name], float("nan"))}, "not finite"),
        ({name: torch.full_like(whole[name], 1e6)}, "beyond what float16 can hold"),
    ):
        changed = {k: v for k, v in {**whole, **change}.items() if v is not None}
        save_file(changed, plain / "model.safetensors", metadata={"format": "pt"})
        for to in write.TARGETS:
            with pytest.raises(ModelError, match=problem):
                export(str(plain), tmp_path / "out", to=to, dtype="float16")


def test_a_tokenizer_that_changed_on_the_way_is_found() -> None:
    """Scores in another order, a rule that is not the tokenizer's, a template that reads otherwise: none passes."""
    tokenizer = tiny.sentencepiece_tokenizer(prefix="always", template=tiny.LLAMA2)
    right = vocabulary.of(tokenizer, 704, [])

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert check.differing(check.TEXTS, ids, right.encode) is None
    from dataclasses import replace

    flat = replace(right, scores=(0.0,) * 704)  # as files are whose scores nobody knew
    assert check.differing(check.TEXTS, ids, flat.encode) is not None
    with pytest.raises(ModelError, match="dialogue 2 would read otherwise"):
        check.refuse_other_texts(["a", "b", "c"], ["a", "b", "d"])
    assert check.renderings(tokenizer, tiny.MISTRAL)[2] is None  # refused by the template is a result as well


def test_the_tokenizer_of_a_real_model(shared: Path) -> None:
    """SmolLM2's: 49,152 tokens, digits one by one."""
    import gzip

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    packed = shared / "data/models/smollm2_135m/tokenizer.json.gz"
    if not packed.exists():
        pytest.skip(f"no {packed}")
    made = Tokenizer.from_str(gzip.decompress(packed.read_bytes()).decode())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|im_start|>", eos_token="<|im_end|>")
    found = vocabulary.of(tokenizer, 49152, ["<|im_start|>user\nIn 1234 days<|im_end|>\n"])
    assert (found.model, found.rule, len(found.merges)) == ("gpt2", "smollm", 48900)


def test_llama_cpp_reads_it(tmp_path: Path) -> None:
    """The reader that matters: the same text goes on the same way, token by token, with the same probabilities."""
    llama_cpp = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed (pip install xllamacpp)")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in ("bytes", "llama 2"):
        tokenizer, arch, config = KINDS[name]()
        plain = model(tmp_path / name, tokenizer, arch, **config)
        made = export(str(plain), tmp_path / f"{name} out", to="gguf", dtype="float32")
        (file,) = [f for f in made["files"] if f.endswith(".gguf")]
        settings = llama_cpp.CommonParams()
        settings.model.path, settings.n_ctx, settings.cpuparams.n_threads, settings.warmup = (
            str(tmp_path / f"{name} out" / file),
            128,
            1,
            False,
        )
        # by default what attention keeps is rounded to 16 bits
        settings.cache_type_k = settings.cache_type_v = llama_cpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = llama_cpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        prompt = "The quick brown fox"
        said = llama_cpp.Server(settings).handle_completions({"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5})
        ids = AutoTokenizer.from_pretrained(plain)(prompt, return_tensors="pt")["input_ids"]
        assert said["usage"]["prompt_tokens"] == ids.shape[1]
        with torch.no_grad():
            wanted = AutoModelForCausalLM.from_pretrained(plain)(ids).logits[0, -1].log_softmax(-1)
        found = [entry["logprob"] for entry in said["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]
        torch.testing.assert_close(torch.tensor(found), wanted.topk(len(found)).values, rtol=0, atol=1e-5)
