"""AlpacaEval results in words; no number stands without its interval."""

from __future__ import annotations

from zephyr.evals.counts import agree
from zephyr.records import Row


def describe(r: Row) -> str:
    """What `zephyr score alpaca-eval` prints."""
    error = "" if r["standard_error"] is None else f", standard error {r['standard_error']:.3f}"
    # an instruction that was judged twice counts once, but by the original's reading, which counts rows
    units = ("row", "rows") if r["compatible"] else ("instruction", "instructions")
    lines = [
        f"{r['model']} against {r['baseline']}, judged by {r['annotator'] or 'a judge that is not named'}",
        f"  win rate {_number(r['win_rate'], r['ci95'])}{error}, of {r['n_total']} {agree(r['n_total'], *units)} with a verdict "
        f"({r['n_wins']} won, {r['n_wins_base']} lost, {r['n_draws']} drawn; "
        f"{r['n_null']} {agree(r['n_null'], 'row', 'rows')} without one)",
    ]
    lc = r["length_controlled"]
    if r["length_controlled_winrate"] is None:
        lines.append(f"  length-controlled: not known ({lc['reason']})")
    else:
        lines.append(f"  length-controlled {_number(r['length_controlled_winrate'], lc['ci95'])} ({lc['method']})")
    if r["n_null"]:
        filled = [f"{name} {_number(v['win_rate'], v['ci95'])}" for name, v in r["nulls_as"].items()]
        lines.append(f"  without a verdict: {', '.join(filled)}")
    lines += [f"  {name:14} {_number(value, r['by_dataset_ci95'][name])}" for name, value in r["by_dataset"].items()]
    o = r["order"]
    lines.append(
        f"  shown first {_number(o['win_rate_shown_first'], o['win_rate_shown_first_ci95'])}, "
        f"shown second {_number(o['win_rate_shown_second'], o['win_rate_shown_second_ci95'])}"
    )
    if "consistent" in o:
        lines.append(f"  both orders agree in {_number(o['consistent'], o['consistent_ci95'])} of {o['n']} pairs")
    if longer := r["longer_wins"]:
        lines.append(f"  the longer output wins {_number(longer['share'], longer['ci95'])} of {longer['n']} decided pairs")
    if published := r.get("published"):
        known = [
            f"{name} {published[key]:.4f} (ours {published[key + '_difference']:+.2g})"
            for name, key in (("win rate", "win_rate"), ("length-controlled", "length_controlled_winrate"))
            if published[key] is not None and published[key + "_difference"] is not None
        ]
        lines.append(f"  published: {', '.join(known)}")
    if other := r.get("against"):
        lines.append(f"  {other['in_words']} (paired standard error {other['paired_se']:.2f}, unpaired {other['unpaired_se']:.2f})")
    lines.append(
        "In brackets: 95% intervals over instructions." + (" Counted as the original does (--compatible)." if r["compatible"] else "")
    )
    return "\n".join(lines)


def _number(value: float | None, ci: list[float] | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2f}% " + (f"[{ci[0]:.2f}, {ci[1]:.2f}]" if ci else "[no interval]")
