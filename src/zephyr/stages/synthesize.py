"""Teachers write dialogues to learn from: paper, section 3, step 1, and UltraChat's three sectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.recipe import (
    APIConfig,
    BudgetConfig,
    DataSource,
    Invalid,
    MaterialsPlan,
    ModelConfig,
    Recipe,
    Section,
    SelfInstructPlan,
    Share,
    SynthesizeConfig,
    TeacherConfig,
    WorldConfig,
    WritingConfig,
)
from zephyr.records import Prompt, Row, parse_prompt, prompt_id_of
from zephyr.stages import Inputs, Needs, teacher_inputs
from zephyr.synthesis import measures, openings, passages, rows, talk, texts, turns
from zephyr.synthesis.aside import Aside, side_by_side
from zephyr.synthesis.near import Near
from zephyr.synthesis.openings import Opening, Place, Writer
from zephyr.synthesis.steps import Answers, Ask, Hearing, RejectedError, Steps
from zephyr.synthesis.talk import Talk
from zephyr.teachers import Reply, ask

VERSION = 2  # 2: of seeds and existing prompts, each is taken once whatever its split
ROLES = ("assistant", "user")
AT_ONCE = 4096  # dialogues that talk side by side
BUILTIN = f"{sources.BUILTIN}synthesis/prompts"
NEAR = "first turn too much like an earlier one"


class Config(Section):
    """Settings of this stage."""

    seed: int
    assistant: TeacherConfig
    user: TeacherConfig
    world: WorldConfig | None
    writing: WritingConfig | None
    materials: MaterialsPlan | None
    self_instruct: SelfInstructPlan | None
    items_per_call: int
    max_similarity: float
    cut_turns: Literal["drop", "keep"]
    test_fraction: Share
    invalid: Invalid
    max_rejected: Share = Field(exclude=True)
    budget: BudgetConfig = Field(exclude=True)

    @property
    def teachers(self) -> dict[str, TeacherConfig]:
        """By their role, which is their name in the journal, too."""
        return {"assistant": self.assistant, "user": self.user}


def _section(recipe: Recipe) -> SynthesizeConfig:
    assert recipe.synthesize is not None
    return recipe.synthesize


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    m, i = s.materials, s.self_instruct
    return Config(
        seed=recipe.seed,
        **s.teachers(),
        world=s.world,
        writing=s.writing,
        materials=m and MaterialsPlan(**{name: getattr(m, name) for name in MaterialsPlan.model_fields}),
        self_instruct=i and SelfInstructPlan(**{name: getattr(i, name) for name in SelfInstructPlan.model_fields}),
        items_per_call=s.items_per_call,
        max_similarity=s.max_similarity,
        cut_turns=s.cut_turns,
        test_fraction=s.test_fraction,
        invalid=s.invalid,
        max_rejected=s.max_rejected,
        budget=recipe.budget,
    )


def needs(recipe: Recipe) -> Needs:
    """The prompts that teachers are sent, the user's texts and seeds, and what the teachers read: recordings, or models."""
    s = _section(recipe)
    data: dict[str, list[DataSource]] = {"prompts": [DataSource(path=BUILTIN)]}
    if s.prompts:
        data["own prompts"] = [DataSource(path=s.prompts)]
    if s.materials:
        data["materials"] = [DataSource(path=path) for path in s.materials.files]
    if s.self_instruct:
        data["seeds"] = s.self_instruct.seeds
    if s.existing:
        data["existing"] = s.existing
    models: dict[str, ModelConfig] = {}
    for name, teacher in s.teachers().items():
        its_data, its_models = teacher_inputs(f"teacher {name}", teacher)
        data.update(its_data)
        models.update(its_models)
    return Needs(data=data, models=models)


# --- what is to be done ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A synthesis, made ready: what is begun, and with what.

    Attributes:
        config: the settings.
        texts: what teachers are told.
        places: all that dialogues are begun from.
        seeds: prompts of self-instruct.
        existing: prompts that there are already.
    """

    config: Config
    texts: texts.Texts
    places: Sequence[Place]
    seeds: Sequence[Prompt]
    existing: Sequence[Prompt]

    @property
    def begun(self) -> Counter[str]:
        """How many dialogues are begun, by sector."""
        return Counter(place.sector for place in self.places)

    def hearing(self, answers: Answers, limit: float) -> Hearing:
        """Who puts the questions, to `answers`."""
        return Hearing(answers, lambda error: self.texts.say("again", error=error), limit)

    def turns_of(self, sector: str) -> list[int]:
        """The least and the most turns of a sector's dialogues."""
        return list(getattr(self.config, sector).turns)

    def steps(self, begun: Talk) -> Steps[None]:
        """A dialogue from its first turn on."""
        return begun.steps(self.texts, keep_cut=self.config.cut_turns == "keep")


def job(config: Config, data: Mapping[str, Sequence[DataSource]], out: Draft) -> Job:
    """All that a synthesis begins with, read and checked; nothing is asked.

    Raises:
        ZephyrError: a prompt, a text or a seed cannot be read, or there is no room for so many dialogues.
    """
    own = data.get("own prompts")
    told = texts.load(Path(own[0].path).expanduser() if own else None)
    json = isinstance(config.user, APIConfig) and config.user.structured_output != "none"
    writer = Writer(told, config.seed, config.items_per_call, json, keep_cut=config.cut_turns == "keep")
    seeds = _prompts(data.get("seeds", ()), config, out)
    places: list[Place] = []
    if config.world:
        places += openings.world(config.world, writer)
    if config.writing:
        places += openings.writing(config.writing, writer)
    if config.materials:
        found = passages.passages([source.path for source in data["materials"]], config.materials.passage_characters)
        places += openings.materials(config.materials, writer, found)
    if config.self_instruct:
        places += openings.self_instruct(config.self_instruct, writer, seeds)
    return Job(config, told, places, seeds, _prompts(data.get("existing", ()), config, out))


def _prompts(data: Sequence[DataSource], config: Config, out: Draft) -> list[Prompt]:
    """Every prompt of the sources once, train and test alike: what is measured on must not be copied either, and may be in both."""
    if not data:
        return []
    found = sources.collect(data, parse_prompt, out, invalid=config.invalid, test_fraction=0.0, apart=False)
    return [item.record for item in found["train"]]


# --- doing it --------------------------------------------------------------------------------------------------------


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """First turns, then the talk, side by side; what comes to nothing is set aside with its reason and its text."""
    work = job(config, inputs.data, out)
    digests = {name: inputs.models[f"teacher {name}"].digest for name, t in config.teachers.items() if t.kind == "local"}
    with ask.opened(
        "synthesize", config.teachers, folder=out.final.parent, budget=config.budget, seed=config.seed, digests=digests
    ) as teachers:
        hearing = work.hearing(lambda asks: _answers(teachers, asks), config.max_rejected)
        kept = converse(work, hearing, out, teachers.status)
        bill = teachers.bill()
    out.manifest.rows_in = len(work.places)
    out.manifest.tokens += hearing.tokens
    by_split: dict[str, list[Row]] = {"train": [], "test": []}
    for found in kept:
        by_split[sources.split_of(prompt_id_of(found.opening.prompt), config.test_fraction)].append(rows.row_of(found))
    for split, theirs in by_split.items():
        out.write_rows(split, theirs, rows.schema())
    out.manifest.results = {
        **measures.summary(kept, work.begun, work.seeds, config.seed),
        "asked": dict(sorted(hearing.asked.items())),
        "asked_twice": dict(sorted(hearing.asked_twice.items())),
        "replayed": all(t.kind == "replay" for t in config.teachers.values()),
        "bill": bill,
    }


def _answers(teachers: ask.Teachers, asks: Sequence[Ask]) -> Iterator[tuple[Ask, Reply]]:
    """What the teachers say, by role."""
    requests = {ask.request(): ask for ask in asks}
    by_role = {role: [request for request, ask in requests.items() if ask.role == role] for role in ROLES}
    for _, reply in teachers.replies({role: theirs for role, theirs in by_role.items() if theirs}):
        yield requests[reply.request], reply


def converse(work: Job, hearing: Hearing, out: Draft, status: Callable[[int], str]) -> list[Talk]:
    """All dialogues that come to something, in the order of their places.

    Raises:
        DataError: more than the recipe allows come to nothing.
    """
    aside = Aside(len(work.places), work.config.max_rejected, out, status)
    kept = lead(work, begin(work, hearing, aside), hearing, aside)
    if not kept:
        raise DataError(f"not one of {len(work.places):,} dialogues came to something{out.why_dropped()}")
    return kept


def begin(work: Job, hearing: Hearing, aside: Aside) -> list[Talk]:
    """The dialogues whose first turn comes to something, in the order of their places, each with its number of turns drawn.

    In a plan (`aside` counts nothing) no first turn is refused for being like another.
    """
    by_name = {place.name: place for place in work.places}
    found = side_by_side("first turns", {name: place.steps() for name, place in by_name.items()}, hearing, aside)
    return [talk.begin(by_name[n], o, work.turns_of(by_name[n].sector), work.config.seed) for n, o in _openings(work, found, aside)]


def lead(work: Job, begun: Sequence[Talk], hearing: Hearing, aside: Aside) -> list[Talk]:
    """Dialogues from their first turn to their end, those that come to something."""
    kept = []
    for start in range(0, len(begun), AT_ONCE):  # what is sent holds whole conversations: of all at once it would be too much
        part = {t.place.name: t for t in begun[start : start + AT_ONCE]}
        ended = side_by_side("dialogues", {name: work.steps(t) for name, t in part.items()}, hearing, aside)
        for name, t in part.items():
            if isinstance(end := ended[name], RejectedError):
                aside.put(end, t.place, {"messages": list(t.messages)})
            else:
                kept.append(t)
        aside.look({})
    return kept


def _openings(work: Job, found: Mapping[str, Opening | RejectedError], aside: Aside) -> Iterable[tuple[str, Opening]]:
    """The first turns that were found, without those that are too much like an earlier one of the same kind, or one that there was."""
    near = Near(work.config.max_similarity)
    # what was there before them is there for every sector; work on a passage is compared with that on the same passage alone
    for group in sorted({place.group for place in work.places}):
        for prompt in (*work.seeds, *work.existing):
            if not group.startswith("materials/"):
                near.add(f"the prompt {prompt.prompt_id[:16]}", prompt.prompt, group)
    for place in work.places:
        opening = found[place.name]
        if isinstance(opening, RejectedError):
            aside.put(opening, place, {})
        elif problem := _as_assistant(opening):
            aside.put(problem, place, {"messages": [{"role": "user", "content": opening.prompt}]})
        elif not aside.counts:  # a plan: its texts are made up
            yield place.name, opening
        elif twin := near.closest(opening.compared, place.group):
            alike = f"{twin[1]:.2f} like {twin[0]}"
            aside.put(RejectedError(NEAR, alike), place, {"messages": [{"role": "user", "content": opening.prompt}]})
        else:
            near.add(place.name, opening.compared, place.group)
            yield place.name, opening


def _as_assistant(opening: Opening) -> RejectedError | None:
    """Whether an item of a list, meant to be asked by a person, is said as an assistant says things."""
    try:
        turns.refuse_assistant(opening.compared)
    except turns.UnfitError as error:
        return RejectedError(error.reason, str(error))
    return None
