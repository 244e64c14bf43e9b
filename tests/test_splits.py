"""Splits: how many to each side, never one photograph or its near-duplicate on two."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from classifier.cli import UserError
from classifier.data.duplicates import groups
from classifier.data.splits import protocols, split

PAPER = protocols()["paper"]
CLEAN = protocols()["clean"]
few = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**63)


def sizes(low, high):
    """Numbers of photographs of 1 to 4 classes."""
    return st.lists(st.integers(low, high), min_size=1, max_size=4)


def photographs(counts):
    """Return a label for each photograph, class after class as sorted paths have them."""
    return [f"class {number}" for number, count in enumerate(counts) for _ in range(count)]


def count_sides(labels, sides):
    """Return {class: Counter of its sides}."""
    return {
        name: Counter(side for label, side in zip(labels, sides, strict=True) if label == name)
        for name in dict.fromkeys(labels)
    }


@st.composite
def with_near_duplicates(draw, low=20, high=60):
    """Labels, groups: classes with some photographs joined to others of any class."""
    labels = photographs(draw(sizes(low, high)))
    photo = st.integers(0, len(labels) - 1)
    return labels, groups(len(labels), draw(st.lists(st.tuples(photo, photo), max_size=40)))


def split_or_reject(labels, group_of, protocol, seed):
    """Split; where near-duplicates leave no split, try another example."""
    try:
        return split(labels, group_of, protocol, seed)
    except UserError as error:
        assert "near-duplicates" in str(error)
        return assume(False)


@few
@given(sizes(5, 150), seeds)
def test_clean_takes_a_fifth_at_most_20_and_uses_every_photograph(counts, seed):
    labels = photographs(counts)
    found = count_sides(labels, split(labels, range(len(labels)), CLEAN, seed))
    for count, sides in zip(counts, found.values(), strict=True):
        held = min(20, count // 5)
        assert sides == {"test": held, "val": held, "train": count - 2 * held}


@few
@given(sizes(31, 120), seeds, st.integers(0, 29))
def test_paper_takes_30_and_up_to_50(counts, seed, val):
    labels = photographs(counts)
    paper = protocols(val)["paper"]
    found = count_sides(labels, split(labels, range(len(labels)), paper, seed))
    for count, sides in zip(counts, found.values(), strict=True):
        test = min(50, count - 30)
        left = count - 30 - test
        assert sides == Counter({"train": 30 - val, "val": val, "test": test, None: left})


def test_clean_without_val_has_the_same_test():
    labels = photographs([31, 60, 200])
    usual, whole = (split(labels, range(291), protocols(v)["clean"], 3) for v in (None, 0))
    assert set(whole) == {"train", "test"}
    assert [side == "test" for side in whole] == [side == "test" for side in usual]


def test_paper_by_default_is_25_and_5_and_50():
    labels = photographs([100])
    sides = count_sides(labels, split(labels, range(100), PAPER, 0))["class 0"]
    assert sides == {"train": 25, "val": 5, "test": 50, None: 20}


@few
@given(with_near_duplicates(), seeds)
def test_no_group_stands_on_two_sides(example, seed):
    labels, group_of = example
    sides = split_or_reject(labels, group_of, CLEAN, seed)
    side_of = {}
    for group, side in zip(group_of, sides, strict=True):
        if side is not None:
            assert side_of.setdefault(group, side) == side
    for name, found in count_sides(labels, sides).items():
        held = min(20, labels.count(name) // 5)
        assert 1 <= found["val"] <= held
        assert 1 <= found["test"] <= held
        assert found["train"] >= 1


@few
@given(with_near_duplicates(low=40), seeds)
def test_the_paper_protocol_keeps_groups_together_too(example, seed):
    labels, group_of = example
    sides = split_or_reject(labels, group_of, PAPER, seed)
    standing = {
        (group, side) for group, side in zip(group_of, sides, strict=True) if side is not None
    }
    assert len(standing) == len({group for group, _ in standing})


def test_a_group_across_classes_stays_on_one_side():
    labels = photographs([10, 10, 10])
    group_of = list(range(30))
    group_of[12] = group_of[23] = group_of[1]
    seen = set()
    for seed in range(30):
        sides = split(labels, group_of, CLEAN, seed)
        assert len({sides[1], sides[12], sides[23]}) == 1
        seen.add(sides[1])
    assert seen == {"train", "val", "test"}


@few
@given(with_near_duplicates(), seeds, st.randoms(use_true_random=False))
def test_same_seed_same_sides_whatever_the_order_and_the_names_of_groups(example, seed, random):
    labels, group_of = example
    sides = split_or_reject(labels, group_of, CLEAN, seed)
    assert split(labels, group_of, CLEAN, seed) == sides
    renamed = [1000 - group for group in group_of]
    assert split(labels, renamed, CLEAN, seed) == sides

    # Photographs of several classes mixed, those of one class still in the order of their names.
    by_class = {name: [i for i, label in enumerate(labels) if label == name] for name in labels}
    order = [by_class[label].pop(0) for label in random.sample(labels, len(labels))]
    mixed = split([labels[i] for i in order], [group_of[i] for i in order], CLEAN, seed)
    assert mixed == [sides[i] for i in order]


def test_another_seed_gives_other_sides():
    labels = photographs([50, 50])
    drawn = {tuple(split(labels, range(100), CLEAN, seed)) for seed in range(20)}
    assert len(drawn) == 20
    # Classes of one size are not split alike.
    assert all(sides[:50] != sides[50:] for sides in drawn)


@pytest.mark.parametrize(("name", "least"), [("clean", 5), ("paper", 31), ("original", 41)])
def test_too_few_photographs_name_the_class_and_the_number_needed(name, least):
    protocol = protocols()[name]
    enough = photographs([least, least])
    assert "train" in split(enough, range(2 * least), protocol, 0)
    with pytest.raises(UserError) as caught:
        split(enough[:-1], range(2 * least - 1), protocol, 0)
    assert "'class 1'" in str(caught.value)
    assert f"{least - 1} usable images" in str(caught.value)
    assert f"at least {least}:" in str(caught.value)


def test_copies_of_one_photograph_cannot_be_split():
    labels = photographs([20, 20])
    with pytest.raises(UserError, match="'class 1'.* near-duplicates"):
        split(labels, [*range(20), *[20] * 20], CLEAN, 0)


def test_the_rest_of_a_group_that_does_not_fit_is_left_out():
    labels = photographs([10, 20])
    # Three of class 1 are near-duplicates of each of the first four of class 0.
    group_of = [*range(10), *(number // 3 for number in range(12)), *range(50, 58)]
    left_out = 0
    for seed in range(20):
        sides = split(labels, group_of, CLEAN, seed)
        first, second = count_sides(labels, sides).values()
        assert first == {"test": 2, "val": 2, "train": 6}
        assert (second["test"], second["val"]) == (4, 4)
        for number, side in enumerate(sides[10:22]):
            assert side in (sides[number // 3], None)
        assert None not in sides[22:]
        left_out += second[None]
    assert left_out
