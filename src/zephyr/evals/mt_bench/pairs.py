"""MT-Bench win rates of pairs judged in both orders: how often the order decided, and what is left of the difference.

The original calls a pair a tie where the two orders disagree, and leaves out a pair where either reply held no verdict (`compatible`).
Here each order counts half: a win in one order and a tie in the other is three quarters of a win. Pairs with one verdict
only are left out too, for one order alone carries the judge's liking for a position; they are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zephyr.errors import DataError
from zephyr.evals.asks import CANARY
from zephyr.evals.counts import agree
from zephyr.evals.mt_bench import verdicts
from zephyr.evals.mt_bench.records import Cell, Id, PairJudgment, Question, category_of, refuse_unknown, wanted_cells
from zephyr.evals.statistics import Estimate, Group, rate, share
from zephyr.records import Row

_POINTS = {"model_1": 1.0, "tie": 0.5, "model_2": 0.0}


@dataclass(frozen=True)
class Game:
    """Both verdicts of a pair, each `model_1`, `model_2`, `tie` or `error`."""

    judgment: PairJudgment
    first: str
    second: str

    @property
    def valid(self) -> bool:
        """Whether both replies hold a verdict."""
        return "error" not in (self.first, self.second)

    def points(self, compatible: bool) -> float:
        """What model_1 gets, from 0 to 1."""
        if compatible:
            return _POINTS[self.first] if self.first == self.second else 0.5
        return (_POINTS[self.first] + _POINTS[self.second]) / 2


def read(judgment: PairJudgment, *, compatible: bool) -> Game:
    """The verdicts of both games: from the replies where the file has them, else as recorded."""
    found = []
    for game, (reply, recorded) in enumerate(zip(judgment.judgments, judgment.winners, strict=True), 1):
        if reply is None:
            found.append(recorded)
        elif compatible:
            found.append(verdicts.winner(verdicts.pair_compatible(reply), game))
        else:
            value = verdicts.pair(reply).value
            found.append(verdicts.winner(value, game) if isinstance(value, str) else "error")
    return Game(judgment, found[0], found[1])


def score(judgments: Sequence[PairJudgment], *, compatible: bool = False, questions: Mapping[Id, Question] | None = None) -> dict[str, Row]:
    """Win rates (0 to 100) of every model against those it was compared with.

    Args:
        judgments: of one judge.
        compatible: read and count as FastChat's `show_result.py --mode pairwise-all` does; its `win_rate_adjusted` is our `win_rate`.
        questions: what was to be judged; by default the eighty of MT-Bench, if no other id appears.

    Returns:
        For each model, best first, the object that docs/scores.md describes; games of the canary count for its own alone.

    Raises:
        DataError: judgments of several judges (not if `compatible`), or of a question that is none of `questions`.
    """
    refuse_unknown(judgments, questions)
    names = sorted({j.judge[0] for j in judgments})
    if len(names) > 1 and not compatible:
        raise DataError(f"{judgments[0].where}: judged by {', '.join(names)}; give --judge to choose one")
    games = [read(judgment, compatible=compatible) for judgment in judgments]
    models = dict.fromkeys(name for j in judgments for name in (j.model_1, j.model_2))
    # what the canary lost, its opponents have not earned: their rates and what the order did are without it
    without = [game for game in games if CANARY not in (game.judgment.model_1, game.judgment.model_2)]
    played = {model: games if model == CANARY else without for model in models}
    against_others = {name for game in without for name in (game.judgment.model_1, game.judgment.model_2)}
    wanted = wanted_cells(judgments, questions)
    results = {m: _result(m, played[m], wanted, compatible, questions) for m in models if m == CANARY or m in against_others}
    return dict(sorted(results.items(), key=lambda item: (item[1]["win_rate"] is None, -(item[1]["win_rate"] or 0.0), item[0])))


def _result(model: str, games: Sequence[Game], wanted: Sequence[Cell], compatible: bool, questions: Mapping[Id, Question] | None) -> Row:
    mine = [g for g in games if model in (g.judgment.model_1, g.judgment.model_2)]
    valid = [g for g in mine if g.valid]
    points = {id(g): _points(g, model, compatible) for g in valid}
    won = _over_questions(valid, lambda g: points[id(g)])
    categories: dict[str, list[Game]] = defaultdict(list)
    for g in valid:
        categories[category_of(g.judgment.question_id, questions)].append(g)
    by_category = {name: _over_questions(found, lambda g: points[id(g)]) for name, found in categories.items()}
    cells = {_cell(g) for g in mine}
    missing = [(cell, other) for other in _opponents(mine, model) for cell in wanted if (*cell, frozenset((model, other))) not in cells]
    outcome = Counter("wins" if p > 0.5 else "losses" if p < 0.5 else "ties" for p in points.values())
    filled = [_filled(mine, model, compatible, value) for value in (0.0, 0.5, 1.0)]
    result: Row = {
        "win_rate": _percent(won),
        "ci95": _percent_ci(won),
        **{name: outcome[name] for name in ("wins", "losses", "ties")},
        "by_category": {name: _percent(e) for name, e in by_category.items()},
        "by_category_ci95": {name: _percent_ci(e) for name, e in by_category.items()},
        "n": len(valid),
        "n_unparsed": len(mine) - len(valid),
        "unparsed_as": {
            name: {"win_rate": _percent(e), "ci95": _percent_ci(e)}
            for name, e in zip(("dropped", "worst", "middle", "best"), (won, *filled), strict=True)
        },
        "duplicates": len(mine) - len(cells),
        "n_missing": len(missing),
        "order": order(mine),
        "judge": sorted({"/".join(filter(None, g.judgment.judge)) for g in mine}),
        "compatible": compatible,
    }
    result["warnings"] = _warnings(model, mine, missing, result)
    return result


def order(games: Sequence[Game]) -> Row:
    """What the order did: how often both orders agree, and which position gains where they do not."""
    valid = [g for g in games if g.valid]
    agree = _over_questions(valid, lambda g: float(g.first == g.second))
    # of all verdicts for one of the two, those for the answer that was shown first
    decided: dict[Id, Group] = {}
    for g in valid:
        shown_first = [float(w == p) for w, p in ((g.first, "model_1"), (g.second, "model_2")) if w != "tie"]
        total, n = decided.get(g.judgment.question_id, (0.0, 0))
        decided[g.judgment.question_id] = total + sum(shown_first), n + len(shown_first)
    first = share(list(decided.values()))
    return {
        "consistent": _percent(agree),
        "consistent_ci95": _percent_ci(agree),
        "first_shown_wins": _percent(first),
        "first_shown_wins_ci95": _percent_ci(first),
        "first_both_times": sum((g.first, g.second) == ("model_1", "model_2") for g in valid),
        "second_both_times": sum((g.first, g.second) == ("model_2", "model_1") for g in valid),
        "n": len(valid),
    }


def longer_wins(judgments: Sequence[PairJudgment], lengths: Mapping[tuple[str, Id, int], int], *, compatible: bool = False) -> Row | None:
    """Of the pairs that are decided and differ in length, the share in which the longer answer wins (0 to 100).

    Args:
        judgments: of one judge.
        lengths: characters of the answer by (model, question, turn).
        compatible: as in `score`.
    """
    groups: dict[Id, Group] = {}
    for judgment in judgments:
        game = read(judgment, compatible=compatible)
        keys = [(name, judgment.question_id, judgment.turn) for name in (judgment.model_1, judgment.model_2)]
        if not game.valid or any(key not in lengths for key in keys):
            continue
        points, longer = game.points(compatible), lengths[keys[0]] - lengths[keys[1]]
        if points != 0.5 and longer:
            total, n = groups.get(judgment.question_id, (0.0, 0))
            groups[judgment.question_id] = total + float((points > 0.5) == (longer > 0)), n + 1
    found = share(list(groups.values()))
    return None if found is None else {"share": _percent(found), "ci95": _percent_ci(found), "n": found.items}


def _points(game: Game, model: str, compatible: bool) -> float:
    points = game.points(compatible)
    return points if model == game.judgment.model_1 else 1 - points


def _filled(games: Sequence[Game], model: str, compatible: bool, value: float) -> Estimate | None:
    return _over_questions(games, lambda g: _points(g, model, compatible) if g.valid else value)


def _over_questions(games: Sequence[Game], value: Callable[[Game], float]) -> Estimate | None:
    groups: dict[Id, Group] = {}
    for g in games:
        total, n = groups.get(g.judgment.question_id, (0.0, 0))
        groups[g.judgment.question_id] = total + value(g), n + 1
    return rate(list(groups.values()))


def _cell(game: Game) -> tuple[Id, int, frozenset[str]]:
    j = game.judgment
    return j.question_id, j.turn, frozenset((j.model_1, j.model_2))


def _opponents(games: Sequence[Game], model: str) -> list[str]:
    names = dict.fromkeys(name for g in games for name in (g.judgment.model_1, g.judgment.model_2))
    return [name for name in names if name != model]


def _percent(estimate: Estimate | None) -> float | None:
    return None if estimate is None else 100 * estimate.value


def _percent_ci(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else estimate.times(100).ci95


def _warnings(model: str, games: Sequence[Game], missing: Sequence[tuple[Cell, str]], result: Row) -> list[str]:
    said = []
    if result["n_unparsed"]:
        lack, them = agree(result["n_unparsed"], "lacks", "lack"), agree(result["n_unparsed"], "it", "them")
        said.append(
            f"{model}: {result['n_unparsed']} of {len(games)} pairs {lack} a verdict in one of the orders; the win rate leaves {them} out"
        )
    if result["duplicates"]:
        repeat = agree(result["duplicates"], "judgment repeats", "judgments repeat")
        said.append(f"{model}: {result['duplicates']} {repeat} a question, turn and opponent")
    if missing:
        held = ", ".join(f"turn {turn}: {n}" for turn, n in sorted(Counter(g.judgment.turn for g in games).items()))
        (key, turn), other = missing[0]
        said.append(
            f"{model}: a part of the judgments only ({held}); {len(missing)} {agree(len(missing), 'is', 'are')} missing, the first is "
            f"question {key} turn {turn} beside {other}"
        )
    differ = [g for g in games if g.judgment.judgments != (None, None) and (g.first, g.second) != g.judgment.winners]
    if differ:
        said.append(
            f"{model}: of {len(differ)} {agree(len(differ), 'row', 'rows')} the recorded winners are not what the replies say, the first "
            f"is {differ[0].judgment.where}"
        )
    return said
