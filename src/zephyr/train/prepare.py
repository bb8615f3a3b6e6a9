"""Dialogues made ready to be learnt: chosen, written in the chat format, tokenized, put on disk; packed when they are read.

What is done is kept beside the checkpoints until the model is there, so that a run that was cut finds it. Rows are read one at a time
and leave in ids: a million of them take no more memory than a few.

Tokenizers work outside of Python's lock, so that threads of one process are enough for all cores. Many rows go to a process of their
own, which holds neither torch nor what else has come with it; it reads its orders from stdin:

    python -m zephyr.train.prepare
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zephyr import errors, world
from zephyr.artifacts import Draft
from zephyr.errors import ZephyrError
from zephyr.progress import bar
from zephyr.recipe import DataSource, SFTConfig
from zephyr.records import Dialogue
from zephyr.sources import Located
from zephyr.train import prepared, rows
from zephyr.train.prepared import Packs, Split, Writer

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef
    from zephyr.text.chat import ChatFormat

T = TypeVar("T")

BATCH = 32  # dialogues in a call of the tokenizer
MOST_THREADS = 8  # templates are written under Python's lock, a fifth of the work
MANY = 2000  # rows that are worth the start of a process, some seconds


@dataclass(frozen=True)
class Work:
    """What is to be prepared, and with what."""

    data: Sequence[DataSource]
    model: ModelRef
    chat_template: str
    config: SFTConfig
    folder: Path
    key: str


def load_chat(work: Work) -> ChatFormat:
    """The chat format, of a model that can take sequences of that length.

    Raises:
        ModelError: it cannot, or has no tokenizer or template that will do.
    """
    from zephyr.models import load

    load.refuse_longer(work.model, {"sft.max_length": work.config.max_length})
    return load.load_chat(work.model, work.chat_template)


def dialogues(work: Work, chat: Callable[[], ChatFormat], out: Draft) -> tuple[Packs, Packs]:
    """The train and the test dialogues, in all processes of a job; the first prepares them, unless that was done before.

    The test split is not packed: its loss is the same either way.

    Args:
        work: what is to be prepared.
        chat: loads the chat format, where it is needed in this process.
        out: the artifact being made; it counts the rows and keeps those that are left out.

    Raises:
        ZephyrError: a bad row, or a model without a tokenizer or template that will do; in all processes.
    """
    failed: Exception | None = None
    if world.current().leads:
        try:
            _prepare(work, chat, out)
        except sqlite3.Error as error:  # of the nameless database that finds what is there twice
            failed = ZephyrError(f"the folder for temporary files (TMPDIR) does not hold what finding repeated rows needs ({error})")
        except Exception as error:  # whatever it is, the other processes must not wait for what will not come
            failed = error
    if (told := world.share(failed)) is not None:
        raise failed or told
    train, test = (Split(work.folder, split) for split in prepared.SPLITS)
    return Packs(train, work.config.max_length if work.config.packing else None), Packs(test, None)


def _prepare(work: Work, chat: Callable[[], ChatFormat], out: Draft) -> None:
    fates = rows.survey(work.data, out)
    seal = prepared.seal_of(work.folder, work.key)
    if seal is None:
        if len(fates) >= MANY and "torch" not in sys.modules:
            _write_elsewhere(work, fates)
        else:
            write(work, fates, chat())
        seal = prepared.seal_of(work.folder, work.key)
        assert seal is not None, f"{work.folder} is not what was just written there"
    tell(work, seal, out)


def tell(work: Work, seal: Mapping[str, Any], out: Draft) -> None:
    """Count what was left out and what was cut, be it now or before this run was cut."""
    for row in prepared.refused(work.folder):
        out.drop(row["reason"], row["where"], row["row"])
    for split, cut in seal["cut"].items():
        out.manifest.results.setdefault("cut", {})[split] = {"dialogues": cut}
        if cut:
            limit = f"sft.max_length ({work.config.max_length} tokens)"
            out.note(f"{cut} {split} dialogues lost their last exchanges: they were longer than {limit}.")


def write(work: Work, fates: bytes, chat: ChatFormat, parent: int | None = None) -> None:
    """Encode the rows and put them on disk; with `parent`, as long as that is the parent of this process."""
    items = rows.each(work.data, fates)
    with Writer(work.folder, work.key) as to:
        write_rows(items if parent is None else _while_wanted(items, parent), len(fates), chat, work.config, to)
        if parent not in (None, os.getppid()):  # nobody waits for it, and another may be at the same work
            raise SystemExit(1)
        to.publish()


def write_rows(items: Iterable[tuple[int, Located[Dialogue]]], total: int, chat: ChatFormat, config: SFTConfig, to: Writer) -> None:
    """Encode rows, some at a time on each core, and write them in their order."""
    from zephyr.train import encode

    def encoded(batch: Sequence[tuple[int, Located[Dialogue]]]) -> list[encode.Encoded | str]:
        return encode.dialogues([item.record for fate, item in batch if fate in rows.SPLITS], chat, config)

    with bar("prepare", total, "rows") as progress:
        for batch, found in _in_order(encoded, _batches(items)):
            ready = iter(found)
            for fate, item in batch:
                row = next(ready) if fate in rows.SPLITS else "the prompt is in the test split, too"
                if isinstance(row, str):
                    to.refuse(row, item.where, item.record.row())
                else:
                    spans = prepared.spans_of(row.tokens.learnt)
                    to.add(rows.SPLITS[fate], name_of(item.record), row.tokens.ids, spans, cut=row.cut)
            progress.advance(len(batch))


def name_of(record: Dialogue) -> str:
    """What a dialogue is called in errors; its own also where others begin with the same prompt, for the order of an epoch hangs on it."""
    own = record.identity
    return own if own == record.prompt_id else f"{record.prompt_id} ({own[:12]})"


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _in_order(function: Any, batches: Iterable[T]) -> Iterator[tuple[T, Any]]:
    """Each batch with what the function makes of it, as many at once as there are cores, few ahead of what was asked for."""
    threads = min(world.processors(), MOST_THREADS)
    waiting: deque[tuple[T, Future[Any]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(function, batch)))
                if len(waiting) > threads:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# --- in a process of its own -----------------------------------------------------------------------------------


def _write_elsewhere(work: Work, fates: bytes) -> None:
    """The same in a process without torch.

    Raises:
        ZephyrError: as `write` raises it.
    """
    order = {
        "data": [source.model_dump() for source in work.data],
        "model": asdict(work.model),
        "chat_template": work.chat_template,
        "config": work.config.model_dump(),
        "folder": str(work.folder.absolute()),
        "key": work.key,
        "fates": fates.hex(),
        "parent": os.getpid(),
    }
    # it imports from where this one does, not from the working directory, and transformers need not say that it has no torch
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONSAFEPATH": "1",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    }
    command = [sys.executable, "-m", "zephyr.train.prepare"]
    with tempfile.TemporaryFile("w+") as orders, tempfile.TemporaryFile("w+") as answer:
        json.dump(order, orders)
        orders.seek(0)
        process = subprocess.Popen(command, stdin=orders, stdout=answer, env=environment)
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C, SIGTERM
            process.kill()
            process.wait()
            raise
        answer.seek(0)
        if code:
            raise _error(code, answer.read())


def _error(code: int, answer: str) -> Exception:
    """What another process has ended with, as it was raised there."""
    try:
        said = json.loads(answer)
    except ValueError:
        return ZephyrError(f"the process that prepared the dialogues ended with code {code}; if it said why, that stands above")
    if said["errno"] is not None:
        return OSError(said["errno"], said["text"], said["file"])
    kind: type[ZephyrError] = getattr(errors, said["kind"], ZephyrError)
    return kind(said["text"])


def _while_wanted(items: Iterable[T], parent: int) -> Iterator[T]:
    """As long as there is somebody to go on with them: of a process that was killed nothing is left but what it has published."""
    for item in items:
        if os.getppid() != parent:
            raise SystemExit(1)
        yield item


def main() -> None:
    """Do what stdin says, without torch; what goes wrong is said on stdout."""
    gc.disable()  # what is imported stays: looking through it for what can go takes a tenth of the start
    from zephyr.models.load import ModelRef

    order = json.load(sys.stdin)
    model = ModelRef(**order["model"])
    if not model.trust_remote_code:  # what may import anything
        sys.modules["torch"] = None  # type: ignore[assignment]  # for transformers, it is not installed
    data = [DataSource(**source) for source in order["data"]]
    work = Work(data, model, order["chat_template"], SFTConfig(**order["config"]), Path(order["folder"]), order["key"])
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # what it says, it will say to the one who asked
            chat = load_chat(work)
        if not model.trust_remote_code:  # transformers has looked by now; `datasets` would import what stands there
            del sys.modules["torch"]
        gc.freeze()
        gc.enable()
        write(work, bytes.fromhex(order["fates"]), chat, order["parent"])
    except KeyboardInterrupt:
        sys.exit(130)
    except ZephyrError as error:
        _say({"kind": type(error).__name__, "text": str(error), "errno": None})
    except OSError as error:
        _say({"kind": "", "text": error.strerror or str(error), "errno": error.errno or 0, "file": error.filename})


def _say(error: Mapping[str, Any]) -> None:
    print(json.dumps(error))
    sys.exit(1)


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # all is on disk, and taking transformers down in order takes a third of a second
