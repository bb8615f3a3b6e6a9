"""The appendix's prompts, answered by dSFT, by dDPO, and by dDPO without dSFT, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.artifacts import Artifact, Draft
from zephyr.models.load import ModelRef
from zephyr.progress import bar
from zephyr.recipe import ModelConfig, Section
from zephyr.records import Message
from zephyr.reproduce import paper
from zephyr.reproduce.evidence import Evidence
from zephyr.reproduce.experiment import Experiment
from zephyr.reproduce.graph import EXPERIMENTS
from zephyr.reproduce.scores import runs_on
from zephyr.reproduce.work import Own

VERSION = 1
TEMPERATURE, TOP_P = 0.7, 0.95  # the appendix


class Config(Section):
    """What the answers depend on, beside the models."""

    seed: int
    prompts: list[list[str]]
    max_new_tokens: int


def of(experiment: Experiment, evidence: Evidence) -> dict[str, Any]:
    """The answers of the first seed's models."""
    seed = evidence.seeds[0]
    own, config = step(experiment, seed)
    own.make(lambda made, out: run(config, made.inputs.models, out))
    return {
        "models": list(own.models),
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "seed": seed,
        "answers": _answers(experiment.out / "samples"),
    }


def step(experiment: Experiment, seed: int) -> tuple[Own, Config]:
    """The answers as a step, and its settings."""
    config = Config(seed=seed, prompts=[list(turns) for turns in paper.PROMPTS], max_new_tokens=experiment.preset.sampling.max_new_tokens)
    models = {
        model.name: ModelConfig(path=experiment.made(model, seed).path, chat_template="tokenizer") for model in EXPERIMENTS["samples"]
    }
    return Own("samples", VERSION, config, experiment.out / "samples", {}, models), config


def _answers(folder: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in Artifact.open(folder).rows("answers")]


def run(config: Config, models: Mapping[str, ModelRef], out: Draft) -> None:
    """Let each model answer every prompt; a second turn follows the model's own first answer."""
    rows = []
    with bar("samples", sum(map(len, config.prompts)) * len(models), "answers") as progress:
        for name, ref in models.items():
            for row in _of_model(config, ref):
                rows.append({"model": name, **row})
                progress.advance()
    order = {prompt: i for i, turns in enumerate(config.prompts) for prompt in turns}
    out.write_rows("answers", sorted(rows, key=lambda row: (order[row["prompt"]], row["turn"])))


def _of_model(config: Config, ref: ModelRef) -> list[dict[str, Any]]:
    from zephyr.models import load
    from zephyr.models.generate import generate, too_long

    chat = load.load_chat(ref, "tokenizer")
    model = load.load_model(ref, chat)
    load.ready_to_generate(model)
    said: dict[int, list[Message]] = {i: [] for i in range(len(config.prompts))}
    rows: list[dict[str, Any]] = []
    for turn in range(max(map(len, config.prompts))):
        asked: dict[int, Sequence[Message]] = {}
        for i, turns in enumerate(config.prompts):
            if turn < len(turns) and (turn == 0 or said[i]):
                messages: list[Message] = [*said[i], {"role": "user", "content": turns[turn]}]
                if too_long(model, chat.encode_prompt(messages)) is None:
                    asked[i] = messages
        names = [f"appendix {i}, turn {turn}" for i in asked]
        found = generate(
            model, chat, list(asked.values()), names=names,
            max_new_tokens=config.max_new_tokens, temperature=TEMPERATURE, top_p=TOP_P, seed=config.seed,
        )  # fmt: skip
        for at, answer in sorted(found):
            i = list(asked)[at]
            rows.append({
                "prompt": config.prompts[i][turn], "turn": turn + 1, "text": answer.text, "tokens": answer.tokens,
                "ended": answer.ended, "role_token": runs_on(answer.text),
            })  # fmt: skip
            # a conversation cannot go on from an answer that says nothing, or that speaks for others
            ok = bool(answer.text) and not runs_on(answer.text)
            said[i] = [*asked[i], {"role": "assistant", "content": answer.text}] if ok else []
    return rows
