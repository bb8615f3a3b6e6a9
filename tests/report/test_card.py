"""The model card: front matter that the hub reads, and text that stays within the manifests."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import fake_run
import pytest
import yaml

from zephyr.artifacts import Artifact, Manifest
from zephyr.models import registry
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


def from_base(run: dict[str, Artifact], base: str) -> dict[str, Artifact]:
    sft = run["sft"]
    return {"sft": Artifact(sft.path, Manifest(**{**vars(sft.manifest), "parents": {"base": {"path": base, "digest": "0"}}}))}


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
    ("base", "named", "shown"),
    [
        ("someone/model-1.5B", "someone/model-1.5B", "`someone/model-1.5B`"),
        ("/home/someone/secret/student", None, "`student`"),
        ("./student", None, "`student`"),
        ("runs/a/sft/model", None, "`sft/model`"),
    ],
)
def test_base_is_named_where_the_hub_knows_it_and_private_paths_are_not_shown(
    run: dict[str, Artifact], base: str, named: str | None, shown: str
) -> None:
    text = card.render("demo", from_base(run, base))
    matter = front_matter(text)
    assert matter.get("base_model") == named
    assert "license" not in matter
    assert shown in text
    assert "secret" not in text


def test_text_says_what_was_measured_and_what_the_limits_are(run: dict[str, Artifact]) -> None:
    text = card.render("demo", run)
    for expected in (
        "163 dialogues",
        "162 pairs of rated answers",
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
    results = {"models": ["base"], "benchmarks": {"a|b\n<script>": {"base": {"metric": "acc", "value": 0.5, "stderr": 0.1, "n": 2}}}}
    spoilt = Artifact(evaluate.path, Manifest(**{**vars(evaluate.manifest), "results": results, "notes": [fake_run.HOSTILE]}))
    text = card.render("demo", {"evaluate": spoilt})
    assert "| a\\|b \\<script\\> | acc | 2 | 50.0% ± 10.0 |" in text
    assert "<script>" not in text.replace("\\<script\\>", "")
