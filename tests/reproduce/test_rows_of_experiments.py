"""Which rows are learnt and which are measured on, in the shipped texts and in a folder that has everything that real ones have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.errors import DataError, UsageError
from zephyr.records import content_id
from zephyr.reproduce import data, preset, scores, shapes
from zephyr.reproduce.preset import DataConfig

FRAME = "Below is an instruction.\n\n### Instruction:\n{}\n\n### Response:\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows with ties, twins, empty texts, and prompts that are in a test set."""
    pairs: list[dict[str, Any]] = [
        {"prompt": f"Pair {i}?", "chosen": f"Good {i}.", "rejected": f"Bad {i}.", "score_chosen": 8.0, "score_rejected": 4.0}
        for i in range(30)
    ]
    pairs += [
        {**pairs[0], "prompt": "Tie?", "score_rejected": 8.0},
        {**pairs[0], "prompt": "Reversed?", "score_rejected": 9.0},
        {**pairs[0], "prompt": "Same?", "rejected": "Good 0. "},
        {**pairs[0], "prompt": "Empty?", "rejected": " "},
        {**pairs[0], "prompt": "  PAIR 3? "},
        {**pairs[0], "prompt": "Long? " * 30},
    ]
    alpaca = [{"instruction": f"Do {i}.", "input": "it" if i % 2 else "", "output": f"Done {i}."} for i in range(20)]
    # prompts of both held-out sets stand among the dialogues
    leaking = [
        {"instruction": f"{what} {i}?", "input": "", "output": f"Tested {what} {i}."}
        for what, n in (("Ask", 6), ("Pair", 10))
        for i in range(n)
    ]
    verdicts = [
        {"instruction": f"Ask {i}?", "output": f"{word} {i} {k}.", "gpt4_pref_vs_davinci003": verdict}
        for i in range(6)
        for k, (word, verdict) in enumerate([("Won", 1), ("Lost", 0), ("Drawn", 0.5), ("Unjudged", None), ("Also lost", 0)])
    ]
    verdicts += [{"instruction": "Only lost?", "output": "No.", "gpt4_pref_vs_davinci003": 0}]
    files = {
        "text/public_domain_books": [{"text": "Once upon a time. " * 20}],
        "sft/alpaca_en_demo": [*alpaca, *leaking, {"instruction": "Nothing", "output": ""}],
        "sft/dolly_hhrlhf_train_small": [{"prompt": FRAME.format(f"Say {i}."), "response": f"Said {i}."} for i in range(10)],
        "feedback/ultrafeedback_binarized_1k": pairs,
        "feedback/alpaca_eval_feedback": verdicts,
    }
    for name, rows in files.items():
        small.write_lines(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def config(**changes: Any) -> DataConfig:
    values = {"source": "folder", "test_dialogues": 6, "train_pairs": 15, "test_pairs": 10, "other_pairs": 5, "characters": 100}
    return DataConfig(**{**values, **changes})


def gathered(folder: Path, **changes: Any) -> data.Rows:
    settings = config(**changes)
    return data.gathered(settings, data.inputs(settings, folder))


def prompts(records: Any) -> set[str]:
    return {content_id(record.prompt) for record in records}


def test_no_prompt_is_learnt_and_measured_on_and_what_is_left_out_is_counted(folder: Path) -> None:
    rows = gathered(folder)
    tested = prompts([*rows.dialogues["test"], *rows.pairs["test"], *rows.other])
    assert not tested & prompts([*rows.dialogues["train"], *rows.pairs["train"]])
    assert [len(rows.pairs[s]) for s in ("train", "test")] == [15, 10]
    assert (len(rows.dialogues["test"]), len(rows.other)) == (6, 5)
    assert rows.left_out["pair: the scores tie"] == rows.left_out["pair: the rejected answer has the higher score"] == 1
    assert rows.left_out["pair: both answers are the same"] == rows.left_out["pair: a text is empty"] == 1
    assert rows.left_out["pair: its prompt was there before"] == 1
    assert rows.left_out["pair: prompt and answer have more than 100 characters"] == 1
    longest = [max(len(p.prompt) + len(a[-1]["content"]) for a in (p.chosen, p.rejected)) for split in rows.pairs.values() for p in split]
    assert min(longest) < 20 and gathered(folder, characters=max(longest)).pairs == rows.pairs
    with pytest.raises(DataError, match="0 pairs to learn"):  # each has a longer answer or prompt
        gathered(folder, characters=min(longest) - 1)
    assert rows.left_out["dialogue: a text is empty"] == 1
    spoken = len(rows.dialogues["train"]) + len(rows.dialogues["test"])
    assert rows.left_out["dialogue: its prompt is in a test set"] == 46 - spoken > 4
    assert {pair.score_chosen for pair in rows.pairs["test"]} == {8.0}


def test_shapes_become_dialogues_and_pairs(folder: Path) -> None:
    rows = gathered(folder)
    spoken = {d.messages[0]["content"]: d.messages[1]["content"] for split in rows.dialogues.values() for d in split}
    assert spoken["Do 2."] == "Done 2." and spoken["Do 1.\n\nit"] == "Done 1." and spoken["Say 3."] == "Said 3."
    for pair in rows.other:
        assert pair.chosen[-1]["content"].startswith("Won")
        assert "lost" in pair.rejected[-1]["content"].lower()


def test_the_base_reads_nothing_that_is_measured_on_and_no_answer_after_its_question(folder: Path) -> None:
    rows = gathered(folder)
    read = "\n".join(rows.text)
    assert rows.text[0].startswith("Once upon a time.")
    assert all(d.messages[1]["content"] in read for d in rows.dialogues["train"])
    assert not any(d.messages[1]["content"] in read.split("\n\n") for d in rows.dialogues["test"])
    answered = sum(f"{d.messages[0]['content']}\n\n{d.messages[1]['content']}" in read for d in rows.dialogues["train"])
    assert answered <= 2  # by chance
    assert "Good" not in read and "<|" not in read


def test_settings_are_tried_on_rows_that_are_not_measured_on(folder: Path) -> None:
    real, tried = gathered(folder), gathered(folder, validation=True)
    assert not prompts([*tried.dialogues["test"], *tried.pairs["test"]]) & prompts(
        [*real.dialogues["test"], *real.pairs["test"], *real.other]
    )
    assert prompts(tried.pairs["test"]) | prompts(tried.pairs["train"]) == prompts(real.pairs["train"])
    assert tried.text == real.text and not tried.other


def test_the_order_of_a_file_changes_nothing(folder: Path) -> None:
    before = gathered(folder)
    for path in folder.rglob("*.jsonl"):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    after = gathered(folder)
    for name in ("train", "test"):
        assert prompts(before.pairs[name]) - {content_id("Pair 3?")} == prompts(after.pairs[name]) - {content_id("Pair 3?")}
        assert prompts(before.dialogues[name]) == prompts(after.dialogues[name])


def test_few_pairs_are_shared_between_learning_and_measuring_and_too_few_are_refused(folder: Path) -> None:
    rows = gathered(folder, train_pairs=1000, test_pairs=1000)
    assert [len(rows.pairs[s]) for s in ("train", "test")] == [20, 10]
    (folder / "feedback" / "ultrafeedback_binarized_1k.jsonl").write_text("")
    with pytest.raises(DataError, match=r"too few rows: 0 pairs to learn of 0 prompts, 0 held-out pairs of 0 prompts"):
        gathered(folder)


def test_prompts_are_counted_not_rows(folder: Path) -> None:
    settings = preset.load("demo", ["data.test_pairs=3"]).data  # three pairs of answers to one prompt
    with pytest.raises(DataError, match=r"too few rows: 3 held-out pairs of 1 prompt, and each part takes 2 prompts"):
        data.gathered(settings, data.inputs(settings, None))
    with pytest.raises(DataError, match=r"too few rows: 1 AlpacaEval pairs of 1 prompt,"):
        gathered(folder, other_pairs=1)
    with pytest.raises(UsageError, match=r"sampling\.prompts: input should be greater than or equal to 2"):
        preset.load("demo", ["sampling.prompts=1"])


def test_what_does_not_fit_is_missed_once_the_base_was_measured() -> None:
    row = {"set": "ultrafeedback", "prompt_id": "p0"}
    few = scores.Scores([row, row], [{"prompt_id": "p0"}, {"prompt_id": "p1"}], [{"prompt_id": "p0"}, {"prompt_id": "p1"}])
    with pytest.raises(DataError, match=r"\(ultrafeedback: 1; alpaca_eval: 0\), and each measure takes 2 .* 7 \(too long\)"):
        scores.enough(few, ["ultrafeedback", "alpaca_eval"], {"too long": 7})
    scores.enough(scores.Scores([row, {**row, "prompt_id": "p1"}], few.dialogues, few.samples), ["ultrafeedback"], {})


def test_a_missing_file_and_a_wrong_row_are_named(folder: Path) -> None:
    small.write_lines(folder / "sft" / "dolly_hhrlhf_train_small.jsonl", [{"prompt": "Bare?", "response": "Yes."}])
    with pytest.raises(DataError, match=r"dolly_hhrlhf_train_small\.jsonl:1: `prompt` is not in Alpaca's template"):
        gathered(folder)
    (folder / "sft" / "alpaca_en_demo.jsonl").unlink()
    with pytest.raises(UsageError, match=r"sft/alpaca_en_demo\.jsonl\.gz is missing \(instructions and answers"):
        shapes.files_in(folder)


def test_the_shipped_texts_make_an_experiment() -> None:
    settings = preset.load("demo").data
    rows = data.gathered(settings, data.inputs(settings, None))
    assert [len(rows.dialogues[s]) for s in ("train", "test")] == [160, 40]
    assert len(rows.pairs["train"]) == 160 and 200 <= len(rows.pairs["test"]) <= 240
    assert len(prompts(rows.pairs["test"])) == 40
    assert not prompts(rows.pairs["train"]) & prompts(rows.pairs["test"])


def test_real_rows_make_an_experiment(shared: Path) -> None:
    settings = preset.load("small").data
    rows = data.gathered(settings, data.inputs(settings, shared / "data"))
    assert [len(rows.pairs[s]) for s in ("train", "test")] == [settings.train_pairs, settings.test_pairs]
    assert len(rows.other) == settings.other_pairs and len(rows.dialogues["train"]) > 1500
    assert rows.left_out["pair: the scores tie"] > 0
    assert rows.left_out["pair: prompt and answer have more than 3,000 characters"] > 0
    assert not prompts([*rows.dialogues["train"], *rows.pairs["train"]]) & prompts(
        [*rows.dialogues["test"], *rows.pairs["test"], *rows.other]
    )
