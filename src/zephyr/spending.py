"""What a run will ask of paid teachers: calls, tokens and money by stage and teacher, before a cent is spent.

Calls are counted from the real prompts, less those whose answers the journal has. Tokens that will be sent are counted as a quarter
of the characters ("about"), and at most as many as the texts have bytes; tokens that will come back are at most what the recipe
allows, and about what the same teacher's answers in the journal had on average, where it has enough of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zephyr import pipeline, sources
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import ZephyrError
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.mt_bench import files as mt_bench
from zephyr.evals.mt_bench.records import Answer
from zephyr.recipe import APIConfig, DataSource, LocalConfig, Recipe, ReplayConfig
from zephyr.records import Completion, Prompt, RatedPrompt, parse_prompt, parse_rated_prompt
from zephyr.stages import From, Inputs, answer, complete, judge, rate, synthesize
from zephyr.synthesis.grammar import MOST_CHARACTERS, MOST_OF_A_TEXT
from zephyr.synthesis.steps import Ask
from zephyr.teachers import Reply, Request, journal, wire

CHARACTERS_A_TOKEN = 4
ENOUGH = 20  # answers in the journal before their mean length says something
AT_ONCE = 500  # dialogues that are gone through together: their texts are made up, and take memory
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


def plan(recipe: Recipe, run_dir: Path) -> dict[str, Any]:
    """What the run will ask of teachers behind servers: a line each, the sums, and the budget. Nothing is written or sent.

    Raises:
        ZephyrError: prompts cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        draft = Draft(Path(scratch), run_dir / "plan", Manifest("plan", "", {}, {}))
        lines = [*_synthesize(recipe, run_dir, draft), *_complete(recipe, run_dir, draft), *_rate(recipe, run_dir, draft)]
        lines += [*_answer(recipe, run_dir), *_judge(recipe, run_dir)]
    known = [line.usd for line in lines]
    most = [line.usd_most for line in lines]
    spent = journal.peek_totals(run_dir / journal.NAME)
    return {
        "lines": [asdict(line) for line in lines],
        "calls": sum(line.calls for line in lines),
        "usd": None if None in known else sum(filter(None, known)),
        "usd_most": None if None in most else sum(filter(None, most)),
        "spent_usd": spent.spent / journal.NANO,
        "possibly_spent_usd": (spent.maybe + spent.reserved) / journal.NANO,
        "spent_calls": spent.calls,
        "budget": recipe.budget.model_dump(),
    }


def describe(found: Mapping[str, Any]) -> str:
    """In words."""
    if not found["lines"]:
        return "no teacher behind a server will be asked: nothing is spent"
    rows = [("stage", "teacher", "calls", "kept", "tokens sent", "tokens back", "about", "at most")]
    for line in found["lines"]:
        back = f"≤ {line['completion_tokens_most']:,}" if line["completion_tokens"] is None else f"{line['completion_tokens']:,}"
        counts = f"{line['calls']:,}", f"{line['kept']:,}", f"{line['prompt_tokens']:,}", back
        rows.append((line["stage"], line["teacher"], *counts, _usd(line["usd"]), _usd(line["usd_most"])))
    rows.append(("in all", "", f"{found['calls']:,}", "", "", "", _usd(found["usd"]), _usd(found["usd_most"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    lines += list(dict.fromkeys(f"{line['stage']}: {line['guess']}" for line in found["lines"] if line["guess"]))
    if found["spent_calls"]:
        maybe = f", perhaps {_usd(found['possibly_spent_usd'])} more" if found["possibly_spent_usd"] else ""
        lines.append(f"so far: {found['spent_calls']:,} calls, {_usd(found['spent_usd'])}{maybe}")
    return "\n".join([*lines, *_against_budget(found)])


def _against_budget(found: Mapping[str, Any]) -> list[str]:
    usd, calls = found["budget"]["usd"], found["budget"]["calls"]
    said = []
    spent = found["spent_usd"] + found["possibly_spent_usd"]
    if usd is not None and found["usd_most"] is not None and spent + found["usd_most"] > usd:
        surely = found["usd"] is not None and spent + found["usd"] > usd
        said.append(
            f"the budget of {_usd(usd)} {'will' if surely else 'may'} be reached before the end: the run stops there, and goes on with more"
        )
    if calls is not None and found["spent_calls"] + found["calls"] > calls:
        said.append(f"the budget of {calls:,} calls will be reached before the end: the run stops there, and goes on with more")
    return said


def _usd(value: float | None) -> str:
    return "not known" if value is None else f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.4f}"


# --- by stage ----------------------------------------------------------------------------------------------------


def _synthesize(recipe: Recipe, run_dir: Path, draft: Draft) -> list[Line]:
    """Every call of every dialogue, with as many turns as are drawn for it.

    It is gone through as the run would go: with the journal's answers where there are some, and else with made-up ones.
    """
    section = recipe.synthesize
    if section is None or _is_done(recipe, "synthesize", run_dir):
        return []
    paid = {role: teacher for role, teacher in section.teachers().items() if isinstance(teacher, APIConfig)}
    if not paid:
        return []
    config, data = synthesize.configure(recipe), synthesize.needs(recipe).data
    work = synthesize.job(config, {name: given for name, given in data.items() if not isinstance(given, From)}, draft)

    def asked(*, most: bool) -> dict[str, dict[bytes, Size]]:
        stand_in = _StandIn(section.teachers(), run_dir, most=most)
        for start in range(0, len(work.places), AT_ONCE):
            part = replace(work, places=work.places[start : start + AT_ONCE])
            synthesize.converse(part, part.hearing(stand_in, 1.0))
        return stand_in.asked

    found, longest = asked(most=False), asked(most=True)
    guess = (
        "calls are those of dialogues that all come to something, with as many turns as are drawn for each; a dialogue that ends before "
        "takes fewer, and a reply that cannot be read is asked for once more, on top"
    )
    lines = []
    for role, teacher in paid.items():
        line = _priced("synthesize", role, teacher, found[role], run_dir, guess)
        upmost = _priced("synthesize", role, teacher, longest[role], run_dir)
        lines.append(replace(line, prompt_tokens_most=upmost.prompt_tokens_most, usd_most=upmost.usd_most))
    return lines


class _StandIn:
    """Answers in the place of teachers: those of the journal, and made-up ones where it has none."""

    def __init__(self, teachers: Mapping[str, ReplayConfig | LocalConfig | APIConfig], run_dir: Path, *, most: bool) -> None:
        self._teachers, self._path = teachers, run_dir / journal.NAME
        self._length = {role: _reply_tokens(role, teacher, run_dir, most=most) for role, teacher in teachers.items()}
        self.asked: dict[str, dict[bytes, Size]] = {role: {} for role in teachers}
        # of a journal in which nothing was ever sent no question is known, and to hash long conversations takes minutes
        self._anything = journal.peek_totals(self._path).calls > 0

    def __call__(self, asks: Sequence[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """A reply to each, at once."""
        requests = [(ask, ask.request()) for ask in asks]
        keys = {request: self._key(ask.role, request) for ask, request in requests}
        texts = _kept_texts(self._path, [key for key in keys.values() if key])
        for ask, request in requests:
            self.asked[ask.role][keys[request]] = _size(request)
            text, reason = texts.get(keys[request], ("", ""))
            yield ask, Reply(request, text, reason, 0) if reason else Reply(request, self._made_up(ask), "stop", 0)

    def _key(self, role: str, request: Request) -> bytes:
        """Of a request to a server; nothing of others, whose models are not looked at here."""
        teacher = self._teachers[role]
        if not self._anything:
            return request.prompt_id.encode()  # the name of the question: it tells apart what this teacher is asked
        return wire.key_of(role, teacher.model, teacher, request) if isinstance(teacher, APIConfig) else b""

    def _made_up(self, ask: Ask) -> str:
        size = max(16, round(self._length[ask.role] * CHARACTERS_A_TOKEN))
        if not ask.items:
            return f"text {(ask.name + ' ') * (size // len(ask.name) + 1)}"[: min(size, MOST_OF_A_TEXT)].strip()
        longest = min(size // ask.items, MOST_CHARACTERS)
        items = [f"item {i} {(ask.name[:12] + ' ') * (longest // 13)}"[: max(longest, 24)].strip() for i in range(1, ask.items + 1)]
        return json.dumps({"items": items}) if ask.schema else "".join(f"{i}. {item}\n" for i, item in enumerate(items, 1))


def _kept_texts(path: Path, keys: Sequence[bytes]) -> dict[bytes, tuple[str, str]]:
    """(text, finish reason) of the requests that a journal has an answer to."""
    query = "SELECT coalesce(text, ''), finish_reason FROM requests WHERE key = ? AND state = 'answered'"
    with journal._looking(path) as db:
        rows = ((key, db.execute(query, (key,)).fetchone()) for key in keys) if db else ()
        return {key: row for key, row in rows if row is not None}


def _reply_tokens(role: str, teacher: ReplayConfig | LocalConfig | APIConfig, run_dir: Path, *, most: bool) -> float:
    """Tokens of a teacher's replies: as the journal's had on average, or all that it may say; of a recording, as its answers have."""
    if isinstance(teacher, ReplayConfig):
        return _length(role, teacher, run_dir, most=most)
    seen = journal.peek_lengths(run_dir / journal.NAME, "synthesize", role)
    return seen.mean if seen.answers >= ENOUGH and not most else float(teacher.max_new_tokens)


def _prompts(data: Sequence[DataSource], recipe: Recipe, draft: Draft) -> list[Prompt]:
    section = recipe.complete
    assert section is not None
    found = sources.collect(data, parse_prompt, draft, invalid=section.invalid, test_fraction=section.test_fraction)
    return [item.record for items in found.values() for item in items]


def _complete(recipe: Recipe, run_dir: Path, draft: Draft) -> list[Line]:
    if recipe.complete is None or not any(t.kind == "api" for t in recipe.complete.pool.values()) or _is_done(recipe, "complete", run_dir):
        return []
    asked = complete.requests(complete.configure(recipe), _prompts(recipe.complete.prompts, recipe, draft))
    return [
        _line("complete", name, teacher, asked[name], run_dir)
        for name, teacher in recipe.complete.pool.items()
        if isinstance(teacher, APIConfig)
    ]


def _rate(recipe: Recipe, run_dir: Path, draft: Draft) -> list[Line]:
    if recipe.rate is None or recipe.rate.teacher.kind != "api" or _is_done(recipe, "rate", run_dir):
        return []
    config = rate.configure(recipe)
    assert isinstance(config.teacher, APIConfig)
    data = recipe.rate.data
    if not data and _is_done(recipe, "complete", run_dir):
        data = [DataSource(path=str(run_dir / "complete"))]
    if data:
        found = sources.collect(data, lambda row: parse_rated_prompt(row, rated=False), draft, invalid=config.invalid, test_fraction=0.0)
        rows = [item.record for items in found.values() for item in items]
        asked = [question.request for question in rate.questions(config, rows)]
        return [_line("rate", rate.TEACHER, config.teacher, asked, run_dir)]
    return [_unwritten(recipe, config, run_dir, draft)]


def _unwritten(recipe: Recipe, config: rate.Config, run_dir: Path, draft: Draft) -> Line:
    """Ratings of answers that are not written yet: each is taken to be as long as it may be, or as those before it were."""
    assert recipe.complete is not None and isinstance(config.teacher, APIConfig)
    pool = recipe.complete.pool
    length = sum(_length(name, teacher, run_dir) for name, teacher in pool.items()) / len(pool)
    most = max(_length(name, teacher, run_dir, most=True) for name, teacher in pool.items())
    names = [f"answer {i}" for i in range(recipe.complete.models_per_prompt)]
    prompts = _prompts(recipe.complete.prompts, recipe, draft)

    def asked(tokens: float) -> list[Request]:
        size = round(tokens * CHARACTERS_A_TOKEN)
        rows = [RatedPrompt(p.prompt, p.prompt_id, tuple(Completion(name, f"{name} ".ljust(size, "x")) for name in names)) for p in prompts]
        return [question.request for question in rate.questions(config, rows)]

    guess = f"the answers are not written yet; each is taken to have {length:,.0f} tokens, {most:,.0f} at most"
    line = _line("rate", rate.TEACHER, config.teacher, asked(length), run_dir, guess)
    longest = _line("rate", rate.TEACHER, config.teacher, asked(most), run_dir)
    return replace(line, prompt_tokens_most=longest.prompt_tokens_most, usd_most=longest.usd_most)


def _answer(recipe: Recipe, run_dir: Path) -> list[Line]:
    """What models behind servers are asked by chat benchmarks; second turns follow on answers that are taken to be as long as may be."""
    if recipe.judge is None or not recipe.judge.endpoints or _is_done(recipe, "answer", run_dir):
        return []
    config = answer.configure(recipe)
    given = _benchmarks(recipe)
    found = []
    for name, endpoint in recipe.judge.endpoints.items():
        asked: list[Request] = []
        replies: dict[answer.Key, Reply] = {}
        for turn in (1, 2):
            for key, request in answer.requests(config, name, turn, given, replies):
                asked.append(request)
                text = "x" * (CHARACTERS_A_TOKEN * wire.limit_of(endpoint, request))
                replies[key] = Reply(request, text, "stop", 0)
        found.append(_line("answer", name, endpoint, asked, run_dir))
    return found


def _judge(recipe: Recipe, run_dir: Path) -> list[Line]:
    """What the judge is asked: of the answers there are, or of answers that are taken to be as long as may be."""
    if recipe.judge is None or recipe.judge.teacher is None or recipe.judge.teacher.kind != "api" or _is_done(recipe, "judge", run_dir):
        return []
    config = judge.configure(recipe)
    assert isinstance(config.teacher, APIConfig)
    data = {name: given for name, given in judge.needs(recipe).data.items() if not isinstance(given, From)}
    if _is_done(recipe, "answer", run_dir):
        asked, _ = judge.requests(config, Inputs({**data, "answers": [DataSource(path=str(run_dir / "answer"))]}, {}))
        return [_line("judge", judge.TEACHER, config.teacher, asked, run_dir)]
    given = _benchmarks(recipe)
    models = answer.configure(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        for name in (*models.models, *models.endpoints):
            if given.questions:
                text = name.ljust(CHARACTERS_A_TOKEN * (models.mt_bench_tokens or 0), "x")
                made = [Answer(key, name, (text,) * len(q.turns)) for key, q in given.questions.items()]
                mt_bench.write(folder / f"mt_bench.{name}.jsonl", made)
            if given.baseline:
                text = name.ljust(CHARACTERS_A_TOKEN * (models.alpaca_eval_tokens or 0), "x")
                alpaca.write_outputs(folder / f"alpaca_eval.{name}.json", [replace(b, output=text, generator=name) for b in given.baseline])
        asked, _ = judge.requests(config, Inputs({**data, "answers": [DataSource(path=scratch)]}, {}))
    return [
        _line(
            "judge", judge.TEACHER, config.teacher, asked, run_dir, "the answers are not written yet; each is taken to be as long as may be"
        )
    ]


def _benchmarks(recipe: Recipe) -> answer.Asked:
    """The questions of the chat benchmarks that the recipe names."""
    return answer.read(answer.needs(recipe).data, answer.configure(recipe).limit)


def _length(name: str, teacher: ReplayConfig | LocalConfig | APIConfig, run_dir: Path, *, most: bool = False) -> float:
    """Tokens of a teacher's answers: as recorded, as the journal's had on average, or all that it may say."""
    if isinstance(teacher, ReplayConfig):
        rows = (row for source in teacher.recordings() for _, _, row in sources.rows(source, whole=True))
        found = [len(c["response"]) / CHARACTERS_A_TOKEN for row in rows for c in row.get("completions") or () if c.get("model") == name]
        return (max(found) if most else sum(found) / len(found)) if found else 0.0
    seen = journal.peek_lengths(run_dir / journal.NAME, "complete", name)
    return seen.mean if seen.answers >= ENOUGH and not most else float(teacher.max_new_tokens)


def _is_done(recipe: Recipe, stage: str, run_dir: Path) -> bool:
    """Whether a stage's artifact is there, made from just this recipe, so that nothing will be asked for it."""
    if stage not in pipeline.stages_of(recipe) or Manifest.read(run_dir / stage) is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        module = pipeline.module_of(stage)
        needs = module.needs(recipe)
        if stage == "rate" and recipe.rate and not recipe.rate.data and not _is_done(recipe, "complete", run_dir):
            return False
        try:
            work = pipeline.bind(stage, module.configure(recipe), needs, run_dir, run_dir / stage, Path(scratch) / pipeline.FINGERPRINTS)
        except ZephyrError:  # what it is made from is gone
            return False
        return pipeline.why_not_done(work) is None


def _line(stage: str, name: str, config: APIConfig, asked: Iterable[Request], run_dir: Path, guess: str = "") -> Line:
    sizes = {wire.key_of(name, config.model, config, request): _size(request) for request in asked}
    return _priced(stage, name, config, sizes, run_dir, guess)


def _size(request: Request) -> Size:
    return sum(len(m["content"]) for m in request.messages), wire.most_tokens(request.messages), request.max_new_tokens


def _priced(stage: str, name: str, config: APIConfig, asked: Mapping[bytes, Size], run_dir: Path, guess: str = "") -> Line:
    """A line for requests of which the key and the size are known."""
    path = run_dir / journal.NAME
    kept = journal.peek_answered(path, list(asked))
    missing = [size for key, size in asked.items() if key not in kept]
    seen = journal.peek_lengths(path, stage, name)
    sent = sum(characters for characters, *_ in missing) // CHARACTERS_A_TOKEN
    sent_most = sum(most for _, most, _ in missing)
    back_most = sum(own or config.max_new_tokens for *_, own in missing)
    back = round(len(missing) * seen.mean) if seen.answers >= ENOUGH or not missing else None
    usd = usd_most = None
    if config.prices is not None:
        usd = None if back is None else wire.cost(config, sent, back) / journal.NANO
        usd_most = wire.cost(config, sent_most, back_most) / journal.NANO
    return Line(stage, name, config.model, len(missing), len(kept), sent, sent_most, back, back_most, usd, usd_most, guess)
