"""Hostile and damaged archives: refused in a line and in time, nothing written or run outside.

A case is `prepro.py --archive` in a folder with canaries: whatever is beside DIR must stay as it
is, and nothing may be left in DIR. What makes the archives serves tests/test_archive.py too.
"""

import functools
import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from faulty.row import Ended, Row, not_refused, run

TAR_NAME, TOP = "101_ObjectCategories.tar.gz", "101_ObjectCategories"
MILLION = 10**6
Member = tuple[str, bytes] | tarfile.TarInfo


def tar(*members: Member, **options) -> bytes:
    """Return a tar.gz with files (name, bytes) and other members (TarInfo) in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                archive.addfile(special(tarfile.REGTYPE, member[0], size=len(member[1])),
                                io.BytesIO(member[1]))  # fmt: skip
    return gzip.compress(file.getvalue(), mtime=0)


def zipped(data: bytes, name: str = f"caltech-101/{TAR_NAME}", method: int = 0) -> bytes:
    """Return a zip file with `data` in it and, as the official one has it, more."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("caltech-101/show_annotation.m", "other things")
        archive.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", "mac")
        archive.writestr(name, data)
    return file.getvalue()


def special(kind: bytes, name: str = f"{TOP}/ant/image_0009.jpg", link: str = "image_0000.jpg",
            **more) -> tarfile.TarInfo:  # fmt: skip
    """Return a member of any kind."""
    member = tarfile.TarInfo(name)
    member.type = kind
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        member.linkname = link
    for attribute, value in more.items():
        setattr(member, attribute, value)
    return member


def folder_member(name: str) -> tarfile.TarInfo:
    """Return a folder as a member."""
    return special(tarfile.DIRTYPE, name)


def header(member: tarfile.TarInfo) -> bytes:
    """Return the block, or the blocks, that stand before a member's bytes."""
    return member.tobuf(tarfile.GNU_FORMAT)


def with_pax(**headers: str) -> bytes:
    """Return a tar.gz with a file whose pax headers are these."""
    member = special(tarfile.REGTYPE, f"{TOP}/ant/1.jpg", pax_headers=headers)
    return tar(member, format=tarfile.PAX_FORMAT)


def extended(kind: bytes, text: bytes) -> bytes:
    """Return a header with a text, as of a long name."""
    return header(special(kind, "././@Long", size=len(text))) + text + bytes(-len(text) % 512)


# Members that lead, link or grow elsewhere; {folder} stands for a folder outside.
HOSTILE: dict[str, list[Member]] = {
    "absolute": [("{folder}/evil.jpg", b"evil")],
    "dots": [(f"{TOP}/../../evil.jpg", b"evil")],
    "dots at the end": [(f"{TOP}/ant/..", b"evil")],
    "dots in a folder": [folder_member(f"{TOP}/../../evil")],
    "backslashes": [(f"{TOP}\\..\\..\\evil.jpg", b"evil")],
    "symlink": [special(tarfile.SYMTYPE)],
    "symlink out": [special(tarfile.SYMTYPE, link="../../../../archive")],
    "file through a symlinked category": [
        special(tarfile.SYMTYPE, f"{TOP}/evil", link="../.."), (f"{TOP}/evil/1.jpg", b"evil")
    ],
    "file through a symlinked file": [
        special(tarfile.SYMTYPE, f"{TOP}/ant/1.jpg", link="{folder}/evil.jpg"),
        (f"{TOP}/ant/1.jpg", b"evil"),
    ],
    "hard link": [special(tarfile.LNKTYPE, link=f"{TOP}/ant/image_0000.jpg")],
    "hard link out": [special(tarfile.LNKTYPE, link="{folder}/canary")],
    "device": [special(tarfile.CHRTYPE, devmajor=1, devminor=5)],
    "disk": [special(tarfile.BLKTYPE)],
    "pipe": [special(tarfile.FIFOTYPE)],
    "of a kind that nobody knows": [special(b"Z")],
    "sparse file": [special(tarfile.GNUTYPE_SPARSE)],
}  # fmt: skip

# Names that some system cannot keep, or takes for another thing.
ODD_NAMES = (
    "C:", "C:foo.jpg", "C:/ant/1.jpg", f"{TOP}/C:/1.jpg", f"{TOP}/ant/1.jpg:stream",
    f"{TOP}/con/1.jpg", f"{TOP}/ant/NUL.jpg", f"{TOP}/ant/com1", f"{TOP}/aux.d/1.jpg",
    f"{TOP}/ant./1.jpg", f"{TOP}/ant /1.jpg", f"{TOP}/ant/1.jpg.", f"{TOP}/ant/" + "n" * 256,
    f"{TOP}/ant/" + "é" * 128,  # 256 bytes
    f"{TOP}/a|b/1.jpg", f"{TOP}/ant/?.jpg", f"{TOP}/ant/a\nb.jpg", f"{TOP}/ant/\033[2Jb.jpg",
    f"{TOP}/ant/\udcff.jpg", f"{TOP}/ant/\u202egpj.exe", f"{TOP}/ant/a\rb.jpg",
)  # fmt: skip

# Two files that are one, here or on a system that tells neither case nor forms of Unicode apart.
TWICE = {
    "a name twice": ("ant/1.jpg", "ant/1.jpg"),
    "a name in two cases": ("ant/1.jpg", "ant/1.JPG"),
    "a name in two forms of Unicode": ("ant/\u00e9.jpg", "ant/e\u0301.jpg"),
    "a category in two cases": ("ant/1.jpg", "Ant/2.jpg"),
    "a category in two forms of Unicode": ("\u00e9/1.jpg", "e\u0301/2.jpg"),
}


@functools.cache
def photographs() -> list[tuple[str, bytes]]:
    """Return members that prepro.py makes arrays of: two classes of 8 small JPEGs."""
    drawn, members = np.random.default_rng(0), []
    for label in ("ant", "bee"):
        for number in range(8):
            file = io.BytesIO()
            cells = drawn.integers(30, 200, (6, 6, 3), np.uint8)
            Image.fromarray(cells).resize((40, 40)).save(file, "JPEG")
            members.append((f"{TOP}/{label}/image_{number:04}.jpg", file.getvalue()))
    return members


def hostile(outside: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the small archives that are to be refused, (name, bytes)."""
    good = photographs()
    for name, members in HOSTILE.items():
        yield name, tar(*good, *(placed(member, outside) for member in members))
    for name in ODD_NAMES:
        yield f"name {name[:40]!a}", tar(*good, (name, b"odd"))
    for name, pair in TWICE.items():
        yield name, tar(*good, *((f"{TOP}/{part}", b"photo") for part in pair))
    for name, value in (("negative", -1024), ("of a petabyte", 2**50), ("beyond 64 bits", 2**70)):
        member = special(tarfile.REGTYPE, size=value)
        yield f"size {name}", gzip.compress(header(member) + bytes(4096))
        yield f"size {name} in a pax header", _with_records(f"size={value}")
    yield "size of 5,000 digits", _with_records(f"size={'9' * 5000}")
    yield "sparse terabytes", with_pax(**{
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**42)
    })  # fmt: skip
    yield "sparse terabytes of old", _sparse_of_old()
    yield "NUL in a pax name", with_pax(path=f"{TOP}/ant/1.jpg\0.png")
    yield "dots in a pax name", with_pax(path=f"{TOP}/../../evil.jpg")
    for text in (b"-5 path=x\n", b"9" * 60_000, b"0 path=x\n", b"99999 path=x\n", b"6 path\n"):
        yield f"pax header {text[:12]!r}", gzip.compress(extended(tarfile.XHDTYPE, text))
    yield "zip of a zip", zipped(zipped(tar(*good)))
    yield "gz of a gz", gzip.compress(tar(*good))
    yield "tar of a tar", tar((TAR_NAME, tar(*good)))
    yield "zip with another name", zipped(tar(*good), "other.tar.gz")
    yield "zip with overlapping members", _overlapping(zipped(tar(*good)))
    for method, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")):
        yield f"zip by {name}", zipped(tar(*good), method=method)
        yield f"zip bomb by {name}", zipped(bytes(8 << 20), method=method)
    yield "nothing", b""
    yield "no archive", b"no archive\n" * 1000
    yield "more behind its end", tar(*good) + b"more"


def placed(member: Member, outside: Path) -> Member:
    """Return a member of HOSTILE that leads to a folder outside."""
    if isinstance(member, tuple):
        return member[0].format(folder=outside), member[1]
    return special(member.type, member.name, member.linkname.format(folder=outside))


def _with_records(text):
    """Return a tar.gz with a file that a pax header says this of."""
    record = f"{len(text) + 7:05} {text}\n".encode()
    blocks = extended(tarfile.XHDTYPE, record) + header(special(tarfile.REGTYPE)) + bytes(2048)
    return gzip.compress(blocks)


def _sparse_of_old():
    """Return a tar.gz with a sparse file in GNU's old format, of 8 TB in no bytes."""
    block = bytearray(header(special(tarfile.GNUTYPE_SPARSE)))
    block[483:495] = tarfile.itn(2**43, 12, tarfile.GNU_FORMAT)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return gzip.compress(bytes(block) + bytes(2048))


def _overlapping(data):
    """Return a zip file whose every member stands where its first one does."""
    data, place = bytearray(data), 0
    while (place := data.find(b"PK\1\2", place)) >= 0:
        data[place + 42 : place + 46] = bytes(4)
        place += 1
    return bytes(data)


# Archives too large to be held: what makes each writes it to a path.


def _gz(path: Path, blocks: Iterator[bytes]) -> None:
    with gzip.open(path, "wb", 1) as file:
        for block in blocks:
            file.write(block)


def _numbered(kind: bytes, count: int) -> Iterator[bytes]:
    """Yield headers of empty members with names of their own, a thousand at a time."""
    block = header(special(kind, f"{TOP}/ant/image_0000000.jpg"))
    at, total = block.index(b"0000000.jpg"), int(block[148:154], 8)
    for thousand in range(0, count, 1000):
        made = bytearray(block * 1000)
        for place in range(1000):
            digits = b"%07d" % (thousand + place)
            start = place * 512
            made[start + at : start + at + 7] = digits
            made[start + 148 : start + 154] = b"%06o" % (total + sum(digits) - 7 * 48)
        yield bytes(made)


def _zeros(path: Path, first: bytes, megabytes: int) -> None:
    """Write a gzip file of `first` and so many zeros: 1 MB of it unpacks to a thousand."""
    packer = zlib.compressobj(9, wbits=-15)
    with path.open("wb") as file:
        file.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
        file.write(packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH))
        block = packer.compress(bytes(16 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        for _ in range(megabytes // 16):
            file.write(block)
        file.write(b"\3\0" + bytes(8))  # its end, with a checksum that is wrong


def _empty_members(path):
    """Write 10^7 gzip files of nothing, one behind the other."""
    with path.open("wb") as file:
        for _ in range(100):
            file.write(gzip.compress(b"", mtime=0) * (MILLION // 10))


def _padded(path):
    with path.open("wb") as file:
        file.write(tar(*photographs()))
        for _ in range(200):
            file.write(bytes(1 << 20))


def _empty_blocks(path):
    """Write a gzip file of 40 million stored blocks of no bytes."""
    with path.open("wb") as file:
        file.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
        for _ in range(200):
            file.write(b"\0\0\0\xff\xff" * 200_000)


def _zip_of_a_million(path):
    """Write a zip file that lists 10^6 members."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0)
    with path.open("wb") as file:
        for number in range(0, MILLION, 1000):
            file.write(b"".join(entry + b"%08d" % n for n in range(number, number + 1000)))
        file.write(_zip_end(MILLION, 0, file.tell()))


def _zip_end(count, start, size):
    """Return the records at the end of a zip64 file."""
    there = start + size
    return (
        struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        + struct.pack("<4sIQI", b"PK\6\7", 0, there, 1)
        + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    )


def _zip_with_a_list_of_terabytes(path):
    path.write_bytes(bytes(1000) + _zip_end(2**40, 0, 1000).replace(b"\xe8\3", b"\xe8\4"))


def _gz_bomb_in_a_zip(path):
    """Write a zip file with a gzip file: 50 kB that unpack to 20 MB, which unpack to 20 GB."""
    inner = path.with_name("inner")
    _zeros(inner, header(special(tarfile.REGTYPE, size=2**28)), 20_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, TAR_NAME)
    inner.unlink()


def _sized(count: int, size: int) -> Iterator[bytes]:
    """Yield so many files of zeros."""
    for number in range(count):
        yield header(special(tarfile.REGTYPE, f"{TOP}/ant/{number}.jpg", size=size))
        for _ in range(size >> 20):
            yield bytes(1 << 20)


def _global(count: int) -> Iterator[bytes]:
    """Yield headers with 60 kB that hold for all members after them, and empty files."""
    records = b"".join(b"14 n%07d=x\n" % n for n in range(4000))
    yield extended(tarfile.XGLTYPE, records)
    yield from _numbered(tarfile.REGTYPE, count)


def _each(block: bytes, count: int) -> Iterator[bytes]:
    """Yield a block so many times."""
    for _ in range(0, count, 1000):
        yield block * 1000


LONG_NAME = extended(tarfile.GNUTYPE_LONGNAME, b"name")
DIGITS = extended(tarfile.XHDTYPE, b"9" * (1 << 20))
LARGE: dict[str, Callable[[Path], None]] = {
    "a million files": lambda path: _gz(path, _numbered(tarfile.REGTYPE, MILLION)),
    "a million folders": lambda path: _gz(path, _numbered(tarfile.DIRTYPE, MILLION)),
    "a million long names": lambda path: _gz(path, _each(LONG_NAME, MILLION)),
    "headers for all, and a million files": lambda path: _gz(path, _global(MILLION)),
    "a million digits as header": lambda path: _gz(path, iter([DIGITS])),
    "a long name of a gigabyte": lambda path: _zeros(
        path, header(special(tarfile.GNUTYPE_LONGNAME, size=2**30)), 1024
    ),
    "500 MB, then a link": lambda path: _gz(
        path, iter([*_sized(10, 50 << 20), header(special(tarfile.SYMTYPE))])
    ),
    "a bomb of many files of 20 MB": lambda path: _gz(path, _sized(60, 20 << 20)),
    "a bomb of one file of 100 GB": lambda path: _zeros(
        path, header(special(tarfile.REGTYPE, size=100 << 30)), 10_000
    ),
    "a bomb behind the last member": lambda path: _zeros(path, b"", 100_000),
    "a bomb of bombs in a zip file": _gz_bomb_in_a_zip,
    "ten million empty gzip files": _empty_members,
    "200 MB of zeros behind its end": _padded,
    "40 million empty blocks": _empty_blocks,
    "a zip file of a million members": _zip_of_a_million,
    "a zip file with a list of terabytes": _zip_with_a_list_of_terabytes,
    "a file of 10 GB": lambda path: _grown(path, 10 << 30),
}


def _grown(path, size):
    with path.open("wb") as file:
        file.write(tar(*photographs()))
        file.truncate(size)


def damaged(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield archives that are cut off, and such with changed bytes, (name, bytes)."""
    draw = random.Random(seed)
    wholes = tar(*photographs()), zipped(tar(*photographs()))
    for number in range(count):
        data = bytearray(wholes[number % 2])
        place = draw.randrange(len(data))
        if number % 3:
            data[place] ^= 1 << draw.randrange(8)
            yield f"bit changed at {place} of {len(data)}", bytes(data)
        else:
            yield f"cut off at {place} of {len(data)}", bytes(data[:place])


def harmless() -> Iterator[tuple[str, bytes]]:
    """Yield archives that are odd but to be unpacked, (name, bytes)."""
    good = photographs()
    yield "plain", tar(*good)
    yield "in a zip file", zipped(tar(*good), method=zipfile.ZIP_DEFLATED)
    yield "a category named train", tar(*((n.replace("/ant/", "/train/"), d) for n, d in good))
    yield "a command as name", tar(*good, (f"{TOP}/ant/$(touch ..evil);`touch evil`", good[0][1]))
    data = good[1][1]
    bits = tarfile.TarInfo(f"{TOP}/ant/setuid.jpg")
    bits.mode, bits.uid, bits.size = 0o6777, 12345, len(data)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(bits, io.BytesIO(data))
        for name, data in good:
            archive.addfile(special(tarfile.REGTYPE, name, size=len(data)), io.BytesIO(data))
    yield "setuid, setgid and another owner", gzip.compress(file.getvalue())


def listing(folder: Path, leave_out: Path) -> dict[str, tuple]:
    """Return what is in a folder but for one in it: {path: (mode, content)}."""
    return {
        str(path): (
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() and path.stat().st_size < 1 << 20 else None,
        )
        for path in folder.rglob("*")
        if path != leave_out and leave_out not in path.parents
    }


def try_one(folder: Path, make: bytes | Callable[[Path], None], refuse: bool | None,
            seconds: float = 5) -> tuple[str, Ended]:  # fmt: skip
    """Give an archive to prepro.py; return what was lost, "" if nothing was.

    Args:
        folder: empty, for the case.
        make: the archive, or what writes it to a path.
        refuse: whether it is to be refused; None: or be unpacked as if it were whole.
        seconds: that a refusal may take.
    """
    above = folder / "above"
    place = above / "beside" / "set"
    place.mkdir(parents=True)
    for name in ("canary", "train", "beside/canary"):
        (above / name).write_text("as it was")
    archive = folder / "archive"
    make(archive) if callable(make) else archive.write_bytes(make)
    before = listing(folder, place)
    ended = run("prepro.py", "--archive", archive, "--dataset-path", place, "--output",
                folder / "made" / "X.h5", "--image-size", 32, "--target-per-class", 0,
                "--workers", 1, folder=above)  # fmt: skip
    archive.unlink(missing_ok=True)
    after = listing(folder, place)
    before.pop(str(archive)), after.pop(str(archive), None)
    if ended.status == 0 and not refuse:
        made = folder / "made"
        after = {path: what for path, what in after.items() if Path(path).parent != made}
        after.pop(str(made))
        problem = _not_unpacked(place, refuse is None)
    else:
        problem = not_refused(ended, seconds)
        left = sorted(path.name for path in place.rglob("*"))
        problem = problem or (f"left in the folder: {left[:5]}" if left else "")
    return (f"outside: {_difference(before, after)}" if before != after else problem), ended


def _difference(before, after):
    return sorted(path for path in before | after if before.get(path) != after.get(path))[:5]


def _not_unpacked(place, whole):
    """Return what is wrong with an unpacked folder, "" if nothing is."""
    files = [path for path in place.rglob("*") if path.is_file()]
    if any(path.stat().st_mode & 0o7000 for path in files):
        return "setuid"
    if any(path.name.startswith(".") for path in place.iterdir()):
        return "a hidden file is left"
    said = sorted(data for _, data in photographs())
    if whole and sorted(path.read_bytes() for path in files) != said:
        return "unpacked, but not what it holds"
    return ""


def archives(row: Row, folder: Path, seed: int) -> None:
    """Try all of them, two at a time."""
    cases = [(*case, True) for case in hostile(folder / "outside")]
    cases += [(*case, True) for case in LARGE.items()]
    cases += [(*case, None) for case in damaged(seed, 60)]
    cases += [(*case, False) for case in harmless()]
    (folder / "outside").mkdir()
    (folder / "outside/canary").write_text("as it was")

    def one(numbered):
        number, (name, make, refuse) = numbered
        place = folder / str(number)
        place.mkdir()
        return name, *try_one(place, make, refuse)

    with ThreadPoolExecutor(2) as pool:
        for name, problem, ended in pool.map(one, enumerate(cases)):
            row.add(name, problem, ended)
    outside = {path.name: path.read_text() for path in (folder / "outside").iterdir()}
    row.add("nothing changed outside", "" if outside == {"canary": "as it was"} else str(outside))
