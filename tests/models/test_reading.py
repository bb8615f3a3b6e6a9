"""What transformers cannot read: what is said of it."""

from __future__ import annotations

import pytest

from zephyr.errors import ModelError
from zephyr.models.load import ModelRef
from zephyr.models.reading import from_pretrained


def test_a_model_that_is_lent_on_request_alone_says_where_to_ask() -> None:
    def gated(*_: object, **__: object) -> None:
        raise OSError("You are trying to access a gated repo.\nMake sure to have access to it.\n401")

    with pytest.raises(ModelError) as caught:
        from_pretrained(gated, ModelRef("owner/name", ""), "owner/name", "the model")
    assert str(caught.value) == (
        "owner/name: the model cannot be loaded (OSError: You are trying to access a gated repo.); "
        "ask for access on the page of owner/name on the hub, then `hf auth login`"
    )
