"""A trained model in the form that others read: a plain folder in another number format, or one GGUF file; and its way to the hub.

What was written is read back before it is published: the chat template has to render the same dialogues to the same texts, and the
tokenizer has to cut the same texts into the same ids.
"""

from __future__ import annotations

from zephyr.export.hub import Push as Push
from zephyr.export.hub import push as push
from zephyr.export.write import DTYPES as DTYPES
from zephyr.export.write import TARGETS as TARGETS
from zephyr.export.write import export as export
