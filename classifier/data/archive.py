"""Caltech-101's archive: fetched with resume and checksum, unpacked whole or not at all."""

import contextlib
import gzip
import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from classifier.errors import UserError
from classifier.files import make_folder

URL = "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"
ZIP_MD5 = "3138e1922a9193bfa496528edbbc45d0"
TAR_NAME = "101_ObjectCategories.tar.gz"
TAR_MD5 = "b224c7392d521a49829488ab0f1120d9"
BACKGROUND = "BACKGROUND_Google"  # not one of the 101 categories: pictures of none of them
MAX_BYTES, MAX_FILES = 4 << 30, 200_000  # Caltech-101 has 130 MB in 9,144 files
MAX_DOWNLOAD = 1 << 30
TIMEOUT = 30  # seconds without a byte


def md5(path):
    """Return the MD5 of a file, hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(dataset_path, url=URL, checksum=ZIP_MD5):
    """Fetch the official archive into `dataset_path`, going on where an earlier try broke off.

    Returns:
        path of the archive, its checksum proven.

    Raises:
        UserError: no connection, or the file is not the official one (it is then removed).
    """
    folder = Path(dataset_path)
    make_folder(folder)
    target = folder / url.rsplit("/", 1)[-1]
    if target.is_file() and md5(target) == checksum:
        return target
    aside = target.with_name(f".{target.name}.part")
    have = aside.stat().st_size if aside.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            _receive(answer, aside, have)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part at hand is already the whole file
            raise UserError(
                f"{url}: {error}; fetch it another way and give --archive FILE"
            ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise UserError(
            f"{url}: {reason}; run the command again to go on, or fetch the file another way and "
            "give --archive FILE"
        ) from error
    if md5(aside) != checksum:
        aside.unlink()
        raise UserError(f"{url}: the checksum is not the official archive's; run the command again")
    aside.replace(target)
    return target


def _receive(answer, aside, have):
    resumed = answer.status == 206
    start = have if resumed else 0
    length = answer.headers.get("Content-Length")
    total = start + int(length) if length else None
    with (
        aside.open("ab" if resumed else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc="Downloading") as bar,
    ):
        received = start
        while block := answer.read(1 << 16):
            received += len(block)
            if received > MAX_DOWNLOAD:
                raise OSError("more data than the archive has")
            file.write(block)
            bar.update(len(block))
    if total is not None and received < total:
        raise OSError(f"the connection broke after {received:,} of {total:,} bytes")


def unpack(archive, dataset_path):
    """Unpack Caltech-101 below `dataset_path`: train/<category>/*.jpg, BACKGROUND_Google beside.

    `train` appears in one step when all is unpacked; where it stands already, nothing is done.

    Args:
        archive: the official caltech-101.zip or the 101_ObjectCategories.tar.gz inside it.
        dataset_path: folder, made if need be.

    Returns:
        a note for the user if the checksum is not the official one, else None.

    Raises:
        UserError: missing, damaged, or holding anything but photographs in category folders.
    """
    archive, folder = Path(archive), Path(dataset_path)
    if (folder / "train").is_dir():
        return f"{folder / 'train'} is there already: left as it is"
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive; --download fetches it")
    make_folder(folder)
    aside = folder / ".unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        official = _extract(archive, aside)
        if not (aside / "train").is_dir():
            raise UserError(f"{archive}: no photographs in it; give {TAR_NAME} or caltech-101.zip")
        if (aside / BACKGROUND).is_dir():
            shutil.rmtree(folder / BACKGROUND, ignore_errors=True)
            (aside / BACKGROUND).replace(folder / BACKGROUND)
        (aside / "train").replace(folder / "train")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive}: damaged archive ({error}); fetch it again") from error
    except OSError as error:
        if error.errno is None:  # gzip's "Not a gzipped file" and the like
            raise UserError(f"{archive}: damaged archive ({error}); fetch it again") from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if not official:
        return f"{archive}: not the official archive's checksum; read all the same"
    return None


def _extract(archive, aside):
    """Unpack into `aside`; return whether the checksum is the official one."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(archive.open("rb"))
        if zipfile.is_zipfile(stream):
            outer = stack.enter_context(zipfile.ZipFile(stream))
            names = [name for name in outer.namelist() if PurePosixPath(name).name == TAR_NAME]
            if len(names) != 1:
                raise UserError(f"{archive}: holds no {TAR_NAME}; give the official archive")
            stream = stack.enter_context(outer.open(names[0]))
        stream.seek(0)
        stream = _Digest(stream)
        # tarfile's own "r|gz" takes a stream that breaks off between members, and checks no CRC.
        with gzip.GzipFile(fileobj=stream) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                _extract_members(archive, tar, aside)
            while plain.read(1 << 20):
                pass
        return stream.md5.hexdigest() == TAR_MD5


def _extract_members(archive, tar, aside):
    files = size = 0
    for member in tqdm(tar, desc="Unpacking", unit=" files", disable=None):
        path = PurePosixPath(member.name)
        if ".." in path.parts or path.is_absolute() or "\\" in member.name:
            raise UserError(f"{archive}: {member.name!r} leads out of the folder; not unpacked")
        if member.isdir() or any(part.startswith(("._", ".DS_Store")) for part in path.parts):
            continue
        if not member.isreg():
            raise UserError(f"{archive}: {member.name!r} is a link or device; not unpacked")
        files, size = files + 1, size + member.size
        if files > MAX_FILES or size > MAX_BYTES:
            raise UserError(f"{archive}: unpacks to far more than Caltech-101; not unpacked")
        if len(path.parts) < 2 or path.parts[-2] == TAR_NAME.removesuffix(".tar.gz"):
            continue
        category, name = path.parts[-2:]
        target = aside / BACKGROUND if category == BACKGROUND else aside / "train" / category
        target.mkdir(parents=True, exist_ok=True)
        with (target / name).open("wb") as file:
            shutil.copyfileobj(tar.extractfile(member), file)


class _Digest:
    """A stream that keeps the MD5 of what was read from it."""

    def __init__(self, stream):
        self.stream = stream
        self.md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size=-1):
        block = self.stream.read(size)
        self.md5.update(block)
        return block
