"""A small model, for tests of what is done with models."""

from __future__ import annotations

import pytest

from asr.lm.backoff import BackoffModel
from asr.lm.kneser_ney import train

TEXT = """
the cat sat on the mat
the cat ate the fish
the dog sat on the cat
a dog ate the mat
a fish sat on a mat on the mat
dogs and cats sat
the fish and the cat and the dog
on the mat sat the cat
"""


@pytest.fixture(scope="session")
def sentences() -> list[list[str]]:
    return [line.split() for line in TEXT.strip().splitlines()]


@pytest.fixture(scope="session")
def model(sentences) -> BackoffModel:
    """Order 3, nothing pruned."""
    (model,) = train([sentences], 3)
    return model
