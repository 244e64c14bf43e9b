"""The archive: fetched with resume and checksum, unpacked whole or not at all."""

import functools
import gzip
import hashlib
import http.server
import io
import socket
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from classifier.data.archive import BACKGROUND, TAR_NAME, download, unpack
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
    assert "not unpacked" in refused(tar(*GOOD, member, evil), tmp_path)


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


def test_no_server_fails_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match="refused.*--archive FILE"):
        download(tmp_path, url=f"http://127.0.0.1:{port}/a.zip", checksum=MD5)
