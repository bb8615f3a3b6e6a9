"""What a different setting does to the cost of a run, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zephyr.recipe import LoRAConfig, Recipe, ShapeConfig
from zephyr.recipe.training import number_of_looks
from zephyr.recipes.flat import THERE
from zephyr.recipes.volume import TRAINED_BYTES, adapter_weights, volumes

# what changes the result and not the work
FREE = {
    "seed", "learning_rate", "schedule", "warmup_ratio", "max_grad_norm", "weight_decay", "adam_betas", "adam_epsilon", "beta",
    "label_smoothing", "gamma", "alpha", "dropout", "rejected", "score", "temperature", "top_p", "title", "chat_template",
    "revision", "trust_remote_code", "compatible",
}  # fmt: skip
# what is inside has the name that a recipe gives it, which may be that of a setting
NAMED = ("benchmarks.", "complete.pool.", "evaluate.preferences.sets.", "judge.endpoints.")


def cost_of(path: str, before: Any, after: Any, a: Recipe, b: Recipe) -> str:
    """In words, "" where nothing general can be said.

    Args:
        path: of the setting that differs.
        before: its value in `a`.
        after: its value in `b`.
        a: a recipe.
        b: another.
    """
    stage, name = path.split(".")[0].split("[")[0], path.split(".")[-1]
    if path == stage and None in (before, after):
        return f"the stage {stage} {'is run' if before is None else 'is not run'}" if path != "budget" else ""
    if path.startswith(NAMED) and not path.endswith(".prices") and None in (before, after) and THERE in (before, after):
        return f"answers and verdicts of one model {'more' if before is None else 'less'}" if path.startswith("judge.") else ""
    if name == "lora" and stage in ("sft", "dpo"):
        return _adapters(stage, a, b)
    if ".lora." in path:
        return _adapters(stage, a, b) if name in ("rank", "target_modules") else _QUANTIZED if name == "quantize" else "nothing"
    if name in FREE:
        return "nothing"
    if name == "evaluate_every":
        return _looks(stage, before, after, a)
    if name == "test_fraction" and (data := getattr(getattr(b, stage), "data", [])) and all(source.split for source in data):
        return f"nothing: every source of {b.name} names its split"
    if path.startswith(_CHOOSING):
        return _LEFT
    if stage == "synthesize" and (say := _WRITTEN.get(name)):
        return say(before, after)
    if ".prices." in path:
        return _grows(f"dollars for what {'is sent' if name == 'prompt' else 'comes back'}")(before, after)
    if say := _SAID.get(name):
        return say(before, after)
    if stage in ("sft", "dpo") and name in ("epochs", "batch_size", "max_length", "packing"):
        return _more_or_less(stage, a, _with(a, b, stage, name), name)
    if stage in ("curate", "rate", "binarize") and (name == "test_fraction" or path.startswith(f"{stage}.data[")):
        field = "data" if "[" in path else name
        return _more_or_less("sft" if stage == "curate" else "dpo", a, _with(a, b, stage, field), name)
    return ""


def _with(a: Recipe, b: Recipe, stage: str, name: str) -> Recipe:
    """`a`, but for one setting, which is as in `b`: what that one alone does."""
    mine, other = getattr(a, stage), getattr(b, stage)
    return a if mine is None or other is None else a.model_copy(update={stage: mine.model_copy(update={name: getattr(other, name)})})


_QUANTIZED = "in 4 bits the frozen weights take an eighth of their memory, and are made out anew for each product"


def _ratio(before: float, after: float) -> str:
    return f"×{after / before:.3g}"


def _more_or_less(stage: str, a: Recipe, changed: Recipe, name: str) -> str:
    """Tokens and steps of a training stage, before and after."""
    before, after = volumes(a).get(stage), volumes(changed).get(stage)
    if before is None or after is None:
        return ""
    said = []
    for what in ("tokens", "steps") if name != "batch_size" else ("steps",):
        was, now = getattr(before, what), getattr(after, what)
        if was and now and was != now:
            said.append(f"{count(was)} → {count(now)} {what} ({_ratio(was, now)})")
    if name == "batch_size":
        return ", ".join([*said, "the same tokens and the same memory: train.micro_batch_tokens says what is in memory at once"])
    if name == "max_length":
        said.append("what attention costs a token grows with the length")
    known = None not in (before.steps, after.steps)
    return ", ".join(said) or ("nothing" if known else "")


def _looks(stage: str, before: int, after: int, a: Recipe) -> str:
    volume = volumes(a).get(stage)
    if volume is None or volume.steps is None:
        return f"looks at the test split {_ratio(after, before)}"
    was, now = (number_of_looks(volume.steps, every) for every in (before, after))
    return "nothing" if was == now else f"{was:,} → {now:,} looks at the test split"


def _adapters(stage: str, a: Recipe, b: Recipe) -> str:
    """Weights that learn, and what they take."""
    shape = b.model.shape or a.model.shape
    was, now = (_learning(getattr(recipe, stage), shape) for recipe in (a, b))
    if was is None or now is None or was == now:
        return "less memory with adapters: gradients and AdamW's means are of those alone" if was != now or shape is None else "nothing"
    less = (was - now) * TRAINED_BYTES / 1e9
    now_quantized = _is_quantized(b, stage) and not _is_quantized(a, stage)
    return (f"{_QUANTIZED}; " if now_quantized else "") + (
        f"{count(was)} → {count(now)} weights learn: {abs(less):,.1f} GB {'less' if less > 0 else 'more'} for gradients and AdamW's means, "
        "in all"
    )


def _is_quantized(recipe: Recipe, stage: str) -> bool:
    lora = getattr(getattr(recipe, stage), "lora", None)
    return lora is not None and lora.quantize is not None


def _learning(section: Any, shape: ShapeConfig | None) -> int | None:
    lora: LoRAConfig | None = getattr(section, "lora", None)
    if section is None or shape is None:
        return None
    return shape.parameters if lora is None else adapter_weights(shape, lora)


def _grows(what: str) -> Callable[[Any, Any], str]:
    def say(before: Any, after: Any) -> str:
        numbers = all(isinstance(v, int | float) and v for v in (before, after))
        return f"{what} {_ratio(before, after)}" if numbers else what

    return say


def _objective(before: str, after: str) -> str:
    had, has = (objective != "simpo" for objective in (before, after))
    once = "the reference's pass, forward through every pair once, is"
    return "nothing" if had == has else f"{once} {'not made' if had else 'made first'}"


def _rows(order: Sequence[str], what: str) -> Callable[[Any, Any], str]:
    """Of choices in the order of how many rows they let stay."""
    return lambda before, after: f"{'more' if order.index(after) > order.index(before) else 'fewer'} {what}"


def _tasks(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Academic tasks that one of the two has alone."""
    more, less = ([name for name in a if name not in b] for a, b in ((after, before), (before, after)))
    said = [f"each model reads the items of {', '.join(more)}, too"] * bool(more)
    return "; ".join(said + [f"no model reads those of {', '.join(less)}"] * bool(less))


def _models(before: Sequence[str] | None, after: Sequence[str] | None) -> str:
    """Of the models that are judged; unset, it is those that the run trains."""
    ratio = f" {_ratio(len(before), len(after))}" if before and after else ""
    return f"answers and verdicts{ratio}: each model has its own"


def _there(what: str) -> Callable[[Any, Any], str]:
    """Of what only one of the two recipes has."""
    return lambda before, after: f"{what}, {'more' if before is None else 'less'}" if None in (before, after) else ""


_OFFLOADED = {
    "none": "all is on the GPU: the most of its memory, and nothing travels",
    "optimizer": "the GPU does not hold AdamW's means, 8 bytes for each weight that learns: they travel to it and back in every update",
    "all": "the GPU holds a layer at a time: weights and gradients travel in every pass, and the host makes the update",
}
_LEFT = "how many rows are left is known when `curate` has run: tokens and steps count those before it"
# what decides which dialogues are left
_CHOOSING = (
    "curate.gate.", "curate.near_prompts.", "curate.near_dialogues.", "curate.filter_settings.",
    "curate.gen_fraction", "curate.decontaminate",
)  # fmt: skip
_KIND = _there("dialogues of that kind, and the calls for them")
# of dialogues that teachers write
_WRITTEN: dict[str, Callable[[Any, Any], str]] = {
    "count": _grows("dialogues of that kind, and the calls for them,"),
    "turns": lambda before, after: f"turns of a dialogue, and calls for them, {_ratio(sum(before), sum(after))} on average",
    "rounds": _grows("calls that refine an instruction"),
    "world": _KIND,
    "writing": _KIND,
    "materials": _KIND,
    "self_instruct": _KIND,
}
_SAID: dict[str, Callable[[Any, Any], str]] = {
    "select": lambda before, after: _LEFT,
    "target": _grows("dialogues that are taken, where there are so many,"),
    "by": lambda before, after: "as many dialogues, of other lengths",
    "balance": lambda before, after: "as many dialogues, of other lengths",
    "models_per_prompt": _grows("answers asked for, and ratings of them,"),
    "max_new_tokens": _grows("at most so many tokens an answer:"),
    "samples": _grows("answers written in the evaluation"),
    "micro_batch_tokens": _grows("memory of activations"),
    "loss_on": lambda before, after: f"{'more' if after == 'all' else 'fewer'} tokens meet the output matrix: those that are learnt",
    "activation_checkpointing": lambda before, after: (
        "a third more computing, less memory" if after else "a quarter less computing, more memory"
    ),
    "dtype": lambda before, after: "bfloat16 products take half the memory of activations, and less time where the machine has them",
    "protocol": lambda before, after: (
        "fewer calls: one a prompt" if after == "together" else "more calls: one an answer, each with the prompt again"
    ),
    "checkpoint_minutes": lambda before, after: "writes to disk: three times the model's size each time",
    "keep_checkpoints": _grows("disk for checkpoints"),
    "objective": _objective,
    "offload": lambda before, after: _OFFLOADED[after],
    # `exchanges` is of dialogues, the last two are of pairs
    "truncation": _rows(("drop", "exchanges", "prompt_left", "answer_right"), "rows are trained on, if any are too long"),
    "ties": _rows(("drop", "second", "keep"), "pairs, if any answers score the same"),
    "filters": lambda before, after: _LEFT,
    "near_prompts": lambda before, after: _LEFT,
    "near_dialogues": lambda before, after: _LEFT,
    "prices": lambda before, after: f"nothing: what is asked is the same, and its price is {'not ' * (after is None)}known",
    "models": _models,
    "mt_bench": _there("two answers of each model to each question, and a verdict on each"),
    "single": lambda before, after: f"a verdict an answer, {'more' if after else 'less'}",
    "against": _there("two verdicts an answer, one in each order"),
    "alpaca_eval": _there("an answer of each model to each instruction, and verdicts on it"),
    "order": lambda before, after: f"verdicts {'×2' if after == 'both' else '×0.5'}",
    "preference": lambda before, after: (
        "a token back for each verdict, not reasons" if after == "log_probabilities" else "reasons back for each verdict, not a token"
    ),
    "ifeval": _there("an answer of each model to each prompt, which no judge is asked about"),
    "canary": lambda before, after: f"verdicts on answers that say nothing, as many as of a model, {'more' if after else 'less'}",
    "limit": lambda before, after: (
        f"{'fewer' if after is not None and (before is None or after < before) else 'more'} items of each benchmark, if it has so many"
    ),
    "benchmarks": _tasks,
    "sampler": lambda before, after: (
        "less: what few-shot prompts begin with is computed once" if after == "first_n" else "more: each few-shot prompt is computed whole"
    ),
}


def count(n: int) -> str:
    """139,000 as it is, 285,000,000 as 285M."""
    if n < 1_000_000:
        return f"{n:,}"
    return f"{n / 1e9:,.2f}B" if n >= 1_000_000_000 else f"{n / 1e6:,.0f}M" if n >= 100_000_000 else f"{n / 1e6:,.1f}M"
