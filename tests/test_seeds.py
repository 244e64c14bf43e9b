"""Random numbers: the same for the same names, in every process and release."""

import numpy as np
import pytest

from classifier.seeds import Order, generator


def test_numbers_depend_on_every_part_of_the_key_and_on_where_it_ends():
    keys = [("split", 1, "ant"), ("split", 2, "ant"), ("split", 1, "bee"), ("copies", 1, "ant"),
            ("split", 11, "x"), ("split", 1, "1x"), ("split1", 1, "x"), ("split", "1", "ant"),
            ("split", 1, "ant", 0), ("split", 1), ("split", 1, "\udcff")]  # fmt: skip
    drawn = [tuple(generator(*key).integers(0, 1 << 62, 4)) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert tuple(generator(*keys[0]).integers(0, 1 << 62, 4)) == drawn[0]


def test_a_key_gives_the_numbers_that_it_gave_before():
    """Else a seed in the README would not make its figures again."""
    raw = generator("split", 0, "ant").bit_generator.random_raw(2)
    assert raw.tolist() == [7374434322698434855, 14625347645870024436]
    assert Order(1000, "order", 0, 0)(np.arange(5)).tolist() == [341, 178, 73, 149, 191]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 100, 4096, 100_003])
def test_an_order_has_every_number_once_and_any_part_of_it_alone(count):
    order = Order(count, "order", 0, 1)
    numbers = order(np.arange(count))
    assert sorted(numbers.tolist()) == list(range(count))
    places = np.arange(count)[::-3]
    np.testing.assert_array_equal(order(places), numbers[places])
    np.testing.assert_array_equal(Order(count, "order", 0, 1)(places), numbers[places])


def test_orders_are_as_random_as_drawn_ones():
    """Chi-square of how often each number takes each place, and each follows each."""
    count, orders = 24, 4800
    drawn = np.array([Order(count, "order", seed)(np.arange(count)) for seed in range(orders)])
    places = np.array([np.bincount(column, minlength=count) for column in drawn.T])
    follows = np.zeros((count, count))
    np.add.at(follows, (drawn[:, :-1], drawn[:, 1:]), 1)
    follows = follows[~np.eye(count, dtype=bool)]
    for table in (places.ravel(), follows):
        expected = table.mean()
        spread = ((table - expected) ** 2 / expected).sum() / len(table)
        assert 0.8 < spread < 1.2  # 0.88 to 1.12 are three deviations


def test_an_order_of_very_many_needs_no_list_of_them():
    order = Order(10**12, "order", 0)
    numbers = order(np.arange(10**11, 10**11 + 1000))
    assert len(set(numbers.tolist())) == 1000
    assert numbers.min() >= 0
    assert 10**11 < numbers.mean() < 9 * 10**11
