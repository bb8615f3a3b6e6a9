"""First turns of dialogues: what each is begun from, and what is asked of the user's teacher to get there.

A dialogue is begun from a place: a topic, subtopic and question; an entity; a kind of text; a passage; a seed prompt. The places of a
sector stand in an order in which every topic has its turn before any has its second, so that a sector is balanced at every count, and a
greater count only adds. What a place becomes depends on the place and the seed, not on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zephyr.errors import UsageError
from zephyr.recipe import MaterialsPlan, SelfInstructPlan, WorldConfig, WritingConfig
from zephyr.records import Message, Prompt, seeded_unit
from zephyr.synthesis import grammar, turns
from zephyr.synthesis.passages import Passage
from zephyr.synthesis.steps import Ask, RejectedError, Steps
from zephyr.synthesis.texts import Texts, fill

SECTORS = ("world", "writing", "materials", "self_instruct")
SHORT = "list with fewer items than were asked for"


@dataclass(frozen=True)
class Opening:
    """A first turn of the user.

    Attributes:
        prompt: its text.
        compared: what of it is compared with others: of work on a passage the instruction alone.
        subtopic: what it is about, within its topic; empty where there is none.
        cut: whether it was cut off at max_new_tokens, and stays.
    """

    prompt: str
    compared: str
    subtopic: str = ""
    cut: bool = False


@dataclass(frozen=True)
class Place:
    """Where a dialogue begins.

    Attributes:
        sector: one of four.
        name: its own, by what it is begun from; all that is drawn for the dialogue is drawn by it.
        topic: what the sector is balanced over.
        group: first turns of one group are compared with each other.
        steps: from here to the first turn.
    """

    sector: str
    name: str
    topic: str
    group: str
    steps: Callable[[], Steps[Opening]]


@dataclass(frozen=True)
class Writer:
    """The user's teacher as a writer of lists and instructions.

    Attributes:
        texts: what it is told.
        seed: of what is drawn.
        per_call: items of a list that are asked for at once.
        json: whether lists are asked for as JSON, for a server that can be held to it.
        keep_cut: whether an instruction that was cut off at max_new_tokens may stay.
    """

    texts: Texts
    seed: int
    per_call: int
    json: bool
    keep_cut: bool = False

    def item(self, kind: str, index: int, total: int, **values: object) -> Steps[str]:
        """Item `index` of a list of `total`, which is asked for some at a time, each time without those that are there.

        Raises:
            RejectedError: the list cannot be read, or has fewer items.
        """
        have: list[str] = []
        for first in range(0, index + 1, self.per_call):
            part: list[str] = yield self._list(kind, min(self.per_call, total - first), have, values)
            have += part
        at = index - first
        if at >= len(part):
            raise RejectedError(SHORT, f"{kind}: {len(part)} items, number {at + 1} is wanted")
        return part[at]

    def _list(self, kind: str, count: int, have: Sequence[str], values: Mapping[str, object]) -> Ask:
        say = self.texts.say
        parts = [say(kind, count=count, **values)]
        if have:
            parts.append(say("others", items="\n".join(f"- {item}" for item in have)))
        parts.append(say("list_json" if self.json else "list_lines", count=count))

        def read(text: str, cut: bool) -> list[str]:
            return grammar.read_json(text, count) if self.json else grammar.read_lines(text, count, cut=cut)

        schema = grammar.schema_of_list(count) if self.json else None
        return Ask("user", _alone("\n\n".join(parts)), read, f"list of {kind}", items=count, schema=schema)

    def one(self, kind: str, sample: int = 0, **values: object) -> Ask:
        """The question for a single instruction."""

        def read(text: str, cut: bool) -> turns.Turn:
            found = grammar.read_instruction(text, cut=cut and not self.keep_cut)
            turns.refuse_assistant(found)
            return turns.Turn(found, cut)

        return Ask("user", _alone(self.texts.say(kind, **values)), read, "instruction", sample=sample)


def _alone(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def answer(texts: Texts, before: tuple[Message, ...], *, keep_cut: bool, sample: int = 0) -> Ask:
    """The question for the assistant's next turn."""
    told: tuple[Message, ...] = ({"role": "system", "content": texts.say("assistant")},) if texts.say("assistant") else ()

    def read(text: str, cut: bool) -> turns.Turn:
        return turns.read_assistant(text, before, cut=cut, keep_cut=keep_cut)

    return Ask("assistant", (*told, *before), read, "answer", again="sample", sample=2 * sample)


def _refuse_beyond(sector: str, count: int, most: int, mend: str) -> None:
    if count > most:
        raise UsageError(f"synthesize.{sector}.count: {count:,} are asked for, and there is room for {most:,}; {mend}")


# --- the world -------------------------------------------------------------------------------------------------------


def world(config: WorldConfig, writer: Writer) -> list[Place]:
    """Questions on subtopics and about entities.

    Raises:
        UsageError: more are asked for than there is room for.
    """
    topics, entities = writer.texts.lists["topics"], writer.texts.lists["entities"]
    asked = writer.texts.lists["entity_questions"]
    of_entities = int(config.count * config.entities)
    room = len(topics) * config.subtopics * config.questions * (1 + config.related)
    mend = "raise subtopics, questions or related, add topics, or give entities a greater share"
    _refuse_beyond("world", config.count - of_entities, room, mend)
    room = len(entities) * len(asked) * (config.specific + config.general)
    _refuse_beyond("world", of_entities, room, "add entities, raise specific or general, or give entities a smaller share")
    places, done = [], [0, 0]
    for n in range(config.count):
        # the places of entities are spread evenly among the others, whatever the count
        is_entity = int((n + 1) * config.entities) - int(n * config.entities)
        i = done[is_entity]
        done[is_entity] += 1
        if is_entity:
            places.append(_about(config, writer, entities[i % len(entities)], i // len(entities)))
        else:
            places.append(_on(config, writer, topics[i % len(topics)], i // len(topics)))
    return places


def _on(config: WorldConfig, writer: Writer, topic: str, turn: int) -> Place:
    """A topic's place number `turn`: its subtopics one after the other, then the next question of each; then what those lead to."""
    s, q = turn % config.subtopics, turn // config.subtopics
    q, r = q % config.questions, q // config.questions  # r: 0 for the question itself, else which of those related to it

    def steps() -> Steps[Opening]:
        subtopic = yield from writer.item("subtopics", s, config.subtopics, topic=topic)
        question = yield from writer.item("questions", q, config.questions, topic=topic, subtopic=subtopic)
        if r:
            question = yield from writer.item("related", r - 1, config.related, question=question)
        return Opening(question, question, subtopic)

    return Place("world", f"world/{topic}/{s}/{q}/{r}", topic, "world", steps)


def _about(config: WorldConfig, writer: Writer, entity: str, turn: int) -> Place:
    """An entity's place number `turn`: the first questions in turn, for each the closer and the wider ones mixed."""
    asked = writer.texts.lists["entity_questions"]
    m, i = turn % len(asked), turn // len(asked)
    both = config.specific + config.general
    closer = (i + 1) * config.specific // both - i * config.specific // both  # 1 where the next closer one has its turn
    kind, at, total = (
        ("specific", i * config.specific // both, config.specific)
        if closer
        else ("general", i - i * config.specific // both, config.general)
    )

    def steps() -> Steps[Opening]:
        question = fill(asked[m], {"entity": entity})
        found = yield from writer.item(kind, at, total, entity=entity, question=question)
        return Opening(found, found, entity)

    return Place("world", f"world/{entity}/{m}/{kind}/{at}", "entities", "world", steps)


# --- writing, materials, self-instruct -------------------------------------------------------------------------------


def writing(config: WritingConfig, writer: Writer) -> list[Place]:
    """Instructions for kinds of texts, a share of them worked out.

    Raises:
        UsageError: more are asked for than there is room for.
    """
    kinds = writer.texts.lists["writing_types"]
    _refuse_beyond("writing", config.count, len(kinds) * config.instructions, "raise instructions, or add kinds to writing_types.txt")

    def place(kind: str, i: int) -> Place:
        name = f"writing/{kind}/{i}"

        def steps() -> Steps[Opening]:
            text = yield from writer.item("instructions", i, config.instructions, type=kind)
            cut = False
            if seeded_unit(writer.seed, "expanded", name) < config.expanded:
                more: turns.Turn = yield writer.one("expansion", instruction=text)
                text, cut = more.text, more.cut
            return Opening(text, text, cut=cut)

        return Place("writing", name, kind, "writing", steps)

    return [place(kinds[i % len(kinds)], i // len(kinds)) for i in range(config.count)]


def materials(config: MaterialsPlan, writer: Writer, texts: Sequence[Passage]) -> list[Place]:
    """Instructions on passages.

    Raises:
        UsageError: more are asked for than there is room for.
    """
    _refuse_beyond("materials", config.count, len(texts) * config.instructions, "give more files, or raise instructions")

    def place(passage: Passage, i: int) -> Place:
        name = f"materials/{passage.name}/{i}"

        def steps() -> Steps[Opening]:
            instruction = yield from writer.item("about_text", i, config.instructions, text=passage.text)
            layouts = writer.texts.lists["materials_layout"]
            layout = layouts[int(seeded_unit(writer.seed, "layout", name) * len(layouts))]
            return Opening(fill(layout, {"instruction": instruction, "text": passage.text}), instruction)

        # the same instruction on another passage is another task
        return Place("materials", name, passage.file, name.rpartition("/")[0], steps)

    return [place(texts[i % len(texts)], i // len(texts)) for i in range(config.count)]


def self_instruct(config: SelfInstructPlan, writer: Writer, seeds: Sequence[Prompt]) -> list[Place]:
    """Instructions refined from seed prompts: paper, section 3. Seeds are taken in an order drawn by hash, again and again."""

    def place(prompt: Prompt, lap: int) -> Place:
        name = f"self_instruct/{prompt.prompt_id}/{lap}"

        def steps() -> Steps[Opening]:
            ways = writer.texts.lists["refinements"]
            refined = turns.Turn(prompt.prompt)
            for r in range(config.rounds):
                asked: Message = {"role": "user", "content": refined.text}
                # a second lap from the same seed draws answers of its own
                said: turns.Turn = yield answer(writer.texts, (asked,), keep_cut=writer.keep_cut, sample=lap)
                way = ways[int(seeded_unit(writer.seed, "way", name, r) * len(ways))]
                refined = yield writer.one("refine", sample=2 * lap, prompt=refined.text, response=said.text, way=way)
            return Opening(refined.text, refined.text, prompt.prompt_id, refined.cut)

        return Place("self_instruct", name, prompt.category or prompt.source or "seeds", "self_instruct", steps)

    order = sorted(seeds, key=lambda p: seeded_unit(writer.seed, "seed prompt", p.prompt_id))
    return [place(order[i % len(order)], i // len(order)) for i in range(config.count)]
