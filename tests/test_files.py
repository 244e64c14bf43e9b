"""Files that are whole or not there, locks, and room on the disk."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from classifier import files
from classifier.errors import UserError

HOLD = "from classifier import files; import sys\nwith files.locked(sys.argv[1]): {}"


def hold(path, then):
    """Return a process that takes the lock of `path`, says so, and does `then`."""
    code = HOLD.format(f"print('held', flush=True); {then}")
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_that_names_no_file_is_given_the_path(tmp_path):
    path = tmp_path / "file"
    for place, named in ((None, str(path)), ("other", "other")):
        with pytest.raises(OSError, match="full") as caught, files.atomic_write(path):
            raise OSError(errno.ENOSPC, "full", place)
        assert caught.value.filename == named
    with pytest.raises(OSError, match=r"^errno = 28$"), files.atomic_write(path):
        raise OSError("errno = 28")  # as HDF5 has it


def test_what_is_written_reaches_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda n: seen.append((os.fstat(n).st_size, path.exists())))
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
    assert seen == [(3, False)]
    assert path.exists()


def test_a_second_process_is_refused_until_the_first_ends_however_it_ends(tmp_path):
    path = tmp_path / "model.h5"
    for then, end in (("sys.stdin.read()", lambda p: p.stdin.close()),
                      ("sys.stdin.read()", subprocess.Popen.kill)):  # fmt: skip
        with hold(path, then) as process:
            with pytest.raises(UserError, match=r"model\.h5: another process"), files.locked(path):
                pass
            end(process)
        with files.locked(path):
            pass
        assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_block_however_that_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), files.locked(tmp_path / "model.h5"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_its_last_holder_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
    lock, flock, taken = tmp_path / ".model.h5.lock", files._flock, []

    def removed_before(file):
        if not taken:
            lock.unlink()
        taken.append(file)
        return flock(file)

    monkeypatch.setattr(files, "_flock", removed_before)
    with files.locked(tmp_path / "model.h5"):
        assert lock.exists()
    assert len(taken) == 2


def test_without_locks_in_the_file_system_it_goes_on(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    with files.locked(tmp_path / "model.h5"):
        pass


def test_room_is_reserved_and_want_of_it_is_told(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    files.reserve(path, 10_000)
    assert path.stat().st_size == 10_000
    assert path.read_bytes()[:4] == b"kept"
    for number, told in ((errno.EOPNOTSUPP, False), (errno.EINVAL, False), (errno.ENOSPC, True)):

        def fails(*_, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", fails)
        if told:
            with pytest.raises(OSError, match="No space"):
                files.reserve(path, 10)
        else:
            files.reserve(path, 10)


def test_one_file_is_recognised_through_links_and_before_it_is_there(tmp_path):
    one, link, hard = (tmp_path / name for name in ("one", "link", "hard"))
    link.symlink_to(one)
    assert files.same_file(one, link)
    assert files.same_file(tmp_path / "folder/../one", one)
    one.touch()
    hard.hardlink_to(one)
    assert files.same_file(hard, link)
    assert not files.same_file(one, tmp_path / "other")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    files.make_folder(tmp_path / "deep/folder")
    assert (tmp_path / "deep/folder").is_dir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="folder: this folder is not writable; choose another"):
        files.make_folder(tmp_path / "deep/folder")


def test_a_folder_or_file_made_aside_takes_its_place(tmp_path, monkeypatch):
    for exchange in (files._exchange, lambda one, other: False):  # as on Linux, and elsewhere
        monkeypatch.setattr(files, "_exchange", exchange)
        for kind in ("file", "folder"):
            path = tmp_path / kind
            for text in ("old", "new"):
                (tmp_path / f".part.{kind}").mkdir()  # what a killed process left
                (tmp_path / f".part.{kind}/left").touch()
                with files.made_aside(path) as made:
                    assert list(made.parent.iterdir()) == []
                    made.with_name("draft").touch()
                    if kind == "folder":
                        made.mkdir()
                        (made / text).touch()
                    made = made / "file" if kind == "folder" else made
                    made.write_text(text)
            inside = sorted(entry.name for entry in path.iterdir()) if kind == "folder" else []
            assert inside == (["file", "new"] if kind == "folder" else [])
            assert (path / "file" if kind == "folder" else path).read_text() == "new"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_what_is_not_made_to_the_end_leaves_the_older(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ZeroDivisionError), files.made_aside(path) as made:
        made.mkdir()
        raise ZeroDivisionError
    assert [entry.name for entry in tmp_path.rglob("*")] == ["folder", "old"]


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch):
    path, replace = tmp_path / "folder", Path.replace

    def never(one, other):
        if one.parent.name == ".part.folder" and one.name == "folder":
            raise OSError(errno.EIO, "broken")
        return replace(one, other)

    path.mkdir()
    (path / "old").touch()
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "replace", never)
    with pytest.raises(OSError, match="broken"), files.made_aside(path) as made:
        made.mkdir()
    assert [entry.name for entry in tmp_path.rglob("*")] == ["folder", "old"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux exchanges paths")
def test_two_folders_change_places(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.mkdir()
        (path / path.name).touch()
    assert files._exchange(one, other)
    assert (one / "other").exists()
    assert (other / "one").exists()
    assert not files._exchange(one, tmp_path / "none")
