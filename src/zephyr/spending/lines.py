"""A teacher's requests, counted and priced; and whether a stage will ask any."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zephyr import pipeline, sources
from zephyr.artifacts import Manifest
from zephyr.errors import ZephyrError
from zephyr.recipe import APIConfig, LocalConfig, Recipe, ReplayConfig
from zephyr.teachers import Request, journal, wire
from zephyr.teachers.journal import peek

CHARACTERS_A_TOKEN = 4
ENOUGH = 20  # answers in the journal before their mean length says something
# of what is sent: characters, and the tokens that it may have at most; and the most that may come back, where the request has its own limit
Size = tuple[int, int, int | None]


@dataclass(frozen=True)
class Line:
    """What one teacher will be asked in one stage.

    Args:
        calls: requests that are yet to be sent, each once; a retry comes on top.
        kept: requests whose answers are there already.
        prompt_tokens: about what will be sent; `_most` at most.
        completion_tokens: about what will come back, None where nothing says it yet; `_most` at most.
        usd: about what that costs, None where it is not known yet; `usd_most` at most; None where the recipe has no prices.
        guess: what the figures rest on, where the texts to be sent are not written yet.
    """

    stage: str
    teacher: str
    model: str
    calls: int
    kept: int
    prompt_tokens: int
    prompt_tokens_most: int
    completion_tokens: int | None
    completion_tokens_most: int
    usd: float | None
    usd_most: float | None
    guess: str = ""


def line_of(stage: str, name: str, config: APIConfig, asked: Iterable[Request], run_dir: Path, guess: str = "") -> Line:
    """A line for what one teacher will be asked in one stage; `guess` says what the figures rest on, where that is one."""
    sizes = {wire.key_of(name, config.model, config, request): size_of(request) for request in asked}
    return priced(stage, name, config, sizes, run_dir, guess)


def priced(stage: str, name: str, config: APIConfig, asked: Mapping[bytes, Size], run_dir: Path, guess: str = "") -> Line:
    """A line for requests of which the key and the size are known."""
    path = run_dir / journal.NAME
    kept = peek.answered(path, list(asked))
    missing = [size for key, size in asked.items() if key not in kept]
    seen = peek.lengths(path, stage, name)
    sent = sum(characters for characters, *_ in missing) // CHARACTERS_A_TOKEN
    sent_most = sum(most for _, most, _ in missing)
    back_most = sum(own or config.max_new_tokens for *_, own in missing)
    back = round(len(missing) * seen.mean) if seen.answers >= ENOUGH or not missing else None
    usd = usd_most = None
    if config.prices is not None:
        usd = None if back is None else wire.cost(config, sent, back) / journal.NANO
        usd_most = wire.cost(config, sent_most, back_most) / journal.NANO
    return Line(stage, name, config.model, len(missing), len(kept), sent, sent_most, back, back_most, usd, usd_most, guess)


def size_of(request: Request) -> Size:
    """How much is sent, and may come back."""
    return sum(len(m["content"]) for m in request.messages), wire.most_tokens(request.messages), request.max_new_tokens


def tokens_of(name: str, teacher: ReplayConfig | LocalConfig | APIConfig, run_dir: Path, *, most: bool = False) -> float:
    """Tokens of a teacher's answers: as recorded, as the journal's had on average, or all that it may say."""
    if isinstance(teacher, ReplayConfig):
        rows = (row for source in teacher.recordings() for _, _, row in sources.rows(source, whole=True))
        found = [len(c["response"]) / CHARACTERS_A_TOKEN for row in rows for c in row.get("completions") or () if c.get("model") == name]
        return (max(found) if most else sum(found) / len(found)) if found else 0.0
    seen = peek.lengths(run_dir / journal.NAME, "complete", name)
    return seen.mean if seen.answers >= ENOUGH and not most else float(teacher.max_new_tokens)


def is_done(recipe: Recipe, stage: str, run_dir: Path) -> bool:
    """Whether a stage's artifact is there, made from just this recipe, so that nothing will be asked for it."""
    if stage not in pipeline.stages_of(recipe) or Manifest.read(run_dir / stage) is None:
        return False
    if stage == "rate" and recipe.rate and not recipe.rate.data and not is_done(recipe, "complete", run_dir):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        try:
            work = pipeline.bound(recipe, stage, run_dir, Path(scratch) / pipeline.FINGERPRINTS)
        except ZephyrError:  # what it is made from is gone
            return False
        return pipeline.why_not_done(work) is None
