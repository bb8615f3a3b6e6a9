"""Files of work in progress: whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import durable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@contextmanager
def keep(path: Path) -> Iterator[Path]:
    """A file to write under a name of its own; it gets its name, durable, once the body has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        durable.sync(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def keep_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array."""
    import numpy as np

    with keep(path) as aside, aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def load_array(path: Path) -> NDArray[np.generic[Any]]:
    """An array, from the disk as it is needed."""
    import numpy as np

    if path.stat().st_size < 200:  # nothing in it: there is nothing to map
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]  # numpy's has no type
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]  # numpy's has no type
