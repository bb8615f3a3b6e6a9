"""What the judge of MT-Bench is asked: any FastChat `judge_prompts.jsonl`, or our own wording, rendered for a question and its answers.

A template of FastChat's names its fields in braces: `question`, `answer`, `ref_answer_1`; of two turns `question_1`, `answer_2`…; of two
answers `answer_a`, `answer_b_2`…. It is rendered to the byte as FastChat does. Our own wording (`builtin`) is such a file with one field
more, `fence`: a marker that no answer can know. Where a template has it, verdicts in brackets and pieces of chat templates
in the answers are taken apart by a space, so that nothing in an answer reads like the judge's own words.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from zephyr.errors import DataError, UsageError
from zephyr.evals import plain_files
from zephyr.evals.mt_bench.records import WITH_REFERENCE, Answer, Question
from zephyr.records import Message
from zephyr.text import fences

_NAMES = {
    ("single", False, 1): "single-v1",
    ("single", True, 1): "single-math-v1",
    ("single", False, 2): "single-v1-multi-turn",
    ("single", True, 2): "single-math-v1-multi-turn",
    ("pairwise", False, 1): "pair-v2",
    ("pairwise", True, 1): "pair-math-v1",
    ("pairwise", False, 2): "pair-v2-multi-turn",
    ("pairwise", True, 2): "pair-math-v1-multi-turn",
}
_FORMATS = {"single": ("[[rating]]",), "pairwise": ("[[A]]", "[[rating_a,rating_b]]")}


@dataclass(frozen=True)
class Template:
    """A judge's prompt.

    Attributes:
        name: as it stands in every judgment's `judge`.
        type: `single` or `pairwise`.
        system_prompt: the system message.
        prompt_template: the user message, with fields in braces.
        output_format: how the verdict is to be written.
        parts: the template's (literal, field or None) in order.
    """

    name: str
    type: str
    system_prompt: str
    prompt_template: str
    output_format: str
    parts: tuple[tuple[str, str | None], ...]

    @property
    def fields(self) -> frozenset[str]:
        """The names of its fields."""
        return frozenset(field for _, field in self.parts if field is not None)

    @property
    def kind(self) -> tuple[str, bool, int]:
        """(type, whether it shows a reference, the turn it judges)."""
        return self.type, any(f.startswith("ref_answer") for f in self.fields), 2 if "question_2" in self.fields else 1


def read_templates(path: Path) -> dict[str, Template]:
    """The templates of a FastChat `judge_prompts.jsonl`, by name; of two of one name the last, as FastChat has it.

    Raises:
        DataError: a row that does not fit, a field in braces that is no plain name, an unknown output format.
    """
    found = {template.name: template for template in (_template(where, row) for where, row in plain_files.rows(path))}
    if not found:
        raise DataError(f"{path}: no templates in it")
    return found


@cache
def builtin() -> dict[str, Template]:
    """Our own wording: for one answer and for two, with and without a reference, of one turn and of two."""
    with resources.as_file(resources.files("zephyr.evals.mt_bench") / "judge_prompts.jsonl") as path:
        return read_templates(path)


def choose(templates: Mapping[str, Template], *, pairs: bool, category: str, turn: int) -> Template:
    """The template for a judgment: by FastChat's name where the file has it, else the only one of its kind.

    Raises:
        UsageError: there is none, or there are several.
    """
    kind = ("pairwise" if pairs else "single", category in WITH_REFERENCE, turn)
    if _NAMES[kind] in templates:
        return templates[_NAMES[kind]]
    fit = [template for template in templates.values() if template.kind == kind]
    if len(fit) != 1:
        what = f"{kind[0]} judging of turn {turn} {'with' if kind[1] else 'without'} a reference"
        which = f"several fit: {', '.join(t.name for t in fit)}" if fit else "none fits"
        raise UsageError(f"judge prompts: for {what} a template named {_NAMES[kind]} or a single one of that kind is needed; {which}")
    return fit[0]


def messages(
    template: Template, question: Question, answers: Sequence[Answer], *, reference: Answer | None = None, seed: int = 0
) -> tuple[Message, ...]:
    """The judge's system and user message for the answers in the order given, one or two of them.

    Args:
        template: how it is asked.
        question: what was asked of the model.
        answers: one answer, or the two that are compared, the one to be shown first in front.
        reference: the answer to judge by, where the template shows one.
        seed: of the fence, where the template has one.

    Raises:
        DataError: an answer or the reference lacks a turn, or belongs to another question.
    """
    user = render(template, fields(template, question, answers, reference=reference, seed=seed))
    return {"role": "system", "content": template.system_prompt}, {"role": "user", "content": user}


def fields(
    template: Template, question: Question, answers: Sequence[Answer], *, reference: Answer | None = None, seed: int = 0
) -> dict[str, str]:
    """What a template's fields are filled with; see `messages`."""
    kind, with_reference, turns = template.kind
    if len(answers) != (2 if kind == "pairwise" else 1):
        raise UsageError(f"judge prompt {template.name}: it shows {2 if kind == 'pairwise' else 1} answers, {len(answers)} were given")
    given = [*answers, *([reference] if reference is not None and with_reference else [])]
    if with_reference and reference is None:
        raise DataError(f"question {question.question_id}: {template.name} needs a reference answer, and there is none")
    for answer in given:
        if answer.question_id != question.question_id:
            raise DataError(f"question {question.question_id}: an answer to question {answer.question_id} was given")
        if len(answer.turns) < turns:
            raise DataError(f"question {question.question_id}: the answer of {answer.model_id} has no turn {len(answer.turns) + 1}")
    if len(question.turns) < turns:
        raise DataError(f"question {question.question_id}: it has no turn 2")
    shown = disarmed if "fence" in template.fields else str
    found = {"question": question.turns[0], **{f"question_{i + 1}": text for i, text in enumerate(question.turns)}}
    for label, answer in zip(("_a", "_b") if kind == "pairwise" else ("",), answers, strict=True):
        found |= {f"answer{label}": shown(answer.turns[0])} | {f"answer{label}_{i + 1}": shown(t) for i, t in enumerate(answer.turns)}
    if reference is not None:
        found |= {f"ref_answer_{i + 1}": shown(text) for i, text in enumerate(reference.turns)}
    if "fence" in template.fields:
        found["fence"] = fences.fence(seed, *found.values())
    return found


def render(template: Template, values: Mapping[str, str]) -> str:
    """The user message: as `str.format` would have it, but no field can be more than a name.

    Raises:
        DataError: a field that nothing is known of.
    """
    unknown = sorted(template.fields - set(values))
    if unknown:
        raise DataError(
            f"judge prompt {template.name}: nothing is known to fill {{{unknown[0]}}} with; known are {', '.join(sorted(values))}"
        )
    return "".join(literal + (values[field] if field is not None else "") for literal, field in template.parts)


def answers_in(template: Template, prompt: str, known: Mapping[str, str]) -> dict[str, str] | None:
    """The fields not `known`, read back from a rendered prompt; None if the template does not render to it.

    A field ends where the text that follows it in the template first appears; the last one ends where the prompt does.
    """
    literals, names = [""], []  # known fields become part of the literals around them
    for literal, field in template.parts:
        literals[-1] += literal + (known.get(field, "") if field is not None else "")
        if field is not None and field not in known:
            names.append(field)
            literals.append("")
    if not prompt.startswith(literals[0]):
        return None
    found: dict[str, str] = {}
    at = len(literals[0])
    for i, (name, literal) in enumerate(zip(names, literals[1:], strict=True), 1):
        end = len(prompt) - len(literal) if i == len(names) else prompt.find(literal, at)
        if end < at or not prompt.startswith(literal, end) or found.setdefault(name, prompt[at:end]) != prompt[at:end]:
            return None
        at = end + len(literal)
    return found if at == len(prompt) else None


def disarmed(text: str) -> str:
    """A text in which nothing is a verdict in double brackets or a piece of a chat template: a space is put into each."""
    return fences.disarmed(text, fences.BRACKETS)


def _template(where: str, row: Mapping[str, object]) -> Template:
    name, kind, system, text = (plain_files.text(where, row, key) for key in ("name", "type", "system_prompt", "prompt_template"))
    output = plain_files.text(where, row, "output_format")
    if kind not in _FORMATS:
        raise DataError(f"{where}: `type` must be single or pairwise, found {kind!r}")
    if output not in _FORMATS[kind]:
        raise DataError(f"{where}: `output_format` of {name} must be {' or '.join(_FORMATS[kind])}, found {output!r}")
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise DataError(f"{where}: the braces of {name} do not close ({error}); write {{{{ and }}}} for braces that are text") from None
    for _, field, spec, conversion in pieces:
        if field is not None and (not field.isidentifier() or spec or conversion):
            raise DataError(f"{where}: {name} has the field {{{field}}}; a field is a plain name")
    return Template(name, kind, system, text, output, tuple((literal, field) for literal, field, _, _ in pieces))
