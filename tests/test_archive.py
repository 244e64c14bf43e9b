"""The archive: fetched with resume and checksum, unpacked whole or not at all."""

import errno
import functools
import gzip
import hashlib
import http.server
import io
import socket
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from classifier.data.archive import BACKGROUND, TAR_NAME, download, fetch, unpack
from classifier.errors import UserError

TOP = "101_ObjectCategories"
BYTES = np.random.default_rng(0).bytes
PHOTOS = {
    f"{label}/image_{number:04}.jpg": BYTES(700)
    for label in ("ant", "bee", BACKGROUND)
    for number in range(3)
}


def tar(*members):
    """Return a tar.gz with files (name, bytes) and other members (TarInfo) in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                name, data = member
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return gzip.compress(file.getvalue(), mtime=0)


def zipped(data, name=f"caltech-101/{TAR_NAME}"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("caltech-101/show_annotation.m", "other things")
        archive.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", "mac")
        archive.writestr(name, data)
    return file.getvalue()


def special(kind, name=f"{TOP}/ant/image_0009.jpg", link="image_0000.jpg"):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def folder_member(name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member


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


HOSTILE = {
    "absolute": ("/{folder}/evil.jpg", b"evil"),
    "dots": (f"{TOP}/../../evil.jpg", b"evil"),
    "dots at the end": (f"{TOP}/ant/..", b"evil"),
    "dots in a folder": folder_member(f"{TOP}/../../evil"),
    "backslashes": (f"{TOP}\\..\\..\\evil.jpg", b"evil"),
    "symlink": special(tarfile.SYMTYPE),
    "symlink out": special(tarfile.SYMTYPE, link="../../../../archive"),
    "symlinked category": special(tarfile.SYMTYPE, f"{TOP}/evil", link="../.."),
    "hardlink": special(tarfile.LNKTYPE, link=f"{TOP}/ant/image_0000.jpg"),
    "device": special(tarfile.CHRTYPE),
    "pipe": special(tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_members_that_lead_elsewhere_are_refused(name, tmp_path):
    member = HOSTILE[name]
    if name == "absolute":
        member = (member[0].format(folder=tmp_path), member[1])
    evil = f"{TOP}/evil/inside.jpg", b"through the link, if it were there"
    linked = isinstance(member, tarfile.TarInfo) and not member.isdir()
    reason = "is a link or device" if linked else "leads out of the folder"
    assert f"{reason}; not unpacked" in refused(tar(*GOOD, member, evil), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "C:", "C:foo.jpg", "C:/ant/1.jpg", f"{TOP}/C:/1.jpg", f"{TOP}/ant/1.jpg:stream",
        f"{TOP}/con/1.jpg", f"{TOP}/ant/NUL.jpg", f"{TOP}/ant/com1", f"{TOP}/aux.d/1.jpg",
        f"{TOP}/ant./1.jpg", f"{TOP}/ant /1.jpg", f"{TOP}/ant/1.jpg.", f"{TOP}/ant/" + "n" * 256,
        f"{TOP}/ant/" + "é" * 128,  # 256 bytes
    ],
)  # fmt: skip
def test_names_that_windows_or_no_system_can_keep_are_refused(name, tmp_path):
    text = refused(tar(*GOOD, (name, b"odd")), tmp_path)
    assert "not unpacked" in text
    assert len(text) < 400
    refused(tar(*GOOD, folder_member(name)), tmp_path)


def test_names_that_only_look_like_devices_are_unpacked(tmp_path):
    names = [f"{TOP}/{name}" for name in ("console/1.jpg", "ant/null.jpg", "ant/com.jpg")]
    (tmp_path / "archive").write_bytes(tar(*((name, b"fine") for name in names)))
    unpack(tmp_path / "archive", tmp_path / "set")
    assert len(files_in(tmp_path / "set")) == 3


def with_pax(**headers):
    """Return a tar.gz with a file whose pax headers are these."""
    member = tarfile.TarInfo(f"{TOP}/ant/1.jpg")
    member.pax_headers = headers
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    return gzip.compress(file.getvalue(), mtime=0)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"path": f"{TOP}/ant/1.jpg\0.png"}, "holds a NUL; not unpacked"),
        ({"path": f"{TOP}/a\0nt/1.jpg"}, "holds a NUL; not unpacked"),
        ({"GNU.sparse.map": "x,y", "GNU.sparse.size": "1"}, "damaged"),
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, "damaged"),
    ],
)
def test_odd_pax_headers_are_refused(headers, reason, tmp_path):
    assert reason in refused(with_pax(**headers), tmp_path)


def long_header(kind, declared, given):
    """Return a tar.gz whose first header declares `declared` bytes, with `given` zeros behind."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, declared
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(given), 1, mtime=0)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
                                  tarfile.XHDTYPE, tarfile.XGLTYPE])  # fmt: skip
def test_a_huge_header_is_refused_and_not_taken_to_memory(kind, tmp_path):
    data = long_header(kind, 1 << 30, 40 << 20)
    tracemalloc.start()
    try:
        assert "over 1,048,576 bytes in one place" in refused(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_very_many_long_names_in_a_row_are_refused(tmp_path):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 4
    block = member.tobuf(tarfile.GNU_FORMAT) + b"name" + bytes(508)
    refused(gzip.compress(block * 1000, mtime=0), tmp_path)


def test_long_names_and_padding_of_usual_size_are_read(tmp_path):
    name = f"{'deep/' * 40}{TOP}/ant/{'n' * 240}.jpg"
    plain = gzip.decompress(tar((name, b"photo")))
    (tmp_path / "archive").write_bytes(gzip.compress(plain + bytes(500_000), mtime=0))
    unpack(tmp_path / "archive", tmp_path / "set")
    assert files_in(tmp_path / "set") == {f"train/ant/{'n' * 240}.jpg": b"photo"}
    (tmp_path / "more").mkdir()
    assert "in one place" in refused(gzip.compress(plain + bytes(3 << 20)), tmp_path / "more")


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
        (zip_marked(method=99), "compression method is not supported; unpack it another way"),
        (zip_marked(method=77), "compression method is not supported; unpack it another way"),
        (zip_marked(method=zipfile.ZIP_LZMA), "damaged"),
        (zip_marked(method=zipfile.ZIP_BZIP2), "damaged"),
        (zip_marked(flags=0x20), "unpack it another way"),  # a patch
    ],
)
def test_zip_files_that_python_cannot_open_are_refused(data, reason, tmp_path):
    assert reason in refused(data, tmp_path)


def test_folders_count_too(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.archive.MAX_FILES", 50)
    folders = [folder_member(f"{TOP}/class_{number}") for number in range(60)]
    assert "far more" in refused(tar(*GOOD, *folders), tmp_path)


def test_too_many_and_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.archive.MAX_FILES", 8)
    assert "far more" in refused(SMALL, tmp_path)
    monkeypatch.setattr("classifier.data.archive.MAX_FILES", 20)
    monkeypatch.setattr("classifier.data.archive.MAX_BYTES", 6000)
    assert "far more" in refused(SMALL, tmp_path)


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


DATA = BYTES(200_000)
MD5 = hashlib.md5(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DATA from where the client asks; the server's `plan` says how each answer fails."""

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        how = self.server.plan.pop(0) if self.server.plan else "well"
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and how != "no ranges" else 0
        if how == "missing":
            return self.send_error(404)
        if start >= len(DATA):
            return self.send_error(416)
        body = DATA[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if how == "break off" else body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ranges, server.plan = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/files/a.zip"
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_download_is_whole_and_done_once(server, tmp_path):
    for _ in range(2):
        path = download(tmp_path / "set", url=server.url, checksum=MD5)
        assert path == tmp_path / "set/a.zip"
        assert files_in(tmp_path) == {"set/a.zip": DATA}
    assert server.ranges == [None]


def test_download_goes_on_where_it_broke_off(server, tmp_path):
    server.plan = ["break off", "break off"]
    for _ in server.plan.copy():
        with pytest.raises(UserError, match="run the command again to go on"):
            download(tmp_path, url=server.url, checksum=MD5)
        assert not (tmp_path / "a.zip").exists()
    download(tmp_path, url=server.url, checksum=MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_download_starts_again_where_the_server_cannot_go_on(server, tmp_path):
    server.plan = ["break off", "no ranges"]
    with pytest.raises(UserError):
        download(tmp_path, url=server.url, checksum=MD5)
    download(tmp_path, url=server.url, checksum=MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}


def test_a_part_that_is_the_whole_is_taken(server, tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(DATA)
    download(tmp_path, url=server.url, checksum=MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}


@pytest.mark.parametrize("part", [b"", b"of another file", DATA + b"and more"])
def test_a_wrong_checksum_removes_the_file(part, server, tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(part)
    checksum = "0" * 32 if part == b"" else MD5
    with pytest.raises(UserError, match=f"{server.url}: the checksum is not"):
        download(tmp_path, url=server.url, checksum=checksum)
    assert files_in(tmp_path) == {}


def test_a_download_without_end_is_broken_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.archive.MAX_DOWNLOAD", len(DATA))
    download(tmp_path / "whole", url=server.url, checksum=MD5)
    monkeypatch.setattr("classifier.data.archive.MAX_DOWNLOAD", len(DATA) - 1)
    with pytest.raises(UserError, match="more data than the archive has"):
        download(tmp_path / "more", url=server.url, checksum=MD5)


def test_a_file_that_is_not_the_official_one_is_fetched_again(server, tmp_path):
    (tmp_path / "a.zip").write_bytes(DATA[:-1])
    download(tmp_path, url=server.url, checksum=MD5)
    assert files_in(tmp_path) == {"a.zip": DATA}


def test_a_missing_file_is_named(server, tmp_path):
    server.plan = ["missing"]
    with pytest.raises(UserError, match=r"a\.zip: HTTP Error 404.*--archive FILE") as caught:
        download(tmp_path, url=server.url, checksum=MD5)
    assert len(str(caught.value).splitlines()) == 1
    assert files_in(tmp_path) == {}


def answering(answer):
    """Return the address of a server that gives one fixed answer and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/a.zip"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n\r\n",
    ],
    ids=["nothing", "another protocol", "half a chunk", "redirection to a file"],
)
def test_odd_answers_fail_in_one_line(answer, tmp_path):
    url = answering(answer)
    with pytest.raises(UserError, match="--archive FILE") as caught:
        download(tmp_path, url=url, checksum=MD5)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(url)


def test_a_silent_server_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("classifier.data.archive.TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hang_up = threading.Timer(20, silent.close)
        hang_up.start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
        try:
            with pytest.raises(UserError, match="timed out.*--archive FILE"):
                download(tmp_path, url=url, checksum=MD5)
        finally:
            hang_up.cancel()


def test_no_server_fails_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match="refused.*--archive FILE"):
        download(tmp_path, url=f"http://127.0.0.1:{port}/a.zip", checksum=MD5)


def test_fetch_needs_no_archive_where_train_stands(server, tmp_path):
    (tmp_path / "set/train/ant").mkdir(parents=True)
    note = fetch(tmp_path / "set", url=server.url, checksum=MD5)
    assert note == f"{tmp_path / 'set/train'} is there already: left as it is"
    assert server.ranges == []  # offline it does the same
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["train"]


def test_fetch_downloads_and_unpacks(server, tmp_path, monkeypatch):
    data = zipped(SMALL)
    monkeypatch.setitem(globals(), "DATA", data)
    monkeypatch.setattr("classifier.data.archive.TAR_MD5", hashlib.md5(SMALL).hexdigest())
    checksum = hashlib.md5(data).hexdigest()
    assert fetch(tmp_path / "set", url=server.url, checksum=checksum) is None
    assert files_in(tmp_path / "set") == {"a.zip": data, **expected_files()}
    assert "already" in fetch(tmp_path / "set", url=server.url, checksum=checksum)
    assert server.ranges == [None]
