"""A curation from data to artifact, in its three passes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zephyr import progress, sources, world
from zephyr.artifacts import Draft
from zephyr.curation import compare, inputs, near, select, write
from zephyr.curation.compare import Fates
from zephyr.curation.index import index
from zephyr.curation.jobs import Job
from zephyr.curation.keep import keep
from zephyr.curation.rows import Clock, Judge, Kept, filter_names
from zephyr.curation.shapes import SHAPES
from zephyr.curation.work import LEFT_OUT, Work
from zephyr.curation.workers import done
from zephyr.errors import DataError
from zephyr.files import Unread
from zephyr.progress import say
from zephyr.recipe import Curation, DataSource

LEARN_ROWS = 2_000  # dialogues that case is learnt from, of the data itself: a minute of one processor
_MB = 1e6


def curate(
    config: Curation,
    data: Sequence[DataSource],
    out: Draft,
    *,
    against: Mapping[str, DataSource] | None = None,
    piece_bytes: int = inputs.PIECE_BYTES,
    sample: int | None = None,
) -> None:
    """Make an artifact of dialogues from data. What an earlier run that was cut has finished is not done again.

    Args:
        config: the settings.
        data: where the dialogues come from, in order.
        out: the artifact being made.
        against: benchmarks by name, whose items are left out.
        piece_bytes: how large the pieces are that processes work at. It decides nothing in what comes out.
        sample: of so many pieces of the data alone, spread evenly; None is all.

    Raises:
        DataError: rows that are not what they should be, unless they are to be dropped; or nothing is left.
    """
    folder = out.checkpoints
    _refuse(config, against or {})
    learnt = _learn_case(config, data, folder)
    pieces = inputs.pieces(data, folder / "step-unpack", piece_bytes)
    if sample is not None and len(pieces) > sample:
        pieces = [pieces[len(pieces) * i // sample] for i in range(sample)]
    work = Work(folder, config, tuple(data), dict(against or {}), tuple(pieces), learnt)
    with _tidied(folder, keeps=sum(piece.size for piece in pieces) > piece_bytes):
        _pass_through(work, out)


@contextlib.contextmanager
def _tidied(folder: Path, *, keeps: bool) -> Iterator[None]:
    """Remove the work in progress if it is no use any more: of little data, or of rows that have to be mended first."""
    try:
        yield
    except DataError:
        keeps = False
        raise
    finally:
        if not keeps:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # that of other settings lies beside it
                folder.parent.rmdir()


def _pass_through(work: Work, out: Draft) -> None:
    """Index, compare and write, and fill the artifact."""
    config, data = work.config, work.data
    _begin(work)
    processes = config.processes or min(world.processors(), len(work.pieces))
    passes = Clock()
    with passes("index"):
        _index(work, processes)
    with passes("compare"):
        fates = Fates.of(work)
        about = _resolve(fates, functools.partial(_do, work, processes), data, out)
    with passes("write"):
        _write(work, fates, processes)
    about["passes"] = {name: round(seconds, 3) for name, seconds in passes.seconds.items()}
    _fill(work, fates, out, data, about)


def _refuse(config: Curation, against: Mapping[str, DataSource]) -> None:
    """What would fail late."""
    filter_names(config)
    for source in (*against.values(), *(() if isinstance(config.truecase, str) else config.truecase)):
        sources.resolve(source.path)


def _begin(work: Work) -> None:
    """Go on with what is there, if it was begun in the same way; else begin."""
    path = work.folder / "work.json"
    before = path.read_bytes() if path.exists() else None
    work.save()
    if before is not None and path.read_bytes() != before:
        for step in ("index", "near", "write"):
            shutil.rmtree(work.folder / f"step-{step}", ignore_errors=True)


def _learn_case(config: Curation, data: Sequence[DataSource], folder: Path) -> str | None:
    """The file of what was learnt about case, or None where nothing is to be mended."""
    if not config.truecase:
        return None
    from zephyr.text.truecase import Truecaser

    path = folder / "truecase.json"
    if not path.exists():
        say("curate: learning how words are written")
        own = isinstance(config.truecase, str)
        rows = itertools.islice(_texts(data), LEARN_ROWS) if own else _texts(config.truecase)  # type: ignore[arg-type]  # or the data
        with keep(path) as aside:
            Truecaser.train(text for texts in rows for text in texts).save(aside)
    return str(path)


def _texts(data: Sequence[DataSource]) -> Iterator[list[str]]:
    """The texts of each row: its `text`, or what the assistant says."""
    judge = Judge(Curation(), data, None, Clock())
    for number, source in enumerate(data):
        for _, _, row in sources.located(source, whole=True):
            if not isinstance(row, Unread) and isinstance(row.get("text"), str):
                yield [row["text"]]
                continue
            verdict = judge.judge(number, "test", judge.shape(number, row)[1])
            if isinstance(verdict, Kept):
                yield [message["content"] for message in verdict.record.messages if message["role"] == "assistant"]


# --- the passes ------------------------------------------------------------------------------------------------


def _index(work: Work, processes: int) -> None:
    jobs: list[Job] = [{"do": "index", "number": number} for number in range(len(work.pieces))]
    finished = [job for job in jobs if work.path("index", job["number"], ".json").exists()]
    earlier = sum(work.pieces[job["number"]].size for job in finished) / _MB
    total = sum(piece.size for piece in work.pieces) / _MB
    rows = 0
    with progress.bar("read and looked at", total, "MB", done=earlier) as bar:
        left = [job for job in jobs if job not in finished] if finished else jobs
        for job, result in done(work, left, processes):
            rows += result["rows"]
            bar.advance(work.pieces[job["number"]].size / _MB, f"{rows:,} rows")
            if result["bad"] and work.config.invalid == "error" and len(work.pieces) > 1:
                _stop_early(work, job["number"])


def _stop_early(work: Work, number: int) -> None:
    """Where a wrong row is an error, the rest of the data need not be read. The first is named, whichever piece was ready first."""
    found = [i for i in range(number + 1) if any(entry["problem"] for entry in index(work, i)["aside"])]
    seen = Work(work.folder, work.config, work.data, work.against, work.pieces[: found[0] + 1], work.cases)
    fates = Fates.of(seen)
    _raise(fates, [(row, entry["problem"]) for row, entry in fates.asides() if entry["problem"]], "read so far")


def _do(work: Work, processes: int, label: str, jobs: list[Job]) -> None:
    with progress.bar(label, len(jobs), "pieces") as bar:
        for _ in done(work, jobs, processes):
            bar.advance()


def _resolve(fates: Fates, do: near.Jobs, data: Sequence[DataSource], out: Draft) -> dict[str, Any]:
    """Decide what stays."""
    work, config, about = fates.work, fates.work.config, dict[str, Any]()
    drops = config.invalid == "drop"
    bad = compare.compare(fates)
    if bad and not drops:
        _raise(fates, bad)
    if config.gate.on_match == "error":
        _refuse_contaminated(fates)
    if found := compare.draw_apart(fates, drops=drops):
        count, train, test = found
        raise sources.in_both(count, fates.place(train), fates.place(test), may_drop=True)
    for kind, settings in work.near().items():
        about[f"{kind}_compared"] = near.leave_out_near(fates, kind, settings, do)
    if config.select:
        about["selection"] = select.select(fates, config.select)
    if not len(fates.kept()):
        out.set_aside(fates.counts())
        raise DataError(f"no usable rows in {sources.names_of(data)}{out.why_dropped()}")
    return about


def _raise(fates: Fates, bad: Sequence[tuple[int, str]], of: str = "") -> None:
    row, problem = bad[0]
    raise sources.unusable((fates.place(row), problem), len(bad), f"{len(fates.fate)} rows {of}".rstrip(), may_drop=True)


def _refuse_contaminated(fates: Fates) -> None:
    found = [(row, entry["match"]) for row, entry in fates.asides() if "match" in entry]
    if found:
        row, match = found[0]
        more = f"; {len(found)} dialogues hold one" if len(found) > 1 else ""
        raise DataError(
            f"{fates.place(row)}: message {match['message']} is an item of the benchmark {match['benchmark']} ({match['comparison']}): "
            f"{match['item'][:80]!r}{more}; take them out, or set `gate.on_match: drop`"
        )


def _write(work: Work, fates: Fates, processes: int) -> None:
    write.save(fates)
    files = {split: -(-n // write.FILE_ROWS) for split, n in write.rows_out(work).items()}
    jobs: list[Job] = [{"do": "split", "split": split, "number": i} for split, n in files.items() for i in range(n)]
    jobs += [{"do": "rest", "number": number} for number in range(len(work.pieces))]
    _do(work, processes, "written", jobs)


# --- into the artifact -----------------------------------------------------------------------------------------


def _fill(work: Work, fates: Fates, out: Draft, data: Sequence[DataSource], about: dict[str, Any]) -> None:
    """The files, the counts, and what the reader of the report should know."""
    splits = write.SPLITS if work.config.gen_fraction else write.SPLITS[:2]
    write.publish(work, splits, out.path)
    rows = write.rows_out(work)
    out.manifest.rows_in = len(fates.fate)
    out.manifest.rows_out = {split: rows[split] for split in splits}
    out.set_aside(fates.counts())
    for number, source in enumerate(data):
        sources.note_unpinned(source, out)
        mine = [i for i, piece in enumerate(work.pieces) if piece.source == number]
        left_out = sum(int(np.count_nonzero(work.rows(i)["fate"] == LEFT_OUT)) for i in mine)
        if left_out:
            out.note(f"{source.path}: {left_out} train rows were left out, for its weight in the mixture is {source.weight:g}.")
    if work.config.test_fraction and not rows["test"] + rows["test_gen"] and (drawn := int(np.count_nonzero(fates.column("drawn")))):
        split_of = f"the split of {drawn} {'row' if drawn == 1 else 'rows'} was drawn, and none is left in the test"
        out.note(
            f"No test rows: test_fraction is {work.config.test_fraction:g}, {split_of}. Give more rows, a larger share or a test file."
        )
    out.manifest.results = _results(work, fates) | about


def _results(work: Work, fates: Fates) -> dict[str, Any]:
    kept = fates.kept()
    turns = fates.column("turns")[kept]
    found: dict[str, Any] = {"mean_turns": float(turns.mean()), "multi_turn": int(np.count_nonzero(turns > 3))}
    shapes = np.bincount(fates.column("shape"), minlength=len(SHAPES) + 1)
    used = {name: int(n) for name, n in zip(SHAPES, shapes, strict=False) if n}
    if set(used) - {"messages"}:
        found["shapes"] = used
    if work.config.truecase:
        mended = fates.column("words")[kept] > 0
        found["truecased"] = {"dialogues": int(mended.sum()), "share": round(float(mended.mean()), 6)}
    if work.config.select:
        found["topics"] = _topics(work, fates, kept)
    found["seconds"] = _seconds(work)
    return found


def _topics(work: Work, fates: Fates, kept: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, int]:
    """How many of each topic stay, the most frequent first."""
    names: dict[str, str] = {}
    for number in range(len(work.pieces)):
        names |= work.about(number)["topics"]
    keys, counts = np.unique(fates.column("topic")[kept], return_counts=True)
    of = {names[str(key)]: int(n) for key, n in zip(keys, counts, strict=True)}
    return dict(sorted(of.items(), key=lambda item: (-item[1], item[0])))


def _seconds(work: Work) -> dict[str, float]:
    """What the steps of the first pass took, summed over processes: of the work that this artifact needed, in however many runs."""
    total: Counter[str] = Counter()
    for number in range(len(work.pieces)):
        total.update(work.about(number)["seconds"])
    return {step: round(seconds, 3) for step, seconds in sorted(total.items())}
