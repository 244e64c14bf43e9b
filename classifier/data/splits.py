"""Protocols: which photograph goes to train, val or test; near-duplicates share a split."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from classifier.errors import UserError
from classifier.seeds import generator

SPLITS = ("train", "val", "test")
FEWEST_TO_SPLIT = 5  # photographs of a class, of which the clean protocol tests one
ATTEMPTS = 100  # orders tried until the groups of a class fill its splits
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
        return min(20, n // FEWEST_TO_SPLIT)

    held = 5 if val_per_class is None else val_per_class  # of the paper protocol's 30

    return {
        "clean": Protocol(
            "min(20, 20%%) of each class to val and as many to test, the rest to train; of a class "
            f"with fewer than {FEWEST_TO_SPLIT} all to train",
            {
                "test": fifth,
                "val": fifth if val_per_class is None else lambda n: val_per_class,
                "train": None,
            },
            least=1,
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
    a group fits into the last places of a split, the rest of the group is left out, not moved;
    of ATTEMPTS orders of the groups the first that leaves out the fewest is taken.

    Args:
        labels: list of class names, one a photograph.
        groups: list of ints, one a photograph; equal numbers stand in one split.
        protocol: a Protocol.
        seed: int; same seed, same splits.

    Returns:
        list of "train", "val", "test" or None (left out), one a photograph.

    Raises:
        UserError: a class has too few photographs for the protocol, or no class one for test.
    """
    members = defaultdict(lambda: defaultdict(list))
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        members[label][group].append(index)

    counts = sorted(Counter(labels).items())
    room_of = {label: _room(label, count, protocol) for label, count in counts}
    if not any(room["test"] for room in room_of.values()):
        raise UserError(
            f"every class has fewer than {FEWEST_TO_SPLIT} usable images, so test would be empty: "
            "add images"
        )

    splits = [None] * len(labels)
    split_of = {}  # of each group that has a split
    # Classes that are only trained on go first: near-duplicates in other classes follow them.
    for label, count in sorted(counts, key=lambda pair: _wanted(room_of[pair[0]]) != {"train"}):
        pending, room = list(members[label].items()), room_of[label]
        random = generator("split", seed, label)
        placed = {}
        for _ in range(ATTEMPTS):
            random.shuffle(pending)
            found = _place(pending, room, split_of)
            if _rank(found, room) > _rank(placed, room):
                placed = found
            if _rank(placed, room) == (True, min(count, sum(room.values()))):
                break
        if not _rank(placed, room)[0]:
            raise UserError(
                f"class {label!r}: its {count} images are near-duplicates of so few photographs "
                "that this split cannot keep them apart: add other images, remove the class "
                "or try another --seed"
            )
        for index, split in placed.items():
            splits[index] = split
            split_of[groups[index]] = split
    return splits


def _room(label, count, protocol):
    """Return {split: places} for a class of so many photographs; raise UserError if too few."""
    if count < protocol.least:
        more = "raise --target-per-class" if protocol.leaks else "add images"  # copies count
        raise UserError(
            f"class {label!r} has {count} usable images, the protocol needs at least "
            f"{protocol.least}: {more} or remove the class"
        )
    held = sum(quota(count) for quota in protocol.quotas.values() if quota is not None)
    if None in protocol.quotas.values() and held >= count:
        raise UserError(
            f"class {label!r}: val and test take {held} of its {count} usable images, which "
            "leaves none to train: lower --val-per-class, add images or remove the class"
        )
    return {
        split: count if quota is None else quota(count) for split, quota in protocol.quotas.items()
    }


def _place(pending, room, split_of):
    """Return {photograph: split} for a class's groups, taken in their order.

    Groups that have a split already go first; then each split takes the groups that fit whole,
    and a part of the first that does not.
    """
    placed, free = {}, dict(room)

    def place(split, indices):
        placed.update(dict.fromkeys(indices[: free[split]], split))
        free[split] -= min(free[split], len(indices))

    waiting = []
    for group, indices in pending:
        if group in split_of:
            place(split_of[group], indices)
        else:
            waiting.append(indices)
    for split in room:
        for whole_only in (True, False):
            for indices in list(waiting):
                if free[split] and (len(indices) <= free[split] or not whole_only):
                    place(split, indices)
                    waiting.remove(indices)
    return placed


def _rank(placed, room):
    """Return whether every split that wants photographs has some, and how many are placed."""
    return _wanted(room) <= set(placed.values()), len(placed)


def _wanted(room):
    """Return the splits that want photographs."""
    return {split for split, places in room.items() if places}
