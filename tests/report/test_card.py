"""The model card: front matter that the hub reads, and text that stays within the manifests."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import fake_run
import pytest
import yaml

from zephyr.artifacts import Artifact, Manifest
from zephyr.models import load, registry
from zephyr.recipe import ModelConfig
from zephyr.report import card


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return fake_run.make(tmp_path_factory.mktemp("run"))


def front_matter(text: str) -> dict[str, Any]:
    start, matter, _ = text.split("---\n", 2)
    assert start == ""
    found = yaml.safe_load(matter)
    assert isinstance(found, dict)
    return found


def from_base(run: dict[str, Artifact], base: str, digest: str = "0", **rest: str) -> dict[str, Artifact]:
    sft = run["sft"]
    parents = {"base": {"path": base, "digest": digest, **rest}}
    return {"sft": Artifact(sft.path, Manifest(**{**vars(sft.manifest), "parents": parents}))}


def test_front_matter_of_the_whole_run(run: dict[str, Artifact]) -> None:
    assert front_matter(card.render("demo", run)) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "tags": ["zephyr", "conversational", "sft", "dpo"],
    }


def test_hub_library_reads_it(run: dict[str, Artifact]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card.render("demo", run)).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.library_name == "transformers"


def test_every_model_we_name_has_a_name_on_the_hub() -> None:
    assert set(card.HUB_NAMES) == set(registry.KNOWN)


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ("/home/someone/secret/student", "`student`"),
        ("./student", "`student`"),
        ("secret/student", "`student`"),
        ("runs/a/sft/model", "`sft/model`"),
    ],
)
def test_private_paths_are_not_shown(run: dict[str, Artifact], base: str, shown: str) -> None:
    text = card.render("demo", from_base(run, base))
    matter = front_matter(text)
    assert "base_model" not in matter and "license" not in matter
    assert shown in text
    assert "secret" not in text


def test_a_folder_that_looks_like_a_name_of_the_hub_is_none(
    run: dict[str, Artifact], tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./models/student` is written as `models/student` in the manifests; the digest tells them apart, wherever the card is made."""
    shutil.copytree(tiny_folder, tmp_path / "models" / "student")
    monkeypatch.chdir(tmp_path)
    folder = load.refer(ModelConfig(path="./models/student"))
    monkeypatch.chdir(tmp_path / "models")
    text = card.render("demo", from_base(run, folder.name, folder.digest))
    assert folder.name == "models/student"
    assert "base_model" not in front_matter(text) and "`student` after" in text
    hub = load.refer(ModelConfig(path="models/student"))
    text = card.render("demo", from_base(run, hub.name, hub.digest))
    assert front_matter(text)["base_model"] == "models/student" and "`models/student` after" in text
    pinned = load.refer(ModelConfig(path="models/student", revision="v2"))
    text = card.render("demo", from_base(run, pinned.name, pinned.digest, revision="v2"))
    assert front_matter(text)["base_model"] == "models/student"


@pytest.mark.parametrize(
    ("objective", "shown"),
    [("dpo", ()), ("cdpo", ("label_smoothing 0.1",)), ("ipo", ()), ("simpo", ("gamma 0.5",))],
)
def test_settings_that_the_objective_does_not_read_are_not_shown(run: dict[str, Artifact], objective: str, shown: tuple[str, ...]) -> None:
    settings = {"objective": objective, "beta": 0.1, "label_smoothing": 0.1, "gamma": 0.5}  # as older manifests have them
    dpo = Artifact(run["dpo"].path, Manifest(**{**vars(run["dpo"].manifest), "config": {"dpo": settings}}))
    line = next(line for line in card.render("demo", {"dpo": dpo}).splitlines() if line.startswith("dDPO: "))
    assert line.replace("\\", "") == f"dDPO: {', '.join([f'objective {objective}', 'beta 0.1', *shown])}."


def test_text_says_what_was_measured_and_what_the_limits_are(run: dict[str, Artifact]) -> None:
    text = card.render("demo", run)
    for expected in (
        "160 dialogues",
        "158 pairs of rated answers",
        "The test loss fell from 2.314 (base) to 2.082 (dSFT) nats a token.",
        "| dDPO against dSFT | 63.5% |",
        "| length alone (longer wins) | 49.8% |",
        "learning_rate 5e-06",
        "Seed 7.",
        "replayed from recorded texts, not live models",
        "already instruction-tuned",
        "Safety was not assessed",
        "favour verbose ones, and models distilled from them",
        "apply_chat_template",
    ):
        assert expected in text, expected


def test_code_in_the_card_compiles(run: dict[str, Artifact]) -> None:
    code = card.render("demo", run).split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


@pytest.mark.parametrize("stages", [s for n in (0, 1, 7) for s in itertools.combinations(fake_run.ORDER, n)])
def test_any_subset_has_a_card(run: dict[str, Artifact], stages: tuple[str, ...]) -> None:
    text = card.render("demo", {name: run[name] for name in stages})
    assert front_matter(text)["library_name"] == "transformers"
    assert ("No model was trained in this run" in text) == (not {"sft", "dpo"} & set(stages))
    assert ("Not measured: the run has no evaluation." in text) == ("evaluate" not in stages)


def test_card_is_made_from_manifests_alone(run: dict[str, Artifact]) -> None:
    nowhere = {name: Artifact(Path("/nowhere"), a.manifest) for name, a in run.items()}
    assert card.render("demo", nowhere) == card.render("demo", run)


def test_names_and_notes_cannot_break_the_markdown(run: dict[str, Artifact]) -> None:
    evaluate = run["evaluate"]
    one = {"metric": "acc", "value": 0.5, "stderr": 0.1, "ci95": [0.1, 0.9], "n": 2, "num_fewshot": 5, "excluded": 1, "truncated": 0}
    results = {"models": ["base"], "benchmarks": {"a|b\n<script>": {"base": one}}}
    spoilt = Artifact(evaluate.path, Manifest(**{**vars(evaluate.manifest), "results": results, "notes": [fake_run.HOSTILE]}))
    text = card.render("demo", {"evaluate": spoilt})
    assert "| a\\|b \\<script\\> | acc | 5 | 2 | 1 | 0 | – | 50.0% \\[10.0%, 90.0%\\] |" in text
    assert "<script>" not in text.replace("\\<script\\>", "")
