from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.sampler import BucketSampler
from asr.errors import ConfigError

lengths = st.lists(st.integers(1, 100), min_size=1, max_size=60)


@given(lengths, st.integers(0, 3), st.integers(1, 3))
def test_every_utterance_once_an_epoch_over_all_processes(lengths, epoch, world_size):
    seen = []
    n_steps = set()
    for rank in range(world_size):
        sampler = BucketSampler(lengths, 200, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        n_steps.add(len(batches))
        seen += list(chain.from_iterable(batches))
    assert sorted(seen) == [(epoch, index) for index in range(len(lengths))]
    assert len(n_steps) == 1


@given(lengths, st.integers(1, 8))
def test_batches_stay_within_their_bounds(lengths, max_utterances):
    for batch in BucketSampler(lengths, 200, max_utterances=max_utterances):
        longest = max(lengths[index] for _, index in batch)
        assert longest * len(batch) <= 200
        assert len(batch) <= max_utterances


@given(lengths, st.data())
def test_resumes_in_the_middle(lengths, data):
    sampler = BucketSampler(lengths, 200, seed=3)
    sampler.set_epoch(2)
    whole = list(sampler)
    start = data.draw(st.integers(0, len(whole)))
    sampler.set_epoch(2, start)
    assert list(sampler) == whole[start:]


def test_epochs_differ_and_repeat():
    def epoch(number: int) -> list:
        sampler = BucketSampler(list(range(1, 80)), 200)
        sampler.set_epoch(number)
        return [[index for _, index in batch] for batch in sampler]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)


def test_sorted_first_epoch_runs_from_short_to_long():
    lengths = list(range(100, 0, -1))
    sampler = BucketSampler(lengths, 300, sorted_first_epoch=True)
    longest = [max(lengths[i] for _, i in batch) for batch in sampler]
    # Sorted but for the blur of the lengths.
    assert all(b > 0.75 * a for a, b in pairwise(longest))


def test_padding_is_small_where_lengths_are_many():
    lengths = [50 + i % 200 for i in range(4000)]
    assert BucketSampler(lengths, 4000).padding() < 0.1


def test_an_utterance_longer_than_a_batch_is_refused():
    with pytest.raises(ConfigError, match="batch_frames"):
        BucketSampler([10, 500], 400)
