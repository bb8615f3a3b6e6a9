"""An audit in words: for the terminal, and as a page that is complete in itself."""

from __future__ import annotations

import jinja2

from zephyr.audit.findings import Audit, Finding, Table, excerpt
from zephyr.evals.counts import agree

_TITLES = {
    "ties": "Equal scores",
    "reversed": "Reversed pairs",
    "identical": "Identical answers",
    "empty_answers": "Empty answers",
    "different_prompts": "Answers to different conversations",
    "bad_scores": "Scores that are no numbers",
    "bad_ratings": "Rated answers that cannot be read",
    "unreadable": "Rows that cannot be read",
    "duplicate_prompts": "Prompts that are there twice",
    "duplicate_pairs": "Pairs that are there twice",
    "contradictory": "Pairs that contradict another",
    "train_test_overlap": "Prompts in train and test",
    "in_benchmarks": "Prompts of benchmarks",
    "rejected_by_position": "Rejected, by place",
    "rejected_by_model": "Rejected, by model",
    "chosen_longer": "Chosen is the longer answer",
    "length_and_score": "Length and score",
    "critique_and_score": "Overall score and aspects",
    "tens_with_low_aspects": "Tens with low aspects",
    "judge_position": "The judge and the order shown",
}


def title_of(finding: Finding) -> str:
    """What a finding is called on the page."""
    return _TITLES[finding.name]


def describe(audit: Audit) -> str:
    """The audit as lines for a terminal: problems in full, what is clear in a line each."""
    lines = [_headline(audit), ""]
    for finding in audit.findings:
        ignored = " (ignored)" if finding.level == "problem" and finding.name in audit.ignored else ""
        lines.append(f"{finding.level:8} {finding.name}{ignored}: {_count(finding)}")
        if finding.level == "clear":
            continue
        lines += [f"         {finding.says}"] if finding.level != "unknown" else []
        lines += [f"           {excerpt(e.where, 200)}: {excerpt(e.what, 200)}" for e in finding.examples]
        more = finding.count - len(finding.examples)
        lines += [f"           and {more:,} more"] if finding.examples and more > 0 else []
        lines += _plain(finding.table) if finding.table and finding.level != "unknown" else []
        lines += [f"         What to do: {finding.advice}"] if finding.advice and finding.level != "unknown" else []
    return "\n".join(lines)


def _headline(audit: Audit) -> str:
    found = len(audit.problems)
    what = agree(found, "1 problem", f"{found} problems") if found else "nothing wrong"
    splits = ", ".join(f"{n:,} {split}" for split, n in audit.splits.items())
    splits = f" ({splits})" if splits else ""  # there are none where no row could be read
    rows, pairs, rated = (
        f"{n:,} {agree(n, one, one + 's')}" for n, one in ((audit.rows, "row"), (audit.pairs, "pair"), (audit.rated, "prompt"))
    )
    return f"{what} in {rows}{splits}, {pairs}, {rated} with rated answers"


def _count(finding: Finding) -> str:
    if finding.level == "unknown":
        return finding.says[0].lower() + finding.says[1:]
    if finding.measure and finding.level == "clear":
        return f"{finding.says[0].lower()}{finding.says[1:].rstrip('.')} ({finding.of:,} {finding.unit})"
    if finding.measure and not finding.count:
        return f"{finding.of:,} {finding.unit}"
    return f"{finding.count:,} of {finding.of:,} {finding.unit}"


def _plain(table: Table, most: int = 12) -> list[str]:
    """A table in columns of even width."""
    cells = [[excerpt(cell, 40) for cell in row] for row in (table.columns, *table.rows[:most])]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = [
        "           " + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return [line.rstrip() for line in lines] + ([f"           and {len(table.rows) - most:,} more"] if len(table.rows) > most else [])


def page(audit: Audit) -> str:
    """The audit as HTML without scripts or references to other files; all that others wrote is escaped."""
    loader = jinja2.PrefixLoader({name: jinja2.PackageLoader("zephyr", name) for name in ("audit", "report")})
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("audit/page.html.j2").render(
        audit=audit, headline=_headline(audit), title_of=title_of, count=_count, excerpt=excerpt
    )
