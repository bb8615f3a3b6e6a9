"""The page: what it says of whole and partial runs, that it is safe, complete in itself, and always the same."""

from __future__ import annotations

import functools
import html
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import fake_run
import pytest

from zephyr.artifacts import Artifact, Manifest
from zephyr.report import accounts, flow, page, plots, tables
from zephyr.report.facts import Run

VOID = {"meta", "link", "img", "br", "hr", "input", "circle", "line", "rect", "path", "use"}


class Reader(HTMLParser):
    """Tags, attributes and text of a page; complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def render(artifacts: dict[str, Artifact], title: str = "A small model, aligned") -> str:
    return page.render("demo", title, artifacts, order=fake_run.ORDER)


@pytest.fixture(scope="module", autouse=True)
def drawn_once() -> Iterator[Callable[[plots.Chart], str]]:
    """Equal charts are drawn once in this file, which saves most of its time; gives what really draws."""
    really = plots.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", functools.cache(really))
        yield really


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return fake_run.make(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def whole(run: dict[str, Artifact]) -> str:
    return render(run)


def with_results(run: dict[str, Artifact], stage: str, results: dict[str, object]) -> dict[str, Artifact]:
    """The same run, but that one stage found something else."""
    old = run[stage]
    manifest = Manifest(**{**vars(old.manifest), "results": results})
    return {**run, stage: Artifact(old.path, manifest)}


def test_headline_shows_loss_and_accuracy_beside_length(whole: str) -> None:
    text = Reader(whole).text
    assert "Test loss, nats per token 2.314 → 2.082" in text
    assert "Reward accuracy, dDPO 63.5% 95% [57.1%, 69.9%]; 233 pairs of 40 prompts" in text
    assert "Length alone, accuracy 49.8% 95% [42.1%, 57.5%]" in text
    assert "above one half with its whole interval" in text


def test_whole_run_says_everything(whole: str) -> None:
    text = Reader(whole).text
    for expected in (
        "smollm2-135m-instruct, fine-tuned on 160 dialogues (dSFT), then aligned with 158 preference pairs (dDPO), "
        "then measured on prompts that are in no train split.",
        "curate duplicate of another dialogue 4 dialogues",
        "rate the answer is empty 2 answers",
        "binarize all answers tie 2 prompts or pairs",
        "dpo an answer does not fit into dpo.max_length 4 pairs",
        "in all 799,557 9 min 37 s",
        "its own (in Zephyr: 2.942)",
        "arc_challenge acc_norm 25 500 3 12 – 28.6% [24.6%, 32.8%] 29.0% [25.0%, 33.2%] 29.4% [25.4%, 33.6%]",
        "truthfulqa mc2 0 817 0 0 / 2 / 2 – 38.8% (no interval) 39.1% (no interval) 40.2% (no interval)",
        "[−0.034, 0.458]",
        "pairs in which the chosen answer is the longer one 51.5%",
        "Why both log-probabilities may fall",
        "replayed from recorded texts, not live models",
        "already instruction-tuned",
        "Safety was not assessed",
        "favour verbose ones, and models distilled from them",
        "learning_rate: 2.0e-05",
        "2 hours 23 minutes. The whole trip takes 155 minutes",
        "empty answer",
        "no answer",
    ):
        assert expected in text, expected
    assert "not measured" not in text
    assert "not in this run" not in text


def test_cut_prompts_are_shown_on_a_phone_where_there_are_any(run: dict[str, Artifact]) -> None:
    table = tables.benchmarks(Run(run))
    assert table is not None and [head.minor for head in table.columns if head.label == "cut"] == [False]
    results = json.loads(re.sub(r'"truncated": \d+', '"truncated": 0', json.dumps(run["evaluate"].manifest.results)))
    table = tables.benchmarks(Run(with_results(run, "evaluate", results)))
    assert table is not None and [head.minor for head in table.columns if head.label == "cut"] == [True]


def test_sizes_are_of_what_was_trained_on(run: dict[str, Artifact]) -> None:
    """Not of what was handed over; a manifest of dSFT that does not tell its dialogues counts packs, so there curate's are said."""
    results = {k: v for k, v in run["sft"].manifest.results.items() if k != "dialogues"}
    assert "fine-tuned on 163 dialogues" in Reader(render(with_results(run, "sft", results))).text
    alone = Reader(render({"sft": run["sft"], "dpo": run["dpo"]})).text
    assert "fine-tuned on 160 dialogues (dSFT), then aligned with 158 preference pairs (dDPO)." in alone


def test_only_prompts_that_were_compared_are_called_unseen(run: dict[str, Artifact]) -> None:
    results = {**run["evaluate"].manifest.results, "unseen": False}
    text = Reader(render(with_results(run, "evaluate", results))).text
    assert "then measured on test rows." in text and "train split" not in text
    assert Reader(render({"evaluate": run["evaluate"]})).text.count("measured on prompts that are in no train split") == 1


def test_what_two_stages_leave_out_is_not_summed(run: dict[str, Artifact]) -> None:
    text = Reader(render({"reference": run["reference"], "dpo": run["dpo"]})).text
    assert text.count("an answer does not fit into dpo.max_length 4 pairs") == 2
    assert "a row that two stages leave out is counted by both" in text
    table = accounts.dropped(Run({"reference": run["reference"], "dpo": run["dpo"]}), fake_run.ORDER)
    assert table is not None and table.foot == ()


def test_pairs_lead_to_the_evaluation_where_there_are_no_ratings(run: dict[str, Artifact]) -> None:
    def drawn(*stages: str) -> flow.Flow:
        return flow.flow(Run({name: run[name] for name in stages}), fake_run.ORDER)

    own, rated = drawn("binarize", "reference", "dpo", "evaluate"), drawn("rate", "binarize", "reference", "dpo", "evaluate")
    assert {b.stage: b.readers for b in own.boxes}["binarize"] == ("reference", "dpo", "evaluate")
    assert {b.stage: b.readers for b in rated.boxes}["binarize"] == ("reference", "dpo")
    assert {b.stage: b.readers for b in rated.boxes}["rate"] == ("binarize", "evaluate")
    assert own.pairs == flow.Line("preference pairs", 0, (2, 1, 0)) and rated.pairs == flow.Line("preference pairs", 1, (1, 0))


def test_six_curves_each_described(whole: str) -> None:
    pictures = [attrs for tag, attrs in Reader(whole).tags if tag == "svg" and attrs.get("role") == "img"]
    labels = [str(attrs["aria-label"]) for attrs in pictures]
    assert [label.split(" (")[0] for label in labels] == [
        "dSFT loss",
        "dDPO loss",
        "Reward accuracy",
        "Reward margin",
        "Log-probabilities",
        "Likelihood displacement",
    ]
    assert "test from 2.930 to" in labels[0]
    assert "chosen, test from −158.000 to −163.000" in labels[4]


@pytest.mark.parametrize("stages", [s for n in (0, 1, 7) for s in itertools.combinations(fake_run.ORDER, n)])
def test_every_small_and_nearly_whole_subset_renders(run: dict[str, Artifact], stages: tuple[str, ...]) -> None:
    text = Reader(render({name: run[name] for name in stages})).text
    assert text.count("not in this run") == len(fake_run.ORDER) - len(stages)
    if "evaluate" not in stages:
        assert "Nothing was evaluated in this run." in text
        assert "Test loss, nats per token not measured" in text
    assert ("dDPO loss" in text) == ("dpo" in stages)
    assert ("Why both log-probabilities may fall" in text) == ("dpo" in stages)
    assert "Safety was not assessed" in text


def test_feedback_asked_of_live_teachers_is_not_called_replayed(tmp_path: Path) -> None:
    text = Reader(render(fake_run.make(tmp_path, ("complete", "rate", "binarize"), replayed=False))).text
    assert "replayed" not in text


def test_what_teachers_cost_is_shown_with_what_is_not_sure(run: dict[str, Artifact]) -> None:
    bill = {"atlas": {"calls": 1210, "answered": 1200, "prompt_tokens": 54321, "completion_tokens": 98765, "possibly_paid_twice": 7,
                      "usage_not_believed": 0, "spent_usd": 12.345}}  # fmt: skip
    text = Reader(render(with_results(run, "complete", {**run["complete"].manifest.results, "bill": bill}))).text
    assert "What the models were asked" in text and "$12.35" in text and "54,321" in text
    assert "atlas: 7 answers may have been paid for twice" in text and "could not be believed" not in text
    assert "What the models were asked" not in Reader(render(run)).text


def test_only_what_was_replayed_is_called_so(run: dict[str, Artifact]) -> None:
    changed = with_results(run, "rate", {**run["rate"].manifest.results, "replayed": False})
    assert "The answers that the feedback is made of are replayed" in Reader(render(changed)).text


def test_packed_rows_are_called_sequences(run: dict[str, Artifact]) -> None:
    old = run["sft"]
    packed = Artifact(old.path, Manifest(**{**vars(old.manifest), "config": {"sft": {"packing": True}}}))
    said = "The rows out of sft are packed sequences."
    assert said in Reader(render({"sft": packed})).text
    assert said not in Reader(render({"sft": old})).text


def test_notes_of_stages_are_shown_once(run: dict[str, Artifact]) -> None:
    note = "3 prompts lost their beginning <here>."
    changed = {name: Artifact(a.path, Manifest(**{**vars(a.manifest), "notes": [note]})) for name, a in run.items()}
    assert Reader(render(changed)).text.count(note) == 1


def with_objective(run: dict[str, Artifact], **settings: object) -> dict[str, Artifact]:
    old = run["dpo"]
    return {**run, "dpo": Artifact(old.path, Manifest(**{**vars(old.manifest), "config": {"dpo": settings}}))}


def test_the_loss_is_said_in_its_objectives_unit(run: dict[str, Artifact]) -> None:
    for objective, unit in (
        ("dpo", "nats per pair"),
        ("cdpo", "nats per pair"),
        ("ipo", "squared nats per pair"),
        ("simpo", "nats per pair"),
    ):
        text = Reader(render({"dpo": with_objective(run, objective=objective, beta=0.5)["dpo"]})).text
        assert f"dDPO loss {unit} train test" in text
        assert f"Loss: nats per learnt token (dSFT), {unit} (dDPO)." in text


def test_dpo_without_sft_starts_from_the_base(tmp_path: Path) -> None:
    text = render(fake_run.make(tmp_path, ("binarize", "reference", "dpo")))
    assert "<span>base model</span>" in text
    assert "<span>dSFT model</span>" not in text


def test_hostile_text_stays_text(whole: str, run: dict[str, Artifact]) -> None:
    assert html.escape(fake_run.HOSTILE, quote=False).split()[0] in whole
    reader = Reader(whole)
    assert fake_run.HOSTILE in reader.text
    titled = Reader(render({}, title=fake_run.HOSTILE))
    noted = Artifact(
        run["dpo"].path, Manifest(**{**vars(run["dpo"].manifest), "notes": [fake_run.HOSTILE], "config": {"dpo": {"x": fake_run.HOSTILE}}})
    )
    for found in (reader, titled, Reader(render({"dpo": noted}))):
        assert not [tag for tag, _ in found.tags if tag in ("script", "img", "iframe", "object", "link")]
        assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]


def test_names_from_the_run_cannot_become_markup(run: dict[str, Artifact]) -> None:
    results = {"mean_by_model": {"<b>pool</b>": {"mean": 3.0, "overall": 5.0, "n": 2}}, "unparsed": 0}
    text = render(with_results(run, "rate", results))
    assert "&lt;b&gt;pool&lt;/b&gt;" in text
    assert "<b>pool" not in text


def test_nothing_is_loaded_from_outside(whole: str) -> None:
    tags = Reader(whole).tags
    for tag, attrs in tags:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith("#"), f"<{tag} {name}={value}>"
    assert "@import" not in whole
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", whole))
    # what an address may still stand for: the names of XML vocabularies, which nobody loads
    assert set(re.findall(r"https?://[^\s\"'<]+", whole)) <= {"http://www.w3.org/1999/xlink"}
    policy = next(attrs["content"] for tag, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_references_hit(whole: str) -> None:
    tags = Reader(whole).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {str(attrs[name])[1:] for _, attrs in tags for name in ("href", "xlink:href") if name in attrs}
    wanted |= {str(attrs["aria-labelledby"]) for _, attrs in tags if "aria-labelledby" in attrs} | set(
        re.findall(r"url\(#([^)]*)\)", whole)
    )
    assert wanted <= set(ids)


def test_headings_do_not_skip_a_level(whole: str) -> None:
    levels = [int(tag[1]) for tag, _ in Reader(whole).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_same_input_gives_same_bytes(
    run: dict[str, Artifact], whole: str, drawn_once: Callable[[plots.Chart], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "draw", drawn_once)
    assert render(run) == whole


def test_another_process_gives_the_same_bytes(run: dict[str, Artifact], tmp_path: Path) -> None:
    folder = run["dpo"].path.parent
    script = tmp_path / "again.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom zephyr.artifacts import Artifact\nfrom zephyr.report import page\n"
        "order = sys.argv[2].split(',')\n"
        "artifacts = {n: Artifact.open(Path(sys.argv[1]) / n) for n in reversed(order)}\n"
        "sys.stdout.buffer.write(page.render('demo', 't', artifacts, order=order).encode())\n"
    )
    texts = [
        subprocess.run(
            [sys.executable, str(script), str(folder), ",".join(fake_run.ORDER)],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert b"dDPO loss" in texts[0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "text", True])
def test_numbers_that_are_none_never_crash(run: dict[str, Artifact], value: object) -> None:
    def spoil(found: object) -> object:
        if isinstance(found, dict):
            return {k: v if k in ("models", "template", "metric") else spoil(v) for k, v in found.items()}
        return [spoil(v) for v in found] if isinstance(found, list) else value

    spoilt = run
    for stage in ("evaluate", "sft", "dpo", "rate", "binarize"):
        results = spoil(run[stage].manifest.results)
        assert isinstance(results, dict)
        spoilt = with_results(spoilt, stage, results)
    text = Reader(render(spoilt)).text
    assert "nan" not in re.findall(r"[a-z]+", text)
    assert "2.082" not in text
    assert ("not finite" if isinstance(value, float) else "not measured") in text


def test_interval_of_a_single_prompt_is_not_measured(run: dict[str, Artifact]) -> None:
    one = {"accuracy": 1.0, "ci95": [-math.inf, math.inf], "pairs": 6, "prompts": 1}
    text = Reader(render(with_results(run, "evaluate", {"models": ["base", "dsft", "ddpo"], "reward_accuracy": {"ddpo": one}}))).text
    assert "Reward accuracy, dDPO 100.0% 95% not measured; 6 pairs of 1 prompts" in text
    assert "nothing can be said about chance" in text


def test_loss_that_rose_is_said_to_have_risen(run: dict[str, Artifact]) -> None:
    nll = {"base": {"nll_per_token": 2.0}, "dsft": {"nll_per_token": 2.5}}
    text = Reader(render(with_results(run, "evaluate", {"models": ["base", "dsft"], "nll": nll}))).text
    assert "The test loss rose from 2.000 (base) to 2.500 (dSFT) nats a token." in text
    assert "Reward accuracy not measured" in text


def test_interval_around_one_half_is_called_chance(run: dict[str, Artifact]) -> None:
    one = {"accuracy": 0.53, "ci95": [0.46, 0.6], "pairs": 233, "prompts": 40}
    text = Reader(render(with_results(run, "evaluate", {"models": ["ddpo"], "reward_accuracy": {"ddpo": one}}))).text
    assert "the interval includes one half, which is chance" in text
