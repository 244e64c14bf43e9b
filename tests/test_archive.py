"""The archive: fetched with resume and checksum, unpacked whole or not at all."""

import contextlib
import errno
import gzip
import hashlib
import io
import random
import shutil
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from classifier.data.archive import BACKGROUND, fetch, unpack
from classifier.data.members import TAR_NAME
from classifier.errors import UserError

sys.path.insert(0, str(ROOT / "benchmarks"))
from faulty import archives as made
from faulty import downloads
from faulty.archives import TOP, extended, folder_member, header, special, tar, with_pax, zipped

BYTES = np.random.default_rng(0).bytes
PHOTOS = {
    f"{label}/image_{number:04}.jpg": BYTES(700)
    for label in ("ant", "bee", BACKGROUND)
    for number in range(3)
}


GOOD = [(f"{TOP}/{name}", data) for name, data in PHOTOS.items()]
MAC = [(f"{TOP}/ant/._image_0000.jpg", b"mac"), ("._" + TOP, b"mac"), (f"{TOP}/._bee", b"mac"),
       (f"{TOP}/ant/.DS_Store", b"mac"), ("README", b"no category")]  # fmt: skip
SMALL = tar(folder_member(TOP), folder_member(f"{TOP}/ant"), *MAC, *GOOD)


def files_in(folder):
    """Return {path: bytes} of all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def expected_files():
    return {
        name if name.startswith(BACKGROUND) else f"train/{name}": data
        for name, data in PHOTOS.items()
    }


@pytest.mark.parametrize("data", [SMALL, zipped(SMALL)], ids=["tar.gz", "zip"])
def test_unpack(data, tmp_path):
    (tmp_path / "archive").write_bytes(data)
    note = unpack(tmp_path / "archive", tmp_path / "deep/set")
    assert "not the official" in note
    assert files_in(tmp_path / "deep") == {f"set/{k}": v for k, v in expected_files().items()}

    # A second run leaves everything as it is, whatever the archive.
    (tmp_path / "deep/set/train/ant/image_0000.jpg").unlink()
    (tmp_path / "archive").write_bytes(tar((f"{TOP}/new/1.jpg", b"new")))
    before = files_in(tmp_path)
    assert "already" in unpack(tmp_path / "archive", tmp_path / "deep/set")
    assert files_in(tmp_path) == before


def test_what_an_interrupted_run_left_is_no_hindrance(tmp_path):
    (tmp_path / "archive").write_bytes(SMALL)
    for name in (".unpacking/train/ant/old.jpg", f"{BACKGROUND}/old.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        (tmp_path / "set" / name).write_text("old")
    unpack(tmp_path / "archive", tmp_path / "set")
    assert files_in(tmp_path / "set") == expected_files()


def test_the_official_checksum_gives_no_note(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.archive.TAR_MD5", hashlib.md5(SMALL).hexdigest())
    for name, data in (("plain", SMALL), ("zip", zipped(SMALL))):
        (tmp_path / name).write_bytes(data)
        assert unpack(tmp_path / name, tmp_path / f"set-{name}") is None


def refused(data, tmp_path):
    """Assert that unpacking raises UserError and leaves nothing anywhere; return its text."""
    (tmp_path / "archive").write_bytes(data)
    with pytest.raises(UserError) as caught:
        unpack(tmp_path / "archive", tmp_path / "set")
    assert set(tmp_path.iterdir()) <= {tmp_path / "archive", tmp_path / "set"}
    assert list(tmp_path.glob("set/*")) == []
    assert str(tmp_path / "archive") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_members_that_lead_elsewhere_are_refused(tmp_path):
    for name, members in made.HOSTILE.items():
        data = tar(*GOOD, *(made.placed(member, tmp_path / "elsewhere") for member in members))
        leads = name == "absolute" or name.startswith(("dots", "backslashes"))
        reason = "leads out of the folder" if leads else "is a link or device, no file or folder"
        assert f"{reason}; not unpacked" in refused(data, tmp_path), name


def test_names_that_some_system_cannot_keep_are_refused(tmp_path):
    for name in made.ODD_NAMES:
        text = refused(tar(*GOOD, (name, b"odd")), tmp_path)
        assert "not unpacked" in text
        assert len(text) < 400
        assert text.isprintable()
        refused(tar(*GOOD, folder_member(name)), tmp_path)


@pytest.mark.parametrize("name", made.TWICE)
def test_files_that_are_one_on_some_system_are_refused(name, tmp_path):
    data = tar(*GOOD, *((f"{TOP}/{part}", b"photo") for part in made.TWICE[name]))
    told = "two folders of one category" if "category" in name else "are one name"
    assert told in refused(data, tmp_path)


def test_names_that_only_look_like_devices_are_unpacked(tmp_path):
    names = [f"{TOP}/{name}" for name in ("console/1.jpg", "ant/null.jpg", "ant/com.jpg")]
    (tmp_path / "archive").write_bytes(tar(*((name, b"fine") for name in names)))
    unpack(tmp_path / "archive", tmp_path / "set")
    assert len(files_in(tmp_path / "set")) == 3


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (
            {"path": f"{TOP}/ant/1.jpg\0.png"},
            "holds a character that cannot be shown; not unpacked",
        ),
        ({"path": f"{TOP}/a\0nt/1.jpg"}, "holds a character that cannot be shown; not unpacked"),
        ({"GNU.sparse.map": "x,y", "GNU.sparse.size": "1"}, "is a link or device, no file"),
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, "is a link or device, no file"),
        ({"size": "-512"}, "a negative size"),
        ({"size": "9" * 30}, "far more"),
        ({"size": "9" * 5000}, "damaged"),
        ({"size": "some"}, "damaged"),
    ],
)
def test_odd_pax_headers_are_refused(headers, reason, tmp_path):
    assert reason in refused(with_pax(**headers), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
                                  tarfile.XHDTYPE, tarfile.XGLTYPE])  # fmt: skip
def test_a_huge_header_is_refused_and_not_taken_to_memory(kind, tmp_path):
    data = gzip.compress(header(special(kind, size=1 << 30)) + bytes(40 << 20), 1)
    tracemalloc.start()
    try:
        assert "a name or header of over 65,536 bytes" in refused(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_headers_that_hold_for_all_members_are_not_kept_with_each(tmp_path):
    """A small archive would fill any memory: a megabyte for each of many thousands."""
    records = b"".join(b"14 n%07d=x\n" % number for number in range(4000))
    photos = (header(special(tarfile.REGTYPE, f"{TOP}/ant/{n}.jpg")) for n in range(1000))
    data = gzip.compress(extended(tarfile.XGLTYPE, records) + b"".join(photos) + bytes(1024))
    (tmp_path / "archive").write_bytes(data)
    tracemalloc.start()
    try:
        unpack(tmp_path / "archive", tmp_path / "set")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert len(files_in(tmp_path / "set")) == 1000


@pytest.mark.parametrize("text", [b"-5 path=x\n", b"0 path=x\n", b"999 path=x\n", b"6 path\n", b"",
                                  b"9" * 60_000, b"11 path=x y", b"\xb2 a=b\n"])  # fmt: skip
def test_damaged_extended_headers_are_refused(text, tmp_path):
    refused(gzip.compress(extended(tarfile.XHDTYPE, text) + bytes(1024)), tmp_path)


def test_very_many_headers_in_a_row_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.members.MAX_HEADERS", 1000)
    block = extended(tarfile.GNUTYPE_LONGNAME, b"name")
    assert "far more" in refused(gzip.compress(block * 1001, mtime=0), tmp_path)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_padding_are_read(form, tmp_path):
    name = f"{'deep/' * 40}{TOP}/ant/{'n' * 230}\u00e9.jpg"
    members = (name, b"photo"), folder_member(f"{TOP}/{'f' * 150}")
    data = tar(*members, format=form)
    (tmp_path / "archive").write_bytes(gzip.compress(gzip.decompress(data) + bytes(3 << 20)))
    unpack(tmp_path / "archive", tmp_path / "set")
    assert files_in(tmp_path / "set") == {f"train/ant/{'n' * 230}\u00e9.jpg": b"photo"}


def test_a_photograph_may_be_larger_than_headers(tmp_path):
    photo = BYTES(3 << 20)
    (tmp_path / "archive").write_bytes(tar((f"{TOP}/ant/1.jpg", photo)))
    unpack(tmp_path / "archive", tmp_path / "set")
    assert files_in(tmp_path / "set") == {"train/ant/1.jpg": photo}


def test_a_full_disk_is_no_damaged_archive(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "archive").write_bytes(SMALL)
    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "archive", tmp_path / "set")
    assert list(tmp_path.glob("set/*")) == []


def test_train_takes_its_name_last(tmp_path, monkeypatch):
    """Where it stands nothing is unpacked again: it must not stand before the rest is there."""
    named, replace = [], Path.replace

    def noted(path, target):
        named.append(target.name)
        return replace(path, target)

    (tmp_path / "archive").write_bytes(SMALL)
    monkeypatch.setattr(Path, "replace", noted)
    unpack(tmp_path / "archive", tmp_path / "set")
    assert named == [BACKGROUND, "train"]


def test_two_folders_of_one_category_are_refused(tmp_path):
    for other in (f"other/{TOP}/ant/9.jpg", "ant/9.jpg", f"{TOP}/bee/ant/9.jpg"):
        text = refused(tar(*GOOD, (other, b"of another set")), tmp_path)
        assert repr(f"{TOP}/ant") in text
        assert repr(other.removesuffix("/9.jpg")) in text
        assert "two folders of one category" in text
    # One folder, written in two ways, is one.
    (tmp_path / "same").write_bytes(tar(*GOOD, (f"./{TOP}//ant/9.jpg", b"of this set")))
    unpack(tmp_path / "same", tmp_path / "set")
    assert (tmp_path / "set/train/ant/9.jpg").read_bytes() == b"of this set"


def test_a_zip_file_with_two_archives_is_refused(tmp_path):
    data = io.BytesIO(zipped(SMALL))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr(f"other/{TAR_NAME}", SMALL)
    assert "give the official archive" in refused(data.getvalue(), tmp_path)


def zip_marked(flags=0, method=None):
    """Return a zip file whose tar.gz is marked as encrypted, or as compressed in some other way."""
    data = bytearray(zipped(SMALL))
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        header = data.rindex(signature)  # the tar.gz is the last member
        data[header + place] |= flags
        if method is not None:
            data[header + place + 2] = method
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zip_marked(flags=1), "is encrypted; unpack it and give"),
        (zip_marked(flags=1, method=99), "is encrypted; unpack it and give"),  # AES
        (zip_marked(method=99), "is packed in an unusual way; unpack it another way"),
        (zip_marked(method=zipfile.ZIP_LZMA), "is packed in an unusual way; unpack it"),
        (zip_marked(method=zipfile.ZIP_BZIP2), "is packed in an unusual way; unpack it"),
        (zip_marked(flags=0x20), "unpack it another way"),  # a patch
    ],
)
def test_zip_files_that_python_cannot_open_are_refused(data, reason, tmp_path):
    assert reason in refused(data, tmp_path)


def test_folders_count_too(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.members.MAX_HEADERS", 50)
    folders = [folder_member(f"{TOP}/class_{number}") for number in range(60)]
    assert "far more" in refused(tar(*GOOD, *folders), tmp_path)


def test_too_many_and_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.members.MAX_HEADERS", 8)
    assert "far more" in refused(SMALL, tmp_path)
    monkeypatch.setattr("classifier.data.members.MAX_HEADERS", 20)
    monkeypatch.setattr("classifier.data.members.MAX_BYTES", 6000)
    assert "far more" in refused(SMALL, tmp_path)


def test_what_unpacks_without_end_is_broken_off(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.members.MAX_BYTES", 1 << 20)
    plain = gzip.decompress(SMALL)
    assert "far more" in refused(gzip.compress(plain + bytes(1 << 20)), tmp_path)
    zeros = gzip.compress(bytes(20 << 20))  # of which 16 kB unpack to more than may be
    assert "far more" in refused(zeros, tmp_path)


def test_files_too_large_are_not_read(tmp_path, monkeypatch):
    for limit, data in (("MAX_ARCHIVE", SMALL), ("MAX_ARCHIVE", zipped(bytes(4000), TAR_NAME)),
                        ("MAX_LIST", zipped(SMALL))):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(f"classifier.data.members.{limit}", 200)
            assert "far more" in refused(data, tmp_path)
    packed = zipped(bytes(100_000), TAR_NAME, zipfile.ZIP_DEFLATED)  # small, but not what it holds
    monkeypatch.setattr("classifier.data.members.MAX_ARCHIVE", 10_000)
    assert "far more" in refused(packed, tmp_path)


def test_headers_with_changed_bytes_are_unpacked_or_refused_and_nothing_else(tmp_path):
    draw, plain = random.Random(0), gzip.decompress(tar(*GOOD, format=tarfile.PAX_FORMAT))
    long = extended(tarfile.XHDTYPE, b"30 path=101_ObjectCategories/\n") + plain
    (tmp_path / "archive").touch()
    for number in range(100):
        data = bytearray((plain, long)[number % 2])
        for _ in range(draw.randint(1, 4)):  # in a header, and its checksum made good
            start = draw.randrange(len(data) // 512) * 512
            data[start + draw.randrange(512)] = draw.randrange(256)
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
        (tmp_path / "archive").write_bytes(gzip.compress(data, 1))
        with contextlib.suppress(UserError):
            unpack(tmp_path / "archive", tmp_path / "set")
        assert {path.name for path in tmp_path.iterdir()} <= {"archive", "set"}
        assert {path.name for path in (tmp_path / "set").iterdir()} <= {"train", BACKGROUND}
        shutil.rmtree(tmp_path / "set")


def test_what_stands_behind_the_end_is_refused(tmp_path):
    for more in (b"\0", bytes(1 << 20), gzip.compress(b""), b"more"):
        assert "there is more behind its end" in refused(SMALL + more, tmp_path)
        assert "there is more behind its end" in refused(zipped(SMALL + more), tmp_path)


def test_nothing_is_written_of_what_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("a folder was made"))
    monkeypatch.setattr("classifier.data.archive.make_folder", lambda _: None)
    refused(tar(*GOOD, special(tarfile.SYMTYPE)), tmp_path)


def test_the_real_command_line_and_its_canaries(tmp_path):
    """What benchmarks/faulty/archives.py tries, in small: the rest is `make faults`."""
    good = made.photographs()
    link = made.HOSTILE["file through a symlinked category"]
    for number, (data, refuse) in enumerate(
        [(tar(*good, *link), True), (made.LARGE["a million digits as header"], True),
         (zipped(tar(*good)), False)]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        problem, ended = made.try_one(folder, data, refuse, seconds=60)
        assert not problem, ended


def test_an_archive_cut_off_anywhere_is_refused(tmp_path):
    for end in range(0, len(SMALL), 150):
        assert "damaged" in refused(SMALL[:end], tmp_path), end
    # Between two photographs, after the last one, and in the checksum at the end.
    for missing in (2200, 40, 20, 8, 1):
        assert "damaged" in refused(SMALL[:-missing], tmp_path), missing
        refused(zipped(SMALL)[:-missing], tmp_path)
    for missing in (40, 1):
        refused(zipped(SMALL[:-missing]), tmp_path)
        refused(zipped(SMALL)[:-missing], tmp_path)


@pytest.mark.parametrize("place", [300, 3000, -6])
def test_a_changed_byte_is_refused(place, tmp_path):
    data = bytearray(SMALL)
    data[place] ^= 0x10
    assert "damaged" in refused(bytes(data), tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged"),
        (b"no archive\n" * 1000, "damaged"),
        (tar(*GOOD)[:10] + b"garbage" * 500, "damaged"),
        (zipped(b"no tar\n" * 1000), "damaged"),
        (zipped(SMALL, "other.tar.gz"), f"no {TAR_NAME}"),
        (tar(("README", b"text"), folder_member(TOP)), "no photographs"),
        (tar((f"{TOP}/{BACKGROUND}/1.jpg", b"1")), "no photographs"),
    ],
)
def test_what_is_no_archive_of_photographs_is_refused(data, reason, tmp_path):
    assert reason in refused(data, tmp_path)


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(UserError, match="none.zip: no such archive"):
        unpack(tmp_path / "none.zip", tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_fetch_needs_no_archive_where_train_stands(tmp_path):
    (tmp_path / "set/train/ant").mkdir(parents=True)
    note = fetch(tmp_path / "set", url="no address", checksum="")  # offline it does the same
    assert note == f"{tmp_path / 'set/train'} is there already: left as it is"
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["train"]


def test_fetch_downloads_and_unpacks(tmp_path, monkeypatch):
    data = zipped(SMALL)
    checksum = hashlib.md5(data).hexdigest()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("classifier.data.archive.TAR_MD5", hashlib.md5(SMALL).hexdigest())
    with downloads.Server(downloads.says(downloads.part(0, data) + data)) as server:
        assert fetch(tmp_path / "set", url=server.url, checksum=checksum) is None
        assert files_in(tmp_path / "set") == {"a.zip": data, **expected_files()}
        assert "already" in fetch(tmp_path / "set", url=server.url, checksum=checksum)
        assert server.asked == [""]
