"""Turn a folder of photographs into train, val and test arrays: one HDF5 file.

photographs -> decode -> group near-duplicates -> split -> augment train -> arrays

The photographs are read, never moved or changed.
"""

import itertools
import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from classifier import cli
from classifier.data import archive, arrays, sample
from classifier.data.audit import overlaps
from classifier.data.augment import augmented
from classifier.data.duplicates import HASH_SIZE, MAX_BITS, groups, near_pairs, perceptual_hash
from classifier.data.images import ImageError, files_below, read_rgb, square
from classifier.data.splits import LEAK_WARNING, SPLITS, assign_splits, protocols
from classifier.errors import UserError
from classifier.files import make_folder
from classifier.seeds import generator
from classifier.workers import ordered_map

# Digits of 8x8 pixels look alike: at 20 bits nearly all of a class would count as one.
SAMPLE_BITS = 2
CHUNK = 64  # pictures a task: large enough that handing over costs nothing, small for the bar


def parse_args():
    parser = cli.Parser(description=__doc__.splitlines()[0])
    add, table = parser.add_argument, protocols()
    add(
        "--dataset-path",
        type=Path,
        metavar="DIR",
        help="folder with train/<category>/*.jpg below it "
        "(default: datasets/caltech_101, with --sample datasets/digits)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--download",
        action="store_true",
        help="fetch Caltech-101 (132 MB) into --dataset-path first",
    )
    source.add_argument(
        "--archive",
        type=Path,
        metavar="FILE",
        help="unpack caltech-101.zip or 101_ObjectCategories.tar.gz first",
    )
    source.add_argument(
        "--sample",
        action="store_true",
        help="write scikit-learn's 1,797 digits first, nothing to download",
    )
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="the arrays (default: the dataset path's name, .h5)",
    )
    add("--image-size", type=cli.integer(32, 1024), default=64, help="pixels")
    add(
        "--protocol",
        choices=table,
        default="clean",
        help="; ".join(f"{name}: {table[name].help}" for name in table),
    )
    add(
        "--val-per-class",
        type=cli.integer(0, 29),
        help="photographs of each class held for val (default: clean min(20, 20%%), paper 5); 0: "
        "they go to train, for a figure to report once all is chosen",
    )
    add(
        "--target-per-class",
        type=cli.integer(0, 65_000),
        default=800,
        help="augment each class to this many training examples; 0: do not",
    )
    add(
        "--near-duplicate-bits",
        type=cli.integer(0, 64),
        metavar="BITS",
        help="bits of 256 in which the hashes of near-duplicates may differ "
        f"(default: {MAX_BITS}, with --sample {SAMPLE_BITS}, with --audit as the "
        "arrays were made)",
    )
    add("--seed", type=cli.integer(0, 2**63 - 1), default=0, help="of splits and augmentation")
    add("--workers", type=cli.integer(1, 512), default=os.cpu_count() or 1, help="processes")
    add("--strict", action="store_true", help="fail if any file cannot be used")
    add(
        "--audit",
        action="store_true",
        help="make nothing: check that the finished arrays share no photograph "
        "between their splits; exit 1 if they do, naming the pairs",
    )
    add(
        "--verbose",
        action="store_true",
        help="list the classes with their counts, and all near-duplicates",
    )
    args = parser.parse_args()
    if args.protocol == "original" and args.val_per_class is not None:
        parser.error("argument --val-per-class: the original protocol draws 20 of each class")
    if args.dataset_path is None:
        args.dataset_path = Path("datasets", "digits" if args.sample else "caltech_101")
    if args.near_duplicate_bits is None and not args.audit:
        args.near_duplicate_bits = SAMPLE_BITS if args.sample else MAX_BITS
    if args.output is None:
        folder = Path(os.path.normpath(args.dataset_path))
        if folder.name in ("", ".."):
            folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
        args.output = folder.parent / f"{folder.name or 'arrays'}.h5"
    return args


def main():
    args = parse_args()
    if args.audit:
        return audit(args)

    if args.download:
        archive.unpack(archive.download(args.dataset_path), args.dataset_path)
    elif args.archive:
        note = archive.unpack(args.archive, args.dataset_path)
        if note:
            print(f"note: {note}", file=sys.stderr)
    elif args.sample:
        sample.write_digits(args.dataset_path)

    protocol = protocols(args.val_per_class)[args.protocol]
    files = photographs(args.dataset_path)
    if args.output.is_dir():
        raise UserError(f"{args.output}: is a folder; --output needs a file")
    make_folder(args.output.parent)

    # Every photograph is decoded once, into a file aside: memory does not grow with their number.
    spool = args.output.with_name(f".{args.output.name}.photographs")
    try:
        sources, hashes, left_out = decode_all(files, args, spool)
        report_left_out(left_out, args.strict)
        labels = [Path(source).parts[1] for source in sources]
        classes = sorted({file.relative_to(args.dataset_path).parts[1] for file in files})
        missing = sorted(set(classes) - set(labels))
        if missing:
            raise UserError(f"class {missing[0]!r} has no usable image: mend or remove its folder")

        if protocol.leaks:
            near, group_of = [], []
        else:
            near = near_pairs(hashes, args.near_duplicate_bits)
            group_of = groups(len(sources), near)
            report_groups(group_of, near, sources, labels, args.verbose)
        plan = make_plan(labels, group_of, classes, protocol, args)

        attributes = {
            "protocol": args.protocol,
            "seed": args.seed,
            "target_per_class": args.target_per_class,
            "near_duplicate_bits": args.near_duplicate_bits,
            "left_out": json.dumps(left_out),
            "near_duplicates": json.dumps(
                [[sources[i] for i in members] for members in multiples(group_of)]
            ),
        }
        write(plan, sources, hashes, classes, spool, args, attributes)
    finally:
        spool.unlink(missing_ok=True)

    report_shapes(plan, classes, args)
    if protocol.leaks:
        print(f"warning: {LEAK_WARNING}")
    print(f"arrays: {args.output}   next: python train.py --data {args.output}")
    return 0


def photographs(dataset_path):
    """Return the files below `dataset_path`/train/<category>/, sorted; raise UserError if none."""
    train = dataset_path / "train"
    if not train.is_dir():
        raise UserError(
            f"{train}: no such folder; --dataset-path needs train/<category>/*.jpg below it, or "
            "use --download, --archive FILE or --sample"
        )
    files = []
    for category in sorted(train.iterdir()):
        if category.is_dir() and not category.name.startswith("."):
            if category.name == archive.BACKGROUND:
                print(f"note: {category} is no category: kept apart", file=sys.stderr)
                continue
            try:
                category.name.encode()
            except UnicodeEncodeError:
                raise UserError(f"{str(category)!a}: its name is not UTF-8; rename it") from None
            found = files_below(category)
            if not found:
                raise UserError(f"{category}: no images in this class; add some or remove it")
            files += found
    if len({file.relative_to(train).parts[0] for file in files}) < 2:
        raise UserError(f"{train}: fewer than 2 classes; it needs train/<category>/*.jpg below it")
    return files


def decode_all(files, args, spool):
    """Decode all photographs into the raw file `spool`.

    Returns:
        sources: paths below the dataset path of the usable photographs, in the spool's order.
        hashes: uint8 array (N, 2, 32) of `perceptual_hash`.
        left_out: list of {"file", "reason"}.
    """
    sources, hashes, left_out = [], [], []
    tasks = [(files[i : i + CHUNK], args.image_size) for i in range(0, len(files), CHUNK)]
    with (
        spool.open("wb") as out,
        tqdm(total=len(files), desc="Decoding", unit=" photographs", disable=None) as bar,
    ):
        for task, results in zip(
            tasks, ordered_map(decode_chunk, tasks, args.workers), strict=True
        ):
            for file, result in zip(task[0], results, strict=True):
                name = file.relative_to(args.dataset_path).as_posix()
                if isinstance(result, str):
                    left_out.append({"file": name, "reason": result})
                else:
                    pixels, code = result
                    out.write(pixels)
                    sources.append(name)
                    hashes.append(code)
            bar.update(len(results))
    return sources, np.array(hashes), left_out


def decode_chunk(task):
    """Decode a task's files: (pixels, hashes) of each, or the reason why it cannot be used."""
    files, size = task
    results = []
    for file in files:
        try:
            rgb = read_rgb(file)
            pixels = square(rgb, size)
            thumbnail = pixels if size == HASH_SIZE else square(rgb, HASH_SIZE)
            results.append((pixels, perceptual_hash(thumbnail)))
        except ImageError as error:
            results.append(str(error))
    return results


def make_plan(labels, group_of, classes, protocol, args):
    """Decide every row of the arrays: {"train": [Example, ...], "val": ..., "test": ...}."""
    number = {name: i for i, name in enumerate(classes)}
    plan = {split: [] for split in SPLITS}
    if protocol.leaks:
        rows = [
            arrays.Example(i, k, number[labels[i]])
            for i, k in copies(labels, range(len(labels)), args)
        ]
        names = [classes[row.label] for row in rows]
        for row, split in zip(
            rows, assign_splits(names, range(len(rows)), protocol, args.seed), strict=True
        ):
            plan[split].append(row)
        return plan
    splits = assign_splits(labels, group_of, protocol, args.seed)
    for split in SPLITS:
        chosen = [i for i in range(len(labels)) if splits[i] == split]
        pairs = copies(labels, chosen, args) if split == "train" else [(i, 0) for i in chosen]
        plan[split] = [arrays.Example(i, k, number[labels[i]]) for i, k in pairs]
    return plan


def copies(labels, chosen, args):
    """Return (photograph, copy) pairs: each photograph, and copies up to the target per class.

    The copies are spread evenly; which photographs get one more is drawn by seed.
    """
    members = {}
    for i in chosen:
        members.setdefault(labels[i], []).append(i)
    pairs = []
    for label, photos in members.items():
        each, rest = divmod(max(args.target_per_class - len(photos), 0), len(photos))
        more = set(generator("copies", args.seed, label).permutation(len(photos))[:rest].tolist())
        for position, photo in enumerate(photos):
            pairs += [(photo, k) for k in range(1 + each + (position in more))]
    return pairs


def write(plan, sources, hashes, classes, spool, args, attributes):
    """Augment and write the arrays; the file appears whole when all rows are in it."""
    tasks = []
    for split in SPLITS:
        for start in range(0, len(plan[split]), CHUNK):
            rows = plan[split][start : start + CHUNK]
            wanted = [(row.photograph, row.copy, sources[row.photograph]) for row in rows]
            tasks.append((split, start, wanted, spool, args.image_size, args.seed))
    total = sum(len(rows) for rows in plan.values())
    with (
        arrays.create(
            args.output, plan, sources, hashes, classes, args.image_size, **attributes
        ) as file,
        tqdm(total=total, desc="Augmenting", unit=" images", disable=None) as bar,
    ):
        for task, X in zip(tasks, ordered_map(augment_chunk, tasks, args.workers), strict=True):
            split, start = task[:2]
            file[split]["X"][start : start + len(X)] = X
            bar.update(len(X))


def augment_chunk(task):
    """Return the pixels of a task's rows, uint8 (n, size, size, 3)."""
    _, _, wanted, spool, size, seed = task
    photos = np.memmap(spool, np.uint8, "r").reshape(-1, size, size, 3)
    pixels = []
    for photo, rows in itertools.groupby(wanted, key=lambda row: row[0]):
        seeds = []  # of a photograph's copies, which stand together and share its padding
        for _, copy, source in rows:
            if copy == 0:
                pixels.append(photos[photo])
            else:
                seeds.append(generator("augment", seed, source, copy))
        if seeds:
            pixels += augmented(photos[photo], seeds)
    return np.stack(pixels)


def multiples(group_of):
    """Return the groups of two photographs or more, each a list of photograph numbers."""
    members = {}
    for i, group in enumerate(group_of):
        members.setdefault(group, []).append(i)
    return [group for group in members.values() if len(group) > 1]


def report_left_out(left_out, strict):
    """List the files that cannot be used; raise UserError if `strict` and there are any."""
    for item in left_out:
        print(f"skipped: {item['file']!r}: {item['reason']}", file=sys.stderr)
    if left_out:
        if strict:
            raise UserError(f"{len(left_out)} files cannot be used (--strict): mend or remove them")
        print(f"skipped {len(left_out)} files that cannot be used", file=sys.stderr)


def report_groups(group_of, near, sources, labels, verbose):
    """Print the near-duplicates found: a line, and where `verbose` every group."""
    found = multiples(group_of)
    count = Counter(labels[group[0]] for group in found)
    across = sum(len({labels[i] for i in group}) > 1 for group in found)
    print(
        f"near-duplicates: {len(near)} pairs in {len(found)} groups "
        f"({across} across classes), kept in one split"
    )
    if found:
        print("  most in " + ", ".join(f"{label} {n}" for label, n in count.most_common(5)))
    if verbose:
        for group in found:
            print("  " + " = ".join(sources[i] for i in group))


def report_shapes(plan, classes, args):
    """Print numbers and shapes as the original does; where --verbose, a table of classes."""
    for split, name in (("train", "training"), ("val", "validation"), ("test", "test")):
        count = len(plan[split])
        print(f"number of {name} examples: {count}")
        print(f"X_{split} shape: ({count}, {args.image_size}, {args.image_size}, 3)")
        print(f"Y_{split} shape: ({count}, {len(classes)})")
    if args.verbose:
        counts = {split: Counter(row.label for row in plan[split]) for split in SPLITS}
        width = max(5, *map(len, classes))
        print(f"{'class':{width}}  train    val   test")
        for number, name in enumerate(classes):
            print(f"{name:{width}} " + " ".join(f"{counts[split][number]:6}" for split in SPLITS))


def audit(args):
    """Check finished arrays; return 1 and name the pairs if their splits overlap."""
    with arrays.Arrays(args.output) as finished:
        bits = args.near_duplicate_bits
        found = overlaps(finished, finished.near_duplicate_bits if bits is None else bits)
        counts = ", ".join(f"{split} {finished.count(split)}" for split in SPLITS)
        print(f"audit of {args.output}: protocol {finished.protocol}, {counts}")
    for split, source, other_split, other_source, why in found[: None if args.verbose else 20]:
        print(f"overlap: {split} {source} = {other_split} {other_source} ({why})")
    if found:
        if len(found) > 20 and not args.verbose:
            print(f"... and {len(found) - 20} more (--verbose lists them)")
        print(f"prepro.py: audit: {len(found)} overlaps between the splits", file=sys.stderr)
        return 1
    print("audit: no photograph, copy or near-duplicate stands in two splits")
    return 0


if __name__ == "__main__":
    cli.run(main, product="file")
