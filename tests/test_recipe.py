"""A recipe that is wrong is refused in one line: what, where, what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from zephyr.errors import UsageError
from zephyr.recipe import Recipe, load

BASE = "name: a\nmodel:\n  path: m\n"
FULL = BASE + "curate:\n  data: [a.jsonl]\nsft:\n  epochs: 1\n"  # what a case appends stands on line 8
POOL = (
    BASE
    + "complete:\n  prompts: [a.jsonl]\n  models_per_prompt: 2\n  pool:\n    x: {kind: replay, path: a}\n    y:\n      kind: local\n      path: a\n"
)


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "my.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def refused(file: Path, *overrides: str) -> str:
    """The message, which must be one line, with the folder of the test taken off."""
    with pytest.raises(UsageError) as caught:
        load(file, overrides)
    message = str(caught.value).replace(f"{file.parent}/", "")
    assert "\n" not in message
    return message


WRONG = {
    "unknown section": (BASE + "trian:\n  dtype: auto\n", "trian: unknown key; did you mean train? (my.yaml, line 4)"),
    "unknown key": (FULL + "  learning_rat: 1e-5\n", "sft.learning_rat: unknown key; did you mean learning_rate? (my.yaml, line 8)"),
    "unknown key of a source": (
        BASE + "curate:\n  data:\n    - path: a\n      colums: {a: b}\n",
        "curate.data[0].colums: unknown key; did you mean columns? (my.yaml, line 7)",
    ),
    "unknown key of a pool teacher": (
        POOL + "      temprature: 1\n",
        "complete.pool.y.temprature: unknown key; did you mean temperature? (my.yaml, line 12)",
    ),
    "unknown benchmark": (
        BASE + "evaluate:\n  benchmarks:\n    helaswag: x\n",
        "evaluate.benchmarks.helaswag: input should be 'arc_challenge', 'hellaswag', 'mmlu' or 'truthfulqa', got 'helaswag' (my.yaml, line 6)",
    ),
    "a number as a switch": (FULL + "  packing: 3\n", "sft.packing: is 3; true or false belongs here (my.yaml, line 8)"),
    "a switch as a number": (FULL + "  max_length: true\n", "sft.max_length: is True; a whole number belongs here (my.yaml, line 8)"),
    "a fraction as a count": (FULL + "  max_length: 10.5\n", "sft.max_length: is 10.5; a whole number belongs here (my.yaml, line 8)"),
    "a word as a count": (
        FULL + "  max_length: many\n",
        "sft.max_length: is the text 'many'; write a whole number without quotes (my.yaml, line 8)",
    ),
    "a word as a switch": (
        FULL + '  packing: "true"\n',
        "sft.packing: is the text 'true'; write true or false without quotes (my.yaml, line 8)",
    ),
    "a number as a text": ("name: 3\nmodel: {path: m}\n", "name: is 3, not a text; put it in quotes (my.yaml, line 1)"),
    "a day as a text": ("name: 2020-01-02\nmodel: {path: m}\n", "name: is 2020-01-02, not a text; put it in quotes (my.yaml, line 1)"),
    "a list as a text": (BASE + "out: [a]\n", "out: is ['a']; a text belongs here (my.yaml, line 4)"),
    "nothing as a text": ("name:\nmodel: {path: m}\n", "name: is empty; a text belongs here (my.yaml, line 1)"),
    "nothing as a number": (FULL + "  learning_rate:\n", "sft.learning_rate: is empty; a number belongs here (my.yaml, line 8)"),
    "a text as a list": (BASE + "curate:\n  data: a.jsonl\n", "curate.data: is 'a.jsonl'; a list belongs here (my.yaml, line 5)"),
    "a list as a pool": (
        POOL.partition("    x:")[0] + "    [x, y]\n",
        "complete.pool: is ['x', 'y']; a section with keys of its own belongs here (my.yaml, line 7)",
    ),
    "a pool teacher that is empty": (
        POOL.partition("    y:")[0] + "    y:\n",
        "complete.pool.y: is empty; a section with keys of its own belongs here (my.yaml, line 9)",
    ),
    "a zero in front": (
        FULL + "  max_length: 0100\n",
        "sft.max_length: is the text '0100'; write a whole number without quotes (my.yaml, line 8)",
    ),
    "minutes and seconds": (
        FULL + "  max_length: 1:30\n",
        "sft.max_length: is the text '1:30'; write a whole number without quotes (my.yaml, line 8)",
    ),
    "too many digits": (BASE + f"seed: {'9' * 5000}\n", f"my.yaml, line 4: '{'9' * 76}... cannot be read as what it looks like; quote it"),
    "a quoted number": (
        FULL + '  learning_rate: "5e-7"\n',
        "sft.learning_rate: is the text '5e-7'; write a number without quotes (my.yaml, line 8)",
    ),
    "a text as a section": (BASE + "sft: hello\n", "sft: is 'hello'; a section with keys of its own belongs here (my.yaml, line 4)"),
    "a section left empty": (
        BASE + "evaluate:\n  # samples: 3\n",
        "evaluate: is empty; write `evaluate: {}` for its defaults, or take it out (`evaluate: null` switches it off) (my.yaml, line 4)",
    ),
    "adapters left empty": (
        FULL + "  lora:\n    # rank: 8\n",
        "sft.lora: is empty; write `lora: {}` for its defaults, or take it out (`lora: null` switches it off) (my.yaml, line 8)",
    ),
    "a section left empty that has no defaults": (
        BASE + "rate:\n",
        "rate: is empty; write its keys below it, or take it out (`rate: null` switches it off) (my.yaml, line 4)",
    ),
    "a template itself": (
        BASE + '  chat_template: "{{ bos_token }}{% for message in messages %}{% endfor %}"\n',
        "model.chat_template: a template itself was given; write it into a file and name that, or `zephyr` / `tokenizer` (my.yaml, line 4)",
    ),
    "a template itself, of a teacher": (
        POOL + "      chat_template: |\n        {{ messages }}\n",
        "complete.pool.y.chat_template: a template itself was given; write it into a file and name that, or `zephyr` / `tokenizer` "
        "(my.yaml, line 12)",
    ),
    "a list as a section": (BASE + "train: [1]\n", "train: is [1]; a section with keys of its own belongs here (my.yaml, line 4)"),
    "nan": (FULL + "  learning_rate: .nan\n", "sft.learning_rate: is nan; a finite number is needed (my.yaml, line 8)"),
    "infinite": (FULL + "  learning_rate: .inf\n", "sft.learning_rate: is inf; a finite number is needed (my.yaml, line 8)"),
    "too large for a float": (FULL + "  learning_rate: 1e999\n", "sft.learning_rate: is inf; a finite number is needed (my.yaml, line 8)"),
    "out of range": (
        FULL + "  warmup_ratio: 1.5\n",
        "sft.warmup_ratio: input should be less than or equal to 1, got 1.5 (my.yaml, line 8)",
    ),
    "given twice": (FULL + "  epochs: 2\n", "sft.epochs: given twice (my.yaml, lines 7 and 8); keep one"),
    "section given twice": (FULL + "model:\n  path: b\n", "model: given twice (my.yaml, lines 2 and 8); keep one"),
    "no model": ("name: a\n", "model: is required and not there (my.yaml, line 1)"),
    "empty path": ("name: a\nmodel:\n  path: ''\n", "model.path: string should have at least 1 character, got '' (my.yaml, line 3)"),
    "a pool too small": (
        POOL.replace("prompt: 2", "prompt: 4"),
        "complete: models_per_prompt is 4, but the pool has 2 models (my.yaml, line 4)",
    ),
    "a key that is a number": (BASE + "3: x\n", "my.yaml, line 4: the key 3 is not a text; put it in quotes"),
    "merge key": ("name: a\nmodel:\n  <<: {path: m}\n", "my.yaml, line 3: merge keys (`<<`) are not read; write the keys out"),
    "no such day": ("name: 2020-13-41\n", "my.yaml, line 1: '2020-13-41' cannot be read as what it looks like; quote it"),
    "a tag that is a lie": (BASE + "seed: !!int abc\n", "my.yaml, line 4: 'abc' cannot be read as what it looks like; quote it"),
    "an object of Python": (
        BASE + "seed: !!python/name:os.getcwd\n",
        "my.yaml, line 4: not valid YAML (could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.getcwd')",
    ),
    "a control character": ("name: a\nout: b\x07\n", "my.yaml, line 2: the character '\\x07' is not allowed in YAML; remove it"),
    "a bracket left open": (
        "name: [a\n",
        "my.yaml, line 2: not valid YAML (while parsing a flow sequence, expected ',' or ']', but got '<stream end>')",
    ),
    "a tab": (
        "name: a\n\tmodel: b\n",
        "my.yaml, line 2: not valid YAML (while scanning for the next token, found character '\\t' that cannot start any token)",
    ),
    "two documents": (
        BASE + "---\nname: b\n",
        "my.yaml, line 4: not valid YAML (expected a single document in the stream, but found another document)",
    ),
    "an alias that holds itself": (
        "name: a\nmodel: &m {path: m, revision: *m}\n",
        "my.yaml: nested too deep, or an alias that holds itself; a recipe is sections of keys",
    ),
    "nested too deep": (
        "name: " + "[" * 1000 + "]" * 1000,
        "my.yaml: nested too deep, or an alias that holds itself; a recipe is sections of keys",
    ),
    "not UTF-8": (b"name: \xff\n", "my.yaml: not UTF-8 text (byte 6); save it as UTF-8"),
    **{
        what: (text, "my.yaml: a mapping of sections was expected; `zephyr init` writes an example")
        for what, text in {"empty": "", "only a comment": "# a\n", "a list": "- a\n- b\n", "one word": "hello\n"}.items()
    },
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    text, message = WRONG[case]
    assert refused(write(tmp_path, text)) == message


def test_an_unknown_key_like_no_other_is_answered_with_all_of_them(tmp_path: Path) -> None:
    message = refused(write(tmp_path, FULL + "  zzzzz: 1\n"))
    assert re.fullmatch(r"sft\.zzzzz: unknown key; known keys: .*\bepochs, learning_rate\b.* \(my\.yaml, line 8\)", message)


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, FULL + "  learning_rat: 1\n  packing: 3\n"))
    assert sorted(re.sub(r" .*\(.*, ", " (", line) for line in str(caught.value).splitlines()) == [
        "sft.learning_rat: (line 8)",
        "sft.packing: (line 9)",
    ]


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    message = refused(write(tmp_path, BASE + f"train: [{'x' * 5000}]\n"))
    assert len(message) < 200
    assert message.endswith("a section with keys of its own belongs here (my.yaml, line 4)")


UNREAD = {
    "label_smoothing: 0.2": "dpo.label_smoothing: objective dpo does not read it; take it out, or set objective: cdpo",
    "objective: ipo\n  gamma: 0.5": "dpo.gamma: objective ipo does not read it; take it out, or set objective: simpo",
    "gamma: 0.7\n  objective: cdpo": "dpo.gamma: objective cdpo does not read it; take it out, or set objective: simpo",
}


@pytest.mark.parametrize("settings", UNREAD)
def test_a_setting_that_the_objective_does_not_read_is_refused_at_its_line(tmp_path: Path, settings: str) -> None:
    text = f"{BASE}binarize:\n  data: [a.jsonl]\ndpo:\n  {settings}\n"
    line = text[: text.index(UNREAD[settings].partition(":")[0].removeprefix("dpo."))].count("\n") + 1
    assert refused(write(tmp_path, text)) == f"{UNREAD[settings]} (my.yaml, line {line})"


def test_only_what_the_objective_reads_is_part_of_its_settings(tmp_path: Path) -> None:
    file = write(tmp_path, f"{BASE}binarize:\n  data: [a.jsonl]\ndpo: {{}}\n")
    for settings, read in {"dpo": {}, "ipo": {}, "cdpo": {"label_smoothing": 0.1}, "simpo": {"gamma": 0.5}}.items():
        recipe = load(file, [f"dpo.objective={settings}"])
        assert recipe.dpo is not None
        dumped = recipe.dpo.model_dump()
        assert {key: dumped[key] for key in ("label_smoothing", "gamma") if key in dumped} == read
        assert dumped["beta"] == 0.1 and dumped["objective"] == settings


LONELY = {
    "sft: {}": "sft: there is no `curate` section to give it dialogues",
    "rate: {teacher: {kind: replay, path: x}}": "rate: needs a `complete` section, or `data` with answers",
    "binarize: {}": "binarize: needs a `rate` section, or `data` with ratings or pairs",
    "dpo: {}": "dpo: there is no `binarize` section to give it preferences",
}


@pytest.mark.parametrize("section", LONELY)
def test_a_section_without_what_it_needs_is_refused_at_its_line(tmp_path: Path, section: str) -> None:
    assert refused(write(tmp_path, f"{BASE}{section}\n")) == f"{LONELY[section]} (my.yaml, line 4)"


RATE = "rate:\n  teacher: {kind: replay, path: a}\n"
UNUSED = {
    POOL
    + RATE
    + "  data: [b.jsonl]\n": "complete: its answers would not be rated, for `rate.data` is given; take one of the two out (my.yaml, line 4)",
    POOL + RATE + "binarize:\n  data: [b.jsonl]\n": (
        "rate: its ratings would not be trained on, for `binarize.data` is given; take one of the two out (my.yaml, line 12)"
    ),
}


@pytest.mark.parametrize("text", UNUSED)
def test_nothing_is_collected_that_would_not_be_used(tmp_path: Path, text: str) -> None:
    assert refused(write(tmp_path, text)) == UNUSED[text]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.yaml") == "no.yaml: no such recipe; `zephyr init` writes one"
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path / "folder") == "folder: is a folder; a recipe is a YAML file"
    file = write(tmp_path, BASE)
    with pytest.raises(UsageError, match=r"my\.yaml/x: cannot be read \(Not a directory\)"):
        load(file / "x")


@pytest.mark.parametrize("number", ["5e-7", "5E-7", "+5e-7", "5.e-7", "0.5e-6", ".0000005"])
def test_a_number_without_quotes_is_a_number(tmp_path: Path, number: str) -> None:
    recipe = load(write(tmp_path, FULL + f"  learning_rate: {number}\n"))
    assert recipe.sft is not None
    assert recipe.sft.learning_rate == 5e-7


def test_a_section_of_null_does_not_run(tmp_path: Path) -> None:
    plain = Recipe.model_validate({"name": "a", "model": {"path": "m"}})
    for nothing in ("null", "~"):
        assert load(write(tmp_path, f"{BASE}evaluate: {nothing}\n")) == plain
    assert load(write(tmp_path, BASE + "evaluate:\n"), ["evaluate=null"]) == plain
    assert load(write(tmp_path, BASE + "evaluate:\n"), ["evaluate.samples=1"]).evaluate is not None


@pytest.mark.parametrize("section", ["train", "report"])
def test_a_section_that_is_always_there_may_be_left_empty(tmp_path: Path, section: str) -> None:
    plain = load(write(tmp_path, BASE))
    assert load(write(tmp_path, f"{BASE}{section}:\n")) == load(write(tmp_path, f"{BASE}{section}: null\n")) == plain
    assert load(write(tmp_path, f"{BASE}{section}:\n"), ["train.dtype=float32"]).train.dtype == "float32"


def test_a_source_says_which_of_its_rows_are_used(tmp_path: Path) -> None:
    text = "{path: o/d, split: train, source_split: train_sft, subset: en, revision: abc, columns: {prompt: q}, weight: 0.25}"
    recipe = load(write(tmp_path, f"{BASE}curate:\n  data: [a.jsonl, {text}]\n"))
    assert recipe.curate is not None
    plain, mixed = recipe.curate.data
    assert (mixed.source_split, mixed.subset, mixed.revision, mixed.weight) == ("train_sft", "en", "abc", 0.25)
    assert plain.chosen() == [None, {}], "a key made before there was more to choose stays what it was"
    assert mixed.chosen() == ["train", {"prompt": "q"}, {"source_split": "train_sft", "subset": "en", "weight": 0.25}]


@pytest.mark.parametrize("weight", ["0", "-0.5", "1.01", "2"])
def test_a_weight_is_a_share(tmp_path: Path, weight: str) -> None:
    message = refused(write(tmp_path, f"{BASE}curate:\n  data:\n    - path: a\n      weight: {weight}\n"))
    assert message.startswith("curate.data[0].weight: input should be ") and message.endswith(f"got {weight} (my.yaml, line 7)")


# --- overrides -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("override", ["a", "=3", "sft.=3", "sft..x=1", ".a=1", ""])
def test_an_override_has_a_key_and_a_value(tmp_path: Path, override: str) -> None:
    assert refused(write(tmp_path, FULL), override) == f"{override!r}: an override is written section.key=value"


WRONG_OVERRIDES = {
    "sft.learning_rat=1": "sft.learning_rat: unknown key; did you mean learning_rate? (command line)",
    "trian.dtype=float32": "trian: unknown key; did you mean train? (command line)",
    "learning_rate=1": "learning_rate: unknown key; did you mean sft.learning_rate or dpo.learning_rate? (command line)",
    "sft.beta=1": "sft.beta: unknown key; did you mean dpo.beta? (command line)",
    "sft.bs=1": "sft.bs: unknown key; did you mean batch_size? (command line)",
    "sft.seed=3": "sft.seed: unknown key; did you mean seed? (command line)",
    "dpo.path=x": "dpo.path: unknown key; did you mean model.path? (command line)",
    "sft.learning_rate='3e-5'": "sft.learning_rate: is the text '3e-5'; write a number without quotes (command line)",
    "sft.epochs=0": "sft.epochs: input should be greater than or equal to 1, got 0 (command line)",
    "sft.epochs=1=2": "sft.epochs: is the text '1=2'; write a whole number without quotes (command line)",
    "name.x=1": "'name.x=1': name is not a section",
    "model.path.x=1": "'model.path.x=1': model.path is not a section",
    "curate.data.0.path=x": "'curate.data.0.path=x': curate.data is not a section",
    "sft.epochs=[": "override 'sft.epochs=[', line 1: not valid YAML (while parsing a flow node, expected the node content, but found '<stream end>')",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_a_wrong_override_is_named_as_the_command_lines(tmp_path: Path, override: str) -> None:
    assert refused(write(tmp_path, FULL), override) == WRONG_OVERRIDES[override]


def test_a_mistake_of_the_file_keeps_its_line_beside_an_override(tmp_path: Path) -> None:
    message = refused(write(tmp_path, FULL + "  packing: 3\n"), "sft.epochs=2")
    assert message == "sft.packing: is 3; true or false belongs here (my.yaml, line 8)"


def test_overrides_set_one_key_and_the_last_one_wins(tmp_path: Path) -> None:
    recipe = load(
        write(tmp_path, FULL), ["sft.learning_rate=3e-5", " sft.epochs =2", "sft.epochs=3", "evaluate.samples=1", "curate.data=[b, c]"]
    )
    assert recipe.sft is not None and recipe.evaluate is not None and recipe.curate is not None
    assert (recipe.sft.learning_rate, recipe.sft.epochs, recipe.evaluate.samples) == (3e-5, 3, 1)
    assert [source.path for source in recipe.curate.data] == ["b", "c"]
    assert load(write(tmp_path, FULL), ["sft="]).sft is None


# --- teachers behind servers -------------------------------------------------------------------------------------


def teacher_problem(folder: Path, **settings: Any) -> str:
    teacher = {"kind": "api", "base_url": "http://h/v1", "model": "m", **settings}
    values = {"name": "x", "model": {"path": "m"}, "rate": {"teacher": teacher, "data": ["d.jsonl"]}}
    path = folder / "r.yaml"
    path.write_text(json.dumps(values))
    try:
        load(path)
    except UsageError as error:
        return str(error)
    return ""


def test_what_a_teacher_may_be_told(tmp_path: Path) -> None:
    assert teacher_problem(tmp_path) == ""
    assert (
        teacher_problem(tmp_path, extra={"chat_template_kwargs": {"enable_thinking": False}, "stop": ["a"]}, top_p=None, temperature=None)
        == ""
    )
    assert "top_p is set by zephyr" in teacher_problem(tmp_path, extra={"top_p": 0.5})
    assert "max_new_tokens is set by zephyr" in teacher_problem(tmp_path, extra={"max_new_tokens": 4096})
    for wrong in (
        {"extra": {"api_key": "sk-canary"}},
        {"key_env": "sk-canary"},
        {"base_url": "http://u:canary@h"},
        {"api_key": "sk-canary"},
    ):
        problem = teacher_problem(tmp_path, **wrong)
        assert problem and "canary" not in problem, problem
    assert "kind: 'openai' is not known; known are replay, local, api" in teacher_problem(tmp_path, kind="openai")
