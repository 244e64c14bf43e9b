"""Turn a folder of photographs into train, val and test arrays: one HDF5 file, or shards of it.

photographs -> decode -> group near-duplicates -> split -> augment train -> arrays

The photographs are read, never moved or changed.
"""

import argparse
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from classifier import cli
from classifier.data import archive, build, sample
from classifier.data.arrays import (
    MOST_SHARDS,
    Arrays,
    Description,
    remove_unfinished,
    shard_paths,
    shard_pattern,
)
from classifier.data.audit import MOST, overlaps
from classifier.data.duplicates import MAX_BITS, Groups
from classifier.data.splits import LEAK_WARNING, SPLITS, protocols
from classifier.errors import UserError
from classifier.files import locked, make_folder, same_file
from classifier.processor import cores


def parse_args(words: list[str] | None = None) -> argparse.Namespace:
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
    add(
        "--shards",
        type=cli.integer(1, MOST_SHARDS),
        default=1,
        help="files to spread the arrays over, NAME-00001-of-... beside the output; 1: the output",
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
        type=cli.integer(0, 100),
        metavar="BITS",
        help="bits of 255 in which the hashes of near-duplicates may differ "
        f"(default: {MAX_BITS}, with --audit as the arrays were made, if with more)",
    )
    add("--seed", type=cli.integer(0, 2**63 - 1), default=0, help="of splits and augmentation")
    add("--workers", type=cli.integer(1, 512), default=cores(), help="processes")
    add("--strict", action="store_true", help="fail if any file cannot be used")
    add(
        "--audit",
        action="store_true",
        help="make nothing: look for photographs that stand in two splits of the finished arrays; "
        "exit 1 if there are any, naming the pairs",
    )
    add(
        "--verbose",
        action="store_true",
        help="list the classes with their counts, and all near-duplicates",
    )
    args = parser.parse_args(words)
    if args.protocol == "original" and args.val_per_class is not None:
        parser.error("argument --val-per-class: the original protocol draws 20 of each class")
    if args.dataset_path is None:
        args.dataset_path = Path("datasets", "digits" if args.sample else "caltech_101")
    there = (args.dataset_path / "train").is_dir()
    if args.archive and not args.archive.is_file() and not there:
        parser.error(f"argument --archive: {args.archive}: no such file; --download fetches it")
    if args.near_duplicate_bits is None and not args.audit:
        args.near_duplicate_bits = MAX_BITS
    if args.output is None:
        folder = Path(os.path.normpath(args.dataset_path))
        if folder.name in ("", ".."):
            folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
        args.output = folder.parent / f"{folder.name or 'arrays'}.h5"
    if args.shards > 1 and args.output.suffix != ".h5":
        parser.error(f"argument --output: {args.output} does not end in .h5, as shards need it to")
    if args.archive and same_file(args.archive, args.output):
        parser.error(f"argument --output: {args.output} is the file of --archive; give another")
    return args


def main() -> int:
    args = parse_args()
    if args.audit:
        return audit(args.output, args.near_duplicate_bits, args.workers, args.verbose)
    fetch(args.dataset_path, args.download, args.archive, args.sample)
    files = build.find(args.dataset_path)
    background = args.dataset_path / "train" / archive.BACKGROUND
    if background.is_dir():
        print(f"note: {background} is no category: kept apart", file=sys.stderr)
    protocol = protocols(args.val_per_class)[args.protocol]
    paths = shard_paths(args.output, args.shards)
    for path in paths:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; --output needs a file")
    make_folder(args.output.parent)

    spool = args.output.with_name(f".{args.output.name}.photographs")
    with locked(args.output):
        if args.shards > 1:
            remove_unfinished(args.output)
        try:
            with progress("Decoding", len(files), "photographs") as done:
                photographs = build.decode(
                    files, args.dataset_path, args.image_size, spool, args.workers, done
                )
            report_left_out(photographs.left_out, args.strict)
            groups = Groups(len(photographs.sources))
            if not protocol.leaks:
                groups = build.group(photographs, args.near_duplicate_bits)
                report_groups(groups, photographs, args.verbose)
            plan = build.make_plan(photographs, groups, protocol, args.target_per_class, args.seed)
            description = Description(
                classes=photographs.classes,
                image_size=args.image_size,
                protocol=args.protocol,
                leaks=protocol.leaks,
                seed=args.seed,
                target_per_class=args.target_per_class,
                near_duplicate_bits=args.near_duplicate_bits,
                left_out=photographs.left_out,
                near_duplicates=[
                    [photographs.sources[i] for i in members] for members in groups.multiples()
                ],
            )
            with progress("Augmenting", sum(map(len, plan.values())), "images") as done:
                build.write(paths, plan, photographs, description, args.workers, done)
        finally:
            spool.unlink(missing_ok=True)

    report_shapes(plan, photographs.classes, args.image_size, args.verbose)
    report_untested(plan, photographs.classes)
    if protocol.leaks:
        print(f"warning: {LEAK_WARNING}")
    made = shard_pattern(args.output, args.shards)
    print(f"arrays: {made}   next: {cli.shown('train.py', '--data', made)}")
    return 0


@contextlib.contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal; give the function that moves it on."""
    with tqdm(total=total, desc=title, unit=f" {unit}", disable=None) as bar:
        yield bar.update


def fetch(dataset_path: Path, download: bool, archive_path: Path | None, digits: bool) -> None:
    """Put the photographs where they are wanted, if they are not there yet."""
    if not (download or archive_path or digits):
        return
    make_folder(dataset_path)
    with locked(dataset_path / "train"):
        note = None
        if download:
            note = archive.fetch(dataset_path)
        elif archive_path:
            note = archive.unpack(archive_path, dataset_path)
        else:
            sample.write_digits(dataset_path)
    if note:
        print(f"note: {note}", file=sys.stderr)


def report_left_out(left_out: list[dict[str, str]], strict: bool) -> None:
    """List the files that cannot be used; raise UserError if `strict` and there are any."""
    for item in left_out:
        print(f"skipped: {item['file']!r}: {item['reason']}", file=sys.stderr)
    if left_out:
        if strict:
            raise UserError(f"{len(left_out)} files cannot be used (--strict): mend or remove them")
        print(f"skipped {len(left_out)} files that cannot be used", file=sys.stderr)


def report_groups(groups: Groups, photographs: build.Photographs, verbose: bool) -> None:
    """Print the near-duplicates found: a line, and where `verbose` every group."""
    found, labels = groups.multiples(), photographs.labels
    pairs, shots = groups.joined
    count = Counter(labels[group[0]] for group in found)
    across = sum(len({labels[i] for i in group}) > 1 for group in found)
    print(
        f"near-duplicates: {pairs} pairs by hash and {shots} known shots in {len(found)} groups "
        f"({across} across classes), none in two splits"
    )
    if found:
        print("  most in " + ", ".join(f"{label} {n}" for label, n in count.most_common(5)))
    if verbose:
        for group in found:
            print("  " + " = ".join(photographs.sources[i] for i in group))


def report_shapes(
    plan: dict[str, np.ndarray], classes: list[str], size: int, verbose: bool
) -> None:
    """Print numbers and shapes as the original does; where `verbose`, a table of classes."""
    for split, name in (("train", "training"), ("val", "validation"), ("test", "test")):
        count = len(plan[split])
        print(f"number of {name} examples: {count}")
        print(f"X_{split} shape: ({count}, {size}, {size}, 3)")
        print(f"Y_{split} shape: ({count}, {len(classes)})")
    if verbose:
        counts = {split: Counter(plan[split]["label"].tolist()) for split in SPLITS}
        width = max(5, *map(len, classes))
        print(f"{'class':{width}}  train    val   test")
        for number, name in enumerate(classes):
            print(f"{name:{width}} " + " ".join(f"{counts[split][number]:6}" for split in SPLITS))


def report_untested(plan: dict[str, np.ndarray], classes: list[str]) -> None:
    """Name the classes with no photograph in test."""
    untested = sorted(set(range(len(classes))) - set(plan["test"]["label"].tolist()))
    if untested:
        some = ", ".join(classes[number] for number in untested[:5])
        more = f" and {len(untested) - 5} more" if len(untested) > 5 else ""
        print(
            f"note: too few photographs of {some}{more} to test any: no figure tells how well "
            "they are named",
            file=sys.stderr,
        )


def audit(path: Path, bits: int | None, workers: int, verbose: bool) -> int:
    """Check finished arrays; return 1 and name the pairs if their splits overlap."""
    with Arrays(path) as finished:
        counts = [finished.count(split) for split in SPLITS]
        with progress("Auditing", sum(counts), "images") as done:
            bits = max(finished.near_duplicate_bits, MAX_BITS) if bits is None else bits
            found = overlaps(finished, bits, workers, done)
        shown = ", ".join(f"{split} {n}" for split, n in zip(SPLITS, counts, strict=True))
        print(f"audit of {path}: protocol {finished.protocol}, {shown}")
    for split, source, other_split, other_source, why in found[: None if verbose else 20]:
        one, other = cli.printable(source), cli.printable(other_source)
        print(f"overlap: {split} {one} = {other_split} {other} ({why})")
    if found:
        if len(found) > 20 and not verbose:
            print(f"... and {len(found) - 20} more (--verbose lists them)")
        number = f"{len(found)} or more" if len(found) == MOST else len(found)
        print(f"prepro.py: audit: {number} overlaps between the splits", file=sys.stderr)
        return 1
    print(
        "audit: no source, known shot, near-duplicate (by thumbnail, or by hash within "
        f"{bits} bits) or copy of one stands in two splits"
    )
    return 0


if __name__ == "__main__":
    cli.run(main, product="file")
