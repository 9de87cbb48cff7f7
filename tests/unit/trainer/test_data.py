from collections import Counter

import torch
from lyra_adapters_server.trainer.data import Row, make_batch, split_by_length, training_order


def test_every_step_has_exactly_the_rows_asked_for_and_every_epoch_sees_every_row() -> None:
    lengths = [(index * 37) % 91 + 5 for index in range(50)]
    order = training_order(lengths, epochs=3, batch_size=8, seed=1)
    assert [len(step) for step in order[:-1]] == [8] * 18
    assert len(order[-1]) == 150 % 8
    assert Counter(row for step in order for row in step) == dict.fromkeys(range(50), 3)


def test_the_order_follows_from_the_seed_alone() -> None:
    lengths = [10] * 30
    assert training_order(lengths, 2, 4, 5) == training_order(lengths, 2, 4, 5)
    assert training_order(lengths, 2, 4, 5) != training_order(lengths, 2, 4, 6)
    assert training_order(lengths, 2, 4, -5) != training_order(lengths, 2, 4, 5)


def test_steps_have_rows_of_like_lengths() -> None:
    lengths = [(index * 37) % 91 + 5 for index in range(64)]
    waste = sum(
        max(lengths[row] for row in step) * len(step) - sum(lengths[row] for row in step)
        for step in training_order(lengths, 1, 8, 0)
    )
    assert waste < 0.2 * sum(lengths)


def test_fewer_rows_than_a_batch() -> None:
    assert sorted(training_order([3, 4, 5], 1, 8, 0)[0]) == [0, 1, 2]


def test_micro_batches_keep_to_the_budget_and_lose_no_row() -> None:
    lengths = [500, 20, 30, 480, 25, 470, 2000]
    batches = split_by_length(lengths, 1536)
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 1536
    assert batches[-1] == [6]
    # Padding the short rows to 500 would cost more than a micro-batch of their own.
    assert sorted(batches[0]) == [1, 2, 4]


def test_rows_of_one_length_stay_together() -> None:
    assert split_by_length([100] * 8, 1536) == [list(range(8))]


def test_batches_are_padded_on_the_right() -> None:
    batch = make_batch([Row((5, 6, 7), 0, False), Row((8,), 2, False)], 0, torch.device("cpu"))
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.lengths.tolist() == [3, 1]
    assert batch.labels.tolist() == [0, 2]
    assert batch.token_count == 4
