"""Every fuzz target with its seeds, the kept inputs and the same few hundred variations each time."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from tests.fuzz.run import inputs, mutated
from tests.fuzz.targets import SEEDS, TARGETS


def test_every_target_has_seeds() -> None:
    assert SEEDS.keys() == TARGETS.keys()


@pytest.mark.parametrize('name', sorted(TARGETS))
def test_replay(name: str) -> None:
    target = TARGETS[name]
    for data in [b'', *inputs(name), *islice(mutated(name, random.Random(1)), 300)]:
        try:
            target(data)
        except Exception as error:
            raise AssertionError(f'{name}: {data!r}') from error
