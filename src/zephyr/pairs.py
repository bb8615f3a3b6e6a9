"""From the rated answers of a prompt to a pair: which is chosen, which is rejected, by a policy that a recipe declares.

Nothing here depends on the order of prompts or of answers, or on anything but the prompt, its answers, the policy and the seed: whatever is
left to chance is decided by a hash of seed, prompt and answer. Scores are compared as the fractions that they are, so that weights like 0.1
make no difference where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from zephyr.recipe import PairPolicy
from zephyr.records import Completion, Lineage, Message, Preference, RatedPrompt, Rating, seeded_unit


@dataclass(frozen=True)
class NoPair:
    """Why a prompt gives no pair."""

    reason: str


@dataclass(frozen=True)
class _Scored:
    """An answer with its place in the row and its scores; the second is what ties are resolved by, None where there is none."""

    answer: Completion
    position: int
    first: Fraction
    second: Fraction | None

    @property
    def text(self) -> str:
        return self.answer.response.strip()


def score_of(rating: Rating | None, ranked_by: str | Mapping[str, float]) -> Fraction | None:
    """What ranks an answer, exactly; None where it has none.

    The mean, weighted or not, is over the aspects that the answer has: one that lacks an aspect is ranked by the others, at their weights.
    Equal weights rank as the mean does.

    Args:
        rating: what the teacher gave the answer.
        ranked_by: `overall`, `mean`, or the weights of aspects.
    """
    if rating is None:
        return None
    if ranked_by == "overall":
        return None if rating.overall_score is None else _exact(rating.overall_score)
    if isinstance(ranked_by, str):
        return Fraction(sum(rating.aspects.values()), len(rating.aspects)) if rating.aspects else None
    there = {name: _exact(weight) for name, weight in ranked_by.items() if name in rating.aspects}
    return sum((weight * rating.aspects[name] for name, weight in there.items()), Fraction()) / sum(there.values()) if there else None


def _second_score(rating: Rating | None, policy: PairPolicy) -> Fraction | None:
    """What `ties: second` resolves by: the mean of the aspects where the score is the overall one, else the overall one."""
    return score_of(rating, "mean" if policy.score == "overall" else "overall") if policy.ties == "second" else None


def is_partial(rating: Rating | None, policy: PairPolicy) -> bool:
    """Whether an answer is ranked by some of the weighted aspects alone, as it lacks others."""
    has = 0 if rating is None else len(rating.aspects.keys() & policy.weights.keys())
    return 0 < has < len(policy.weights)


@lru_cache(maxsize=1024)
def _exact(number: float) -> Fraction:
    """A number as it is written: 0.1 is a tenth."""
    return Fraction(repr(float(number)))


def pair_of(prompt: RatedPrompt, policy: PairPolicy, seed: int) -> Preference | NoPair:
    """The pair of a prompt, or why there is none.

    Answers without text or score take no part. *Chosen* is the answer with the highest score. Where several share that, a hash decides;
    with `ties: second`, only among those of them whose second score is the highest.

    *Rejected* is one of the others that says something else (but for spaces around it), scores less, and is at least `min_margin` below.
    `ties: keep` admits those that score the same, too. `ties: second` admits those that score the same and whose second score is lower.
    Where one of the answers that share the highest score has no second score, `second` is as `drop`.

    Among the candidates `rejected` takes
    - random: any, with equal chances;
    - lowest: the one with the lowest score;
    - nearest: the one with the highest score;
    - margin_weighted: any, with chances in proportion to the distance from the best. One at no distance is taken only where there is no
      other; then the distances in the second score count with `ties: second`, and chances are equal with `ties: keep`.
    Several that are equally low or near are told apart by a hash; with `ties: second`, first by the second score, where all have one.
    """
    shown = [(position, answer) for position, answer in enumerate(prompt.completions) if answer.response.strip()]
    scored = [
        _Scored(answer, position, score, _second_score(answer.rating, policy))
        for position, answer in shown
        if (score := score_of(answer.rating, policy.ranked_by)) is not None
    ]
    if len(scored) < 2:
        return NoPair("fewer than two rated answers")

    def draw(a: _Scored, purpose: str) -> float:
        return seeded_unit(seed, purpose, prompt.prompt_id, a.answer.model, a.answer.response)

    top = max(a.first for a in scored)
    best = [a for a in scored if a.first == top]
    resolves = policy.ties == "second" and all(a.second is not None for a in best)
    chosen = min(_highest_second(best) if resolves else best, key=lambda a: draw(a, "chosen"))
    candidates = _candidates(scored, chosen, policy, resolves=resolves)
    if isinstance(candidates, NoPair):
        return candidates
    rejected = _rejected(candidates, chosen, policy, lambda a: draw(a, "rejected"))
    return _preference(prompt, chosen, rejected, rank=1 + sum(a.first > rejected.first for a in scored))


def _highest_second(answers: Sequence[_Scored]) -> list[_Scored]:
    high = max(a.second for a in answers if a.second is not None)
    return [a for a in answers if a.second == high]


def _candidates(scored: Sequence[_Scored], chosen: _Scored, policy: PairPolicy, *, resolves: bool) -> list[_Scored] | NoPair:
    """The answers that may be rejected."""

    def is_worse(a: _Scored) -> bool:
        if a is chosen or a.first != chosen.first:
            return a is not chosen
        if resolves:
            return a.second is not None and chosen.second is not None and a.second < chosen.second
        return policy.ties == "keep"

    worse = [a for a in scored if is_worse(a)]
    if not worse:
        return NoPair("all answers tie")
    others = [a for a in worse if a.text != chosen.text]
    if not others:
        return NoPair("every answer that may be rejected says the same as the best")
    far = [a for a in others if chosen.first - a.first >= _exact(policy.min_margin)]
    return far or NoPair("no other answer is min_margin below the best")


def _rejected(candidates: Sequence[_Scored], chosen: _Scored, policy: PairPolicy, draw: Callable[[_Scored], float]) -> _Scored:
    """One of the candidates."""
    if policy.rejected == "margin_weighted":
        return _by_margin(candidates, chosen, policy, draw)
    if policy.rejected == "random":  # not the worst: paper, section 4.1
        return min(candidates, key=draw)
    sign = 1 if policy.rejected == "lowest" else -1
    end = min(sign * a.first for a in candidates)
    equal = [a for a in candidates if sign * a.first == end]
    if policy.ties == "second" and all(a.second is not None for a in equal):
        return min(equal, key=lambda a: (sign * (a.second or 0), draw(a)))
    return min(equal, key=draw)


def _by_margin(candidates: Sequence[_Scored], chosen: _Scored, policy: PairPolicy, draw: Callable[[_Scored], float]) -> _Scored:
    """Drawn in proportion to the distance: each waits a time of its own, exponential with the distance as its rate; the first is taken.

    Which one that is does not depend on their order, and where all distances are equal it is the one that `random` takes.
    """
    distances = [chosen.first - a.first for a in candidates]
    if not any(distances) and policy.ties == "second":
        distances = [(chosen.second or 0) - (a.second or Fraction()) for a in candidates]
    if not any(distances):
        return min(candidates, key=draw)
    far = [(-math.log1p(-draw(a)) / float(distance), a) for a, distance in zip(candidates, distances, strict=True) if distance]
    return min(far, key=lambda timed: timed[0])[1]


def _preference(prompt: RatedPrompt, chosen: _Scored, rejected: _Scored, rank: int) -> Preference:
    user: Message = {"role": "user", "content": prompt.prompt}
    return Preference(
        prompt=prompt.prompt,
        prompt_id=prompt.prompt_id,
        chosen=(user, {"role": "assistant", "content": chosen.answer.response}),
        rejected=(user, {"role": "assistant", "content": rejected.answer.response}),
        score_chosen=float(chosen.first),
        score_rejected=float(rejected.first),
        source=prompt.source,
        category=prompt.category,
        chosen_from=_lineage(chosen),
        rejected_from=_lineage(rejected),
        rejected_rank=rank,
        answer_count=len(prompt.completions),
    )


def _lineage(a: _Scored) -> Lineage:
    return Lineage(a.answer.model, a.answer.principle, a.answer.rating, a.position)


# --- ready-made pairs --------------------------------------------------------------------------------------------


def checked(pair: Preference, policy: PairPolicy) -> Preference | NoPair:
    """A ready-made pair, or why it is left out: by its two scores, which are believed; without them nothing is known against it.

    A tie is left out, kept, or resolved by the second score of the raw ratings that the pair carries, as `ties` says.
    """
    if pair.score_chosen is None or pair.score_rejected is None:
        return pair
    gap = _exact(pair.score_chosen) - _exact(pair.score_rejected)
    if gap < 0:
        return NoPair("the rejected answer has the higher score")
    if gap == 0 and not (policy.ties == "keep" or (policy.ties == "second" and _second_gap(pair, policy) > 0)):
        return NoPair("the scores tie")
    return pair if gap >= _exact(policy.min_margin) else NoPair("the scores differ by less than min_margin")


def _second_gap(pair: Preference, policy: PairPolicy) -> Fraction:
    """By how much the chosen answer has the higher second score; 0 where one has none."""
    chosen, rejected = (_second_score(origin.rating, policy) for origin in (pair.chosen_from, pair.rejected_from))
    return Fraction() if chosen is None or rejected is None else chosen - rejected


# --- caps ------------------------------------------------------------------------------------------------------


def cap_of(source: str, policy: PairPolicy) -> int | None:
    """The most pairs of a source, None where there is no limit."""
    return policy.max_per_source.get(source, policy.max_per_source.get("*"))


def over_caps(pairs: Sequence[Preference], policy: PairPolicy, seed: int) -> list[int]:
    """The indices of the pairs that are too many of their source, in order.

    Which stay is decided by a hash of their prompts: a larger cap only adds to what a smaller one keeps, and of the pairs of a part of the
    prompts all stay that stay of the whole.
    """
    by_source: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        by_source.setdefault(pair.source, []).append(i)
    left: list[int] = []
    for source, members in by_source.items():
        cap = cap_of(source, policy)
        if cap is not None and len(members) > cap:
            left += sorted(members, key=lambda i: (seeded_unit(seed, "cap", pairs[i].prompt_id), pairs[i].pair_id))[cap:]
    return sorted(left)
