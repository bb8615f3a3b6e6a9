"""Model folders: what is taken, what is refused, what is written."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import small
import tiny
from zephyr.errors import ArtifactError, DataError, ModelError
from zephyr.models import load
from zephyr.models.generate import generate
from zephyr.recipe import ModelConfig

if TYPE_CHECKING:
    from conftest import SmallRun


def refer(path: object, **rest: Any) -> load.ModelRef:
    return load.refer(ModelConfig(path=str(path), **rest))


def test_the_artifact_of_a_stage_is_the_model_in_it(small_run: SmallRun) -> None:
    digest = small_run.result["artifacts"]["sft"]["digest"]
    by_artifact, by_folder = refer(small_run.out / "sft"), refer(small_run.out / "sft" / "model")
    assert by_artifact == by_folder == load.ModelRef(str(small_run.out / "sft" / "model"), digest)


def test_a_damaged_artifact_is_no_model(small_run: SmallRun, tmp_path: Path) -> None:
    out = Path(shutil.copytree(small_run.out / "sft", tmp_path / "sft", copy_function=shutil.copy2))
    (out / "model" / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model.safetensors is missing; make the model again"):
        refer(out)


def test_what_a_folder_is_depends_on_its_weights_not_on_its_card(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    before = refer(folder).digest
    assert before == refer(tiny_folder).digest
    (folder / "README.md").write_text("A card.")
    assert refer(folder).digest == before
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert refer(folder).digest != before


def test_a_hub_name_is_known_by_its_revision() -> None:
    one, two = refer("owner/name"), refer("owner/name", revision="abc")
    assert one.name == two.name == "owner/name" and one.digest != two.digest


def test_weights_come_in_float32_and_leave_as_a_plain_folder(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    half = Path(shutil.copytree(tiny_folder, tmp_path / "half"))
    AutoModelForCausalLM.from_pretrained(tiny_folder).to(torch.bfloat16).save_pretrained(half)
    ref = refer(half)
    model, chat = load.load_model(ref), load.load_chat(ref, "zephyr")
    assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training
    load.save_model(model, chat, tmp_path / "saved")
    names = sorted(p.name for p in (tmp_path / "saved").iterdir())
    assert "model.safetensors" in names and not any(n.endswith((".bin", ".pt", ".pkl")) for n in names)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", attn_implementation="eager")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.chat_template == chat.template
    generation = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == list(chat.stop_ids) and "segments" not in (tmp_path / "saved" / "config.json").read_text()


def test_what_we_would_compute_wrongly_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "cohere", vocab_size=480, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, logit_scale=0.5
    )
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "cohere"))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(ModelError, match="cohere computes its logits with logit_scale, which is not supported yet"):
        load.load_model(refer(folder))


def test_pickled_weights_are_not_read(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        load.load_model(refer(folder))


def test_a_template_file(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chat.jinja").write_text(tiny.CHATML)
    assert load.load_chat(refer(tiny_folder), str(tmp_path / "chat.jinja")).template == tiny.CHATML
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load.load_chat(refer(tiny_folder), "~/chat.jinja").template == tiny.CHATML
    (tmp_path / "bad.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"bad.jinja: the chat template cannot be read \(not UTF-8 text\)"):
        load.load_chat(refer(tiny_folder), str(tmp_path / "bad.jinja"))


@pytest.mark.parametrize(
    ("own", "template", "said"), [(tiny.CHATML, "zephyr", True), (tiny.CHATML, "tokenizer", False), (None, "zephyr", False)]
)
def test_a_template_that_is_replaced_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], own: str | None, template: str, said: bool
) -> None:
    tiny.tiny_model().save_pretrained(tmp_path)
    tiny.byte_tokenizer(template=own).save_pretrained(tmp_path)
    for _ in range(2):
        load.load_chat(refer(tmp_path), template).tokenizer.save_pretrained(tmp_path / "trained")
    line = f"  {tmp_path}: its own chat template is replaced by Zephyr's; `chat_template: tokenizer` (--chat-template tokenizer) keeps it\n"
    assert capsys.readouterr().err == (line if said else "")
    tiny.tiny_model().save_pretrained(tmp_path / "trained")
    load.load_chat(refer(tmp_path / "trained"), "zephyr")
    assert capsys.readouterr().err == "" or template == "tokenizer", "it speaks Zephyr's already"


def test_errors_of_the_rust_libraries_are_those_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left") as full, load.os_errors():
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert full.value.errno == 28
    with pytest.raises(DataError), load.os_errors():
        raise DataError("something else")


# --- generation --------------------------------------------------------------------------------------------------


def answers(model: Any, chat: Any, prompts: list[str], **settings: Any) -> list[Any]:
    conversations: list[Any] = [[{"role": "user", "content": p}] for p in prompts]
    rest = {"names": prompts, "max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "seed": 0, **settings}
    found = dict(generate(model, chat, conversations, **rest))
    return [found[i] for i in range(len(prompts))]


@pytest.fixture(scope="module")
def speaker(tiny_folder: Path) -> tuple[Any, Any]:
    return load.load_model(refer(tiny_folder), attention="generation"), load.load_chat(refer(tiny_folder), "zephyr")


PROMPTS = ["Hi!", "Why is the sky blue? Because air scatters short waves of light.", "One?", "Two, or three of them."]


def test_padding_and_batches_do_not_change_greedy_answers(speaker: tuple[Any, Any]) -> None:
    model, chat = speaker
    together = answers(model, chat, PROMPTS)
    alone = [answers(model, chat, [p])[0] for p in PROMPTS]
    assert [a.text for a in together] == [a.text for a in alone] == [a.text for a in answers(model, chat, PROMPTS, batch_size=2)]
    by_hand = torch.tensor([chat.encode_prompt([{"role": "user", "content": PROMPTS[1]}])])
    with torch.no_grad():
        for _ in range(8):
            by_hand = torch.cat([by_hand, model(by_hand).logits[:, -1:].argmax(-1)], 1)
    assert alone[1].text == chat.tokenizer.decode(by_hand[0, -8:], skip_special_tokens=True).strip()
    assert alone[1].tokens == 8 and not alone[1].ended and alone[1].prompt_tokens == by_hand.shape[1] - 8


def test_samples_depend_on_seed_and_name_and_nothing_else(speaker: tuple[Any, Any]) -> None:
    model, chat = speaker
    hot = {"temperature": 1.0}
    torch.manual_seed(1)
    one = answers(model, chat, PROMPTS, **hot)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert answers(model, chat, PROMPTS, **hot) == one
    assert answers(model, chat, PROMPTS, seed=1, **hot) != one
    assert answers(model, chat, PROMPTS, names=["a", "b", "c", "d"], **hot) != one
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the global random state moved"


def test_an_answer_ends_at_its_stop_token(speaker: tuple[Any, Any]) -> None:
    _, chat = speaker
    model = tiny.tiny_model(attention="sdpa")
    stop = chat.stop_ids[0]
    with torch.no_grad():  # a model that says its stop token third
        model.generate = lambda input_ids, **_: torch.cat([input_ids, torch.tensor([[50, 51, stop, stop]])], 1)
    (answer,) = answers(model, chat, ["Hi!"])
    assert answer.ended and answer.tokens == 3 and answer.text == chat.tokenizer.decode([50, 51]).strip()


def test_a_vocabulary_smaller_than_its_tokenizer_is_said(tiny_folder: Path, tmp_path: Path) -> None:
    small.model_folder(tmp_path / "model", vocab_size=100)
    ref = refer(tmp_path / "model")
    with pytest.raises(ModelError, match="its tokenizer has 480 tokens, the model 100; they do not belong together"):
        load.load_model(ref, load.load_chat(ref, "zephyr"))


@pytest.mark.parametrize("kind", ["bloom", "mamba"])
def test_a_model_that_mixes_documents_outside_its_attention_is_refused(kind: str, tmp_path: Path) -> None:
    """Bloom's positions and Mamba's state run on from one document into the next, whatever the segments say."""
    from transformers import AutoConfig, AutoModelForCausalLM

    import tiny

    torch.manual_seed(0)
    sizes = {"vocab_size": 480, "hidden_size": 32, "num_hidden_layers": 2, "n_head": 4, "n_layer": 2, "state_size": 4}
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))
    made.save_pretrained(tmp_path)
    tiny.byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"{kind} (gives other log-probabilities in a flat stream|cannot be trained on flat streams)"):
        load.load_model(load.ModelRef(str(tmp_path), ""))


def test_a_model_that_nobody_uses_is_freed_before_another_is_loaded(tiny_folder: Path) -> None:
    gc.disable()  # nothing else may collect it
    try:
        model: Any = load.load_model(refer(tiny_folder))
        model.itself, first = model.forward, weakref.ref(model)
        del model
        assert first() is not None
        kept: Any = load.load_model(refer(tiny_folder))
        assert first() is None
        weights = [p.data_ptr() for p in kept.parameters()]
        load.load_model(refer(tiny_folder))
        assert [p.data_ptr() for p in kept.parameters()] == weights and torch.isfinite(kept.lm_head.weight).all()
    finally:
        gc.enable()
