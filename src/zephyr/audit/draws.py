"""What can be seen in pairs beside the answers they were drawn from: from which places and models the rejected ones come.

A tool that draws the rejected answer with a generator that is seeded anew for every prompt draws the same place every time, and its
"random" is none. Where the answers that a pair was drawn from are known, a draw at random is as likely to come to any answer that scores
less than the chosen one; so the places among those are counted, for each number of them apart, and compared with equal shares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zephyr.audit.checks import Item
from zephyr.audit.findings import EXAMPLES, Example, Finding, Level, Table, excerpt, unknown
from zephyr.audit.measures import ALPHA, ENOUGH, FIXED, binomial_tail, chi_square_tail, uniformity
from zephyr.audit.rows import Pair, Rated, exact_key, key_of

# a place's share over an equal one that is large enough to matter
EXCESS = 0.15
# the same where the pairs record places but not what the other answers scored: good ones tie with the best and are not drawn
UNSCORED_EXCESS = 0.3


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a rated answer."""

    key: int
    model: str
    mean: float | None
    overall: float | None


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What is kept of a pair."""

    where: str
    prompt: int
    keys: tuple[int, int]
    models: tuple[str, str]
    positions: tuple[int | None, int | None]
    count: int | None
    rank: int | None
    says: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a rejected answer stood among those it could have been, `at` from 0; whether it scores lowest, or highest, of them."""

    at: int
    among: int
    lowest: bool = False
    highest: bool = False


class Draws:
    """From which place, and from which model, the rejected answers come."""

    def __init__(self) -> None:
        self._pairs: list[_Drawn] = []
        self._answers: dict[int, list[tuple[_Known, ...]]] = defaultdict(list)

    def see(self, item: Item) -> None:
        """Take a pair, or rated answers, into account."""
        if item.rated is not None:
            self.know(item.rated)
        if (pair := item.pair) is not None and not pair.identical:
            self._pairs.append(_drawn(item, pair))

    def know(self, rated: Rated) -> None:
        """Rated answers that pairs were drawn from."""
        self._answers[key_of(rated.prompt)].append(tuple(_Known(exact_key(a.text), a.model, a.mean, a.overall) for a in rated.answers))

    def findings(self) -> list[Finding]:
        """Two."""
        matched = [(pair, found) for pair in self._pairs if (found := self._source(pair))]
        places = [(pair, place) for pair, (answers, c, r) in matched if (place := _place(answers, c, r))]
        by_place = _by_place(places) if places else self._by_column(bool(self._answers))
        models = {id(pair): (answers[c].model, answers[r].model) for pair, (answers, c, r) in matched}
        return [by_place, _by_model([(pair, pair.models if all(pair.models) else models.get(id(pair), ("", ""))) for pair in self._pairs])]

    def _source(self, pair: _Drawn) -> tuple[tuple[_Known, ...], int, int] | None:
        """The answers a pair was drawn from, and which of them are chosen and rejected."""
        for answers in self._answers.get(pair.prompt, ()):
            found = [_index(answers, key, model) for key, model in zip(pair.keys, pair.models, strict=True)]
            if found[0] is not None and found[1] is not None:
                return answers, found[0], found[1]
        return None

    def _by_column(self, rated: bool) -> Finding:
        """The same from positions that the pairs themselves record."""
        name, unit = "rejected_by_position", "pairs whose rejected answer has a place"
        if not self._pairs:
            return unknown(name, unit, "Not recorded: no row has a pair of two different answers.")
        known = [(pair, pair.positions[1]) for pair in self._pairs if pair.positions[1] is not None]
        if not known:
            why = (
                "no pair's answers are among the rated ones"
                if rated
                else "neither rated answers (`--ratings FILE`) nor a `rejected_position`"
            )
            return unknown(name, unit, f"Not recorded: {why}.")
        both = [(pair, *pair.positions) for pair in self._pairs if None not in pair.positions]
        if len(both) == len(known):
            return _by_place(_recorded([(pair, c, r) for pair, c, r in both if c is not None and r is not None]), excess=UNSCORED_EXCESS)
        return _by_bound([(pair, place) for pair, place in known if place is not None])


def _drawn(item: Item, pair: Pair) -> _Drawn:
    models, positions = (pair.chosen_model, pair.rejected_model), (pair.chosen_position, pair.rejected_position)
    keys, count, rank = item.answer_keys, pair.answer_count, pair.rejected_rank
    return _Drawn(item.where, item.prompt_key, keys, models, positions, count, rank, excerpt(pair.prompt, 40))


def _recorded(pairs: Sequence[tuple[_Drawn, int, int]]) -> list[tuple[_Drawn, _Place]]:
    """Places that the pairs record, among as many answers as they say there were, or else as there are places in all."""
    values = [value for _, *places in pairs for value in places]
    low = min(1, min(values))  # counted from 0 or from 1
    found = []
    for pair, c, r in pairs:
        count = pair.count or max(values) - low + 1
        if c != r and count > 2 and max(c, r) - low < count:
            found.append((pair, _Place(r - low - (r > c), count - 1, pair.rank == count, pair.rank == 2)))
    return found


def _index(answers: Sequence[_Known], key: int, model: str) -> int | None:
    found = [i for i, answer in enumerate(answers) if answer.key == key]
    return next((i for i in found if model and answers[i].model == model), found[0] if found else None)


def _place(answers: Sequence[_Known], chosen: int, rejected: int) -> _Place | None:
    """The place among the answers that score less than the chosen one by whatever score there is, and say something else.

    A draw among all others, too, is even among these, so nothing has to be known of the rule that made the pair. None where the rejected
    answer is not among them, or alone.
    """
    best = answers[chosen]
    others = [i for i, answer in enumerate(answers) if answer.key != best.key and _less(answer, best)]
    if rejected not in others or len(others) < 2:
        return None
    it = answers[rejected]
    lowest, highest = not any(_less(answers[i], it) for i in others), not any(_less(it, answers[i]) for i in others)
    return _Place(others.index(rejected), len(others), lowest, highest)


def _less(one: _Known, other: _Known) -> bool:
    """Whether an answer scores less by every score that both have; where neither has any, it may."""
    scores = ((one.mean, other.mean), (one.overall, other.overall))
    both = [(a, b) for a, b in scores if a is not None and b is not None]
    return all(a < b for a, b in both) if both else all(score is None for pair in scores for score in pair)


# --- places --------------------------------------------------------------------------------------------------------


def _by_place(places: Sequence[tuple[_Drawn, _Place]], *, excess: float = EXCESS) -> Finding:
    name, unit = "rejected_by_position", "pairs with other answers to choose from"
    counts = {among: [0] * among for among in sorted({place.among for _, place in places})}
    for _, place in places:
        counts[place.among][place.at] += 1
    # too few of a kind tell nothing, and chi-square is no good approximation for them
    used = {among: group for among, group in counts.items() if sum(group) >= max(ENOUGH, 5 * among)}
    if not used:
        return unknown(
            name, unit, f"Not judged: fewer than {ENOUGH} pairs whose rejected answer was one of several, all of which score less."
        )
    statistic, df = uniformity(list(used.values()))
    p, of = chi_square_tail(statistic, df), sum(map(sum, used.values()))
    lowest, highest = (sum(rank) / of for rank in zip(*((pl.lowest, pl.highest) for _, pl in places if pl.among in used), strict=True))
    numbers = {
        "chi_square": statistic,
        "df": df,
        "p": p,
        "lowest": lowest,
        "highest": highest,
        "places": {str(among): group for among, group in used.items()},
    }
    shares = {among: max(group) / sum(group) for among, group in used.items()}
    top = max(used, key=lambda among: shares[among] - 1 / among)
    if p >= ALPHA or shares[top] - 1 / top < excess:
        says = f"The places of the rejected answers differ by no more than chance does.{_worst(lowest)}"
        return Finding(name, "clear", 0, of, unit, says, numbers=numbers, table=_place_table(used), measure=True)
    # a rule that rejects the lowest draws no places; but rows that are sorted by score look like it, and there the place is always one
    level: Level = "note" if max(lowest, highest) >= FIXED > shares[top] else "problem"
    says, advice = _place_words(level, used[top], lowest)
    at = {among: group.index(max(group)) for among, group in used.items()}
    usual = [(pair, place) for pair, place in places if at.get(place.among) == place.at]
    examples = tuple(Example(pair.where, f"place {place.at + 1} of {place.among}: {pair.says}") for pair, place in usual[:EXAMPLES])
    return Finding(name, level, len(usual), of, unit, says, advice, examples, numbers, _place_table(used), measure=True)


def _worst(lowest: float) -> str:
    return f" The rejected answer is the lowest in score in {lowest:.1%} of all." if lowest else ""


_ANEW = (
    "If it was meant to be random, it is not: a generator that is seeded anew for each prompt draws the same place every time. "
    "Make the pairs again, each drawn by a hash of seed and prompt id, as `zephyr binarize` does."
)


def _place_words(level: Level, group: Sequence[int], lowest: float) -> tuple[str, str]:
    """What a group of pairs whose rejected answers stand in uneven places means, and what to do."""
    among, n, at = len(group), sum(group), group.index(max(group))
    says = (
        f"Of {among} answers that could have been rejected, number {at + 1} was in {group[at] / n:.1%} of {n:,} pairs; "
        f"by chance it is {1 / among:.1%}.{_worst(lowest)}"
    )
    if level == "note":
        return says, "If rejecting by score is the policy, this only says that the answers are not in a random order."
    return says, _ANEW


def _place_table(used: dict[int, list[int]]) -> Table:
    widest = max(used)
    rows = [(f"{among}", *(f"{n:,}" for n in group), *[""] * (widest - among)) for among, group in used.items()]
    return Table(("could have been rejected", *(f"place {i + 1}" for i in range(widest))), tuple(rows))


def _by_bound(known: Sequence[tuple[_Drawn, int]]) -> Finding:
    """Where only the rejected answers' places are known, among `k`: a random one of the others is at one place in 1 / (k - 1) at most."""
    name, unit = "rejected_by_position", "pairs whose rejected answer has a place"
    counts = Counter(place for _, place in known)
    k = max(counts) + (1 if 0 in counts else 0)  # counted from 0 or from 1; without a 0 in them, rather from 1
    place, most = counts.most_common(1)[0]
    if len(known) < ENOUGH or (k < 3 and len(counts) > 1):
        return unknown(name, unit, f"Not judged: fewer than {ENOUGH} pairs, or no more than two places.")
    bound, share = 1 / max(k - 1, 2), most / len(known)
    p = min(1.0, binomial_tail(most, len(known), bound) * max(k, 2))
    says = f"The rejected answer is at place {place} in {share:.1%}; a random one of the others would be there in at most {bound:.1%}."
    numbers = {"p": p, "bound": bound}
    table = Table(("place", "rejected"), tuple((str(at), f"{n:,}") for at, n in sorted(counts.items())))
    if p >= ALPHA or share - bound < EXCESS:
        return Finding(name, "clear", 0, len(known), unit, says, numbers=numbers, table=table, measure=True)
    usual = [pair for pair, at in known if at == place][:EXAMPLES]
    examples = tuple(Example(pair.where, f"place {place}: {pair.says}") for pair in usual)
    return Finding(name, "problem", most, len(known), unit, says, _ANEW, examples, numbers, table, measure=True)


# --- models --------------------------------------------------------------------------------------------------------


def _by_model(pairs: Iterable[tuple[_Drawn, tuple[str, str]]]) -> Finding:
    name, unit = "rejected_by_model", "pairs whose two models are known"
    known = [(pair, models) for pair, models in pairs if all(models)]
    if not known:
        return unknown(name, unit, "Not recorded: neither `chosen_model` and `rejected_model` nor rated answers with their models.")
    beaten: dict[str, Counter[str]] = defaultdict(Counter)
    for _, (chosen, rejected) in known:
        beaten[chosen][rejected] += 1
    usual = {chosen: counter.most_common(1)[0] for chosen, counter in beaten.items()}
    most = sum(n for _, n in usual.values())
    all_models = {model for _, models in known for model in models}
    fixed = len(all_models) > 2 and len(beaten) > 1 and len(known) >= ENOUGH and most >= FIXED * len(known)
    if not fixed:
        says = "How often each model's answers were chosen and rejected; who is rejected does not follow from who is chosen."
        return Finding(name, "note", 0, len(known), unit, says, table=_models(known), measure=True)
    says = f"Which model is rejected follows from which is chosen, in {most / len(known):.1%} of the pairs, among {len(all_models)} models."
    advice = "If the rejected answer was meant to be a random one, it is not: look at how it is drawn, and in which order answers stand."
    usually = [(pair, c, r) for pair, (c, r) in known if usual[c][0] == r][:EXAMPLES]
    examples = tuple(Example(pair.where, f"{r} where {c} is chosen: {pair.says}") for pair, c, r in usually)
    return Finding(name, "problem", most, len(known), unit, says, advice, examples, table=_models(known), measure=True)


def _models(known: Sequence[tuple[_Drawn, tuple[str, str]]]) -> Table:
    chosen, rejected = (Counter(models[i] for _, models in known) for i in (0, 1))
    order = sorted(set(chosen) | set(rejected), key=lambda m: (-chosen[m] / (chosen[m] + rejected[m]), m))
    rows = [(m, f"{chosen[m]:,}", f"{rejected[m]:,}", f"{chosen[m] / (chosen[m] + rejected[m]):.1%}") for m in order]
    return Table(("model", "chosen", "rejected", "chosen of all"), tuple(rows))
