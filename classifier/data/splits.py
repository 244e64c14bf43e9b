"""Protocols: which photograph goes to train, val or test; near-duplicates share a split."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from classifier.errors import UserError
from classifier.seeds import generator

SPLITS = ("train", "val", "test")
LEAK_WARNING = (
    "protocol 'original' leaks: its val and test are drawn from the augmented copies, so "
    "photographs stand in several splits and its figures are too good; use --protocol clean"
)


@dataclass(frozen=True)
class Protocol:
    """How photographs are split, as data.

    Attributes:
        help: one line for people.
        quotas: splits in the order in which they are filled, each with a function from the class's
            number of photographs to the number this split gets (None: all that remain).
        least: the fewest photographs a class can have.
        leaks: whether splits are drawn after augmentation, from all copies.
    """

    help: str
    quotas: dict
    least: int
    leaks: bool = False


def protocols(val_per_class: int | None = None) -> dict[str, Protocol]:
    """Return the table of protocols by name.

    Args:
        val_per_class: photographs of a class in val, 0 to 29; None: as the protocol has it.
    """

    def fifth(n):
        return min(20, n // 5)

    held = 5 if val_per_class is None else val_per_class  # of the paper protocol's 30

    return {
        "clean": Protocol(
            "min(20, 20%%) of each class to val and as many to test, the rest to train",
            {
                "test": fifth,
                "val": fifth if val_per_class is None else lambda n: val_per_class,
                "train": None,
            },
            least=5,
        ),
        "paper": Protocol(
            "30 photographs of each class to train, of which 5 are held for val, and "
            "up to 50 others to test",
            {
                "train": lambda n: 30 - held,
                "val": lambda n: held,
                "test": lambda n: 50,
            },
            least=31,
        ),
        "original": Protocol(
            "augments first, then draws 20 of each class for val and 20 for test from all copies, "
            "as the original does: it leaks, and shows by how much",
            {"test": lambda n: 20, "val": lambda n: 20, "train": None},
            least=41,
            leaks=True,
        ),
    }


def assign_splits(
    labels: Sequence[str], groups: Sequence[int], protocol: Protocol, seed: int
) -> list[str | None]:
    """Assign each photograph (or, for a protocol that leaks, each copy) to a split.

    A group of near-duplicates goes whole to one split, whatever its classes. Where only a part of
    a group fits into the last places of a split, the rest of the group is left out, not moved.

    Args:
        labels: list of class names, one a photograph.
        groups: list of ints, one a photograph; equal numbers stand in one split.
        protocol: a Protocol.
        seed: int; same seed, same splits.

    Returns:
        list of "train", "val", "test" or None (left out), one a photograph.

    Raises:
        UserError: a class has too few photographs for the protocol.
    """
    members = defaultdict(lambda: defaultdict(list))
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        members[label][group].append(index)

    splits = [None] * len(labels)
    split_of = {}  # of each group that has a split
    for label in sorted(members):
        pending = list(members[label].items())
        count = sum(len(indices) for _, indices in pending)
        if count < protocol.least:
            raise UserError(
                f"class {label!r} has {count} usable images, the protocol needs at least "
                f"{protocol.least}: add images or remove the class"
            )
        held = sum(quota(count) for quota in protocol.quotas.values() if quota is not None)
        if None in protocol.quotas.values() and held >= count:
            raise UserError(
                f"class {label!r}: val and test take {held} of its {count} usable images, which "
                "leaves none to train: lower --val-per-class, add images or remove the class"
            )
        generator("split", seed, label).shuffle(pending)
        room = {
            split: count if quota is None else quota(count)
            for split, quota in protocol.quotas.items()
        }

        def place(split, group, indices, room=room):
            split_of[group] = split
            for index in indices[: room[split]]:
                splits[index] = split
            room[split] -= min(room[split], len(indices))

        for group, indices in [item for item in pending if item[0] in split_of]:
            place(split_of[group], group, indices)
        for split in protocol.quotas:
            for whole_only in (True, False):
                for group, indices in pending:
                    free = group not in split_of
                    if free and room[split] and (len(indices) <= room[split] or not whole_only):
                        place(split, group, indices)
        if count and not all(
            _used(splits, members[label], split)
            for split, quota in protocol.quotas.items()
            if quota is None or quota(count)
        ):
            raise UserError(
                f"class {label!r}: its {count} images are near-duplicates of so few photographs "
                "that this split cannot keep them apart: add other images, remove the class, "
                "lower --near-duplicate-bits or try another --seed"
            )
    return splits


def _used(splits, groups, split):
    return any(splits[index] == split for indices in groups.values() for index in indices)
