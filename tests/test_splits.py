"""Splits: how many to each split, never one photograph or its near-duplicate on two."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from classifier.data.duplicates import Groups
from classifier.data.splits import assign_splits, protocols
from classifier.errors import UserError

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


def count_splits(labels, splits):
    """Return {class: Counter of its splits}."""
    return {
        name: Counter(split for label, split in zip(labels, splits, strict=True) if label == name)
        for name in dict.fromkeys(labels)
    }


@st.composite
def with_near_duplicates(draw, low=20, high=60):
    """Labels, groups: classes with some photographs joined to others of any class."""
    labels = photographs(draw(sizes(low, high)))
    photo = st.integers(0, len(labels) - 1)
    pairs = draw(st.lists(st.tuples(photo, photo), max_size=40))
    return labels, Groups(len(labels)).join((i, [j]) for i, j in pairs).of.tolist()


def split_or_reject(labels, group_of, protocol, seed):
    """Split; where near-duplicates leave no split, try another example."""
    try:
        return assign_splits(labels, group_of, protocol, seed)
    except UserError as error:
        assert "near-duplicates" in str(error)
        return assume(False)


@few
@given(sizes(1, 150).filter(lambda counts: max(counts) >= 5), seeds)
def test_clean_takes_a_fifth_at_most_20_and_uses_every_photograph(counts, seed):
    labels = photographs(counts)
    found = count_splits(labels, assign_splits(labels, range(len(labels)), CLEAN, seed))
    for count, splits in zip(counts, found.values(), strict=True):
        held = min(20, count // 5)
        assert splits == Counter({"test": held, "val": held, "train": count - 2 * held})


@few
@given(sizes(31, 120), seeds, st.integers(0, 29))
def test_paper_takes_30_and_up_to_50(counts, seed, val):
    labels = photographs(counts)
    paper = protocols(val)["paper"]
    found = count_splits(labels, assign_splits(labels, range(len(labels)), paper, seed))
    for count, splits in zip(counts, found.values(), strict=True):
        test = min(50, count - 30)
        left = count - 30 - test
        assert splits == Counter({"train": 30 - val, "val": val, "test": test, None: left})


def test_clean_without_val_has_the_same_test():
    labels = photographs([31, 60, 200])
    usual, whole = (assign_splits(labels, range(291), protocols(v)["clean"], 3) for v in (None, 0))
    assert set(whole) == {"train", "test"}
    assert [split == "test" for split in whole] == [split == "test" for split in usual]


def test_paper_by_default_is_25_and_5_and_50():
    labels = photographs([100])
    splits = count_splits(labels, assign_splits(labels, range(100), PAPER, 0))["class 0"]
    assert splits == {"train": 25, "val": 5, "test": 50, None: 20}


@few
@given(with_near_duplicates(), seeds)
def test_no_group_stands_in_two_splits(example, seed):
    labels, group_of = example
    splits = split_or_reject(labels, group_of, CLEAN, seed)
    split_of = {}
    for group, split in zip(group_of, splits, strict=True):
        if split is not None:
            assert split_of.setdefault(group, split) == split
    for name, found in count_splits(labels, splits).items():
        held = min(20, labels.count(name) // 5)
        assert 1 <= found["val"] <= held
        assert 1 <= found["test"] <= held
        assert found["train"] >= 1


@few
@given(with_near_duplicates(low=40), seeds)
def test_the_paper_protocol_keeps_groups_together_too(example, seed):
    labels, group_of = example
    splits = split_or_reject(labels, group_of, PAPER, seed)
    standing = {
        (group, split) for group, split in zip(group_of, splits, strict=True) if split is not None
    }
    assert len(standing) == len({group for group, _ in standing})


def test_a_group_across_classes_stays_in_one_split():
    labels = photographs([10, 10, 10])
    group_of = list(range(30))
    group_of[12] = group_of[23] = group_of[1]
    seen = set()
    for seed in range(30):
        splits = assign_splits(labels, group_of, CLEAN, seed)
        assert len({splits[1], splits[12], splits[23]}) == 1
        seen.add(splits[1])
    assert seen == {"train", "val", "test"}


@few
@given(with_near_duplicates(), seeds, st.randoms(use_true_random=False))
def test_same_seed_same_splits_whatever_the_order_and_the_names_of_groups(example, seed, random):
    labels, group_of = example
    splits = split_or_reject(labels, group_of, CLEAN, seed)
    assert assign_splits(labels, group_of, CLEAN, seed) == splits
    renamed = [1000 - group for group in group_of]
    assert assign_splits(labels, renamed, CLEAN, seed) == splits

    # Photographs of several classes mixed, those of one class still in the order of their names.
    by_class = {name: [i for i, label in enumerate(labels) if label == name] for name in labels}
    order = [by_class[label].pop(0) for label in random.sample(labels, len(labels))]
    mixed = assign_splits([labels[i] for i in order], [group_of[i] for i in order], CLEAN, seed)
    assert mixed == [splits[i] for i in order]


def test_another_seed_gives_other_splits():
    labels = photographs([50, 50])
    drawn = {tuple(assign_splits(labels, range(100), CLEAN, seed)) for seed in range(20)}
    assert len(drawn) == 20
    # Classes of one size are not split alike.
    assert all(splits[:50] != splits[50:] for splits in drawn)


def test_a_class_of_few_photographs_is_all_trained_on_and_draws_near_duplicates_with_it():
    labels = photographs([20, 4, 1])
    for seed in range(20):
        splits = assign_splits(labels, [*range(20), 20, 21, 22, 23, 0], CLEAN, seed)
        assert splits[20:] == ["train"] * 5
        assert splits[0] == "train"  # the near-duplicate of the one of the last class
        assert Counter(splits[:20]) == {"train": 12, "val": 4, "test": 4}


def test_classes_of_few_photographs_alone_leave_none_to_test():
    with pytest.raises(UserError, match="every class has fewer than 5 usable images"):
        assign_splits(photographs([4, 4, 3]), range(11), CLEAN, 0)
    assert "test" in assign_splits(photographs([4, 5]), range(9), CLEAN, 0)


@pytest.mark.parametrize(("name", "least"), [("paper", 31), ("original", 41)])
def test_too_few_photographs_name_the_class_and_the_number_needed(name, least):
    protocol = protocols()[name]
    enough = photographs([least, least])
    assert "train" in assign_splits(enough, range(2 * least), protocol, 0)
    with pytest.raises(UserError) as caught:
        assign_splits(enough[:-1], range(2 * least - 1), protocol, 0)
    assert "'class 1'" in str(caught.value)
    assert f"{least - 1} usable images" in str(caught.value)
    remedy = "raise --target-per-class" if name == "original" else "add images"
    assert f"at least {least}: {remedy} or remove the class" in str(caught.value)


def test_a_val_that_leaves_none_to_train_names_its_flag():
    labels = photographs([30, 12])
    with pytest.raises(UserError, match="'class 1'.* 12 of its 12 .*--val-per-class") as caught:
        assign_splits(labels, range(42), protocols(10)["clean"], 0)
    assert "near-duplicates" not in str(caught.value)
    assert "train" in assign_splits(labels, range(42), protocols(9)["clean"], 0)


def test_copies_of_one_photograph_cannot_be_split():
    labels = photographs([20, 20])
    with pytest.raises(UserError, match="'class 1'.* near-duplicates"):
        assign_splits(labels, [*range(20), *[20] * 20], CLEAN, 0)


def test_the_rest_of_a_group_that_does_not_fit_is_left_out():
    labels = photographs([10, 20])
    # Three of class 1 are near-duplicates of each of the first four of class 0.
    group_of = [*range(10), *(number // 3 for number in range(12)), *range(50, 58)]
    left_out = 0
    for seed in range(20):
        splits = assign_splits(labels, group_of, CLEAN, seed)
        first, second = count_splits(labels, splits).values()
        assert first == {"test": 2, "val": 2, "train": 6}
        assert (second["test"], second["val"]) == (4, 4)
        for number, split in enumerate(splits[10:22]):
            assert split in (splits[number // 3], None)
        assert None not in splits[22:]
        left_out += second[None]
    assert left_out


def test_orders_are_tried_until_nothing_is_left_out():
    labels = photographs([20])
    group_of = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    for seed in range(10):
        (found,) = count_splits(labels, assign_splits(labels, group_of, CLEAN, seed)).values()
        assert found == {"test": 4, "val": 4, "train": 12}


def test_of_orders_that_leave_out_as_many_the_first_is_taken(monkeypatch):
    labels, group_of = photographs([24]), [number // 3 for number in range(24)]
    best = [assign_splits(labels, group_of, CLEAN, seed) for seed in range(5)]
    assert all(splits.count(None) == 4 for splits in best)
    monkeypatch.setattr("classifier.data.splits.ATTEMPTS", 1)
    assert [assign_splits(labels, group_of, CLEAN, seed) for seed in range(5)] == best


def test_no_group_is_parted_while_whole_ones_fit(monkeypatch):
    monkeypatch.setattr("classifier.data.splits.ATTEMPTS", 1)
    labels, group_of = photographs([20]), [*[0] * 6, *range(1, 15)]
    for seed in range(20):
        splits = assign_splits(labels, group_of, CLEAN, seed)
        assert splits[:6] == ["train"] * 6
        assert None not in splits
