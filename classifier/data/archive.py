"""Caltech-101's archive: fetched, and unpacked whole or not at all."""

import errno
import os
import re
import shutil
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from classifier.data.download import download
from classifier.data.members import FILES, TAR_NAME, Unpacked, members, open_archive
from classifier.errors import UserError
from classifier.files import make_folder, named

URL = "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"
ZIP_MD5 = "3138e1922a9193bfa496528edbbc45d0"
TAR_MD5 = "b224c7392d521a49829488ab0f1120d9"
TOP = TAR_NAME.removesuffix(".tar.gz")
BACKGROUND = "BACKGROUND_Google"  # not one of the 101 categories: pictures of none of them

# Windows opens a device for these, whatever their suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.I | re.S)


def fetch(dataset_path: str | os.PathLike, url: str = URL, checksum: str = ZIP_MD5) -> str | None:
    """Download Caltech-101 and unpack it below `dataset_path`.

    Where its `train` stands already nothing is done, and no connection or archive is needed.

    Returns:
        a note for the user if it stood already, else None.

    Raises:
        UserError: as `download` and `unpack` do.
    """
    note = _already(Path(dataset_path))
    return note or unpack(download(Path(dataset_path), url, checksum), dataset_path)


def _already(folder):
    train = folder / "train"
    return f"{train} is there already: left as it is" if train.is_dir() else None


def unpack(archive: str | os.PathLike, dataset_path: str | os.PathLike) -> str | None:
    """Unpack Caltech-101 below `dataset_path`: train/<category>/*.jpg, BACKGROUND_Google beside.

    `train` appears in one step when all is unpacked; where it stands already, nothing is done.

    Args:
        archive: the official caltech-101.zip or the 101_ObjectCategories.tar.gz inside it.
        dataset_path: folder, made if need be.

    Returns:
        a note for the user if `train` stood already or the checksum is not the official one,
        else None.

    Raises:
        UserError: missing, damaged, encrypted, or holding anything but photographs in category
            folders.
    """
    archive, folder = Path(archive), Path(dataset_path)
    if note := _already(folder):
        return note
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive; --download fetches it")
    make_folder(folder)
    temporary = folder / ".unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        official = _look_through(archive)  # first: of what is refused nothing is written
        with named(folder):
            temporary.mkdir()
            _extract(archive, temporary)
        if (temporary / BACKGROUND).is_dir():
            shutil.rmtree(folder / BACKGROUND, ignore_errors=True)
            (temporary / BACKGROUND).replace(folder / BACKGROUND)
        (temporary / "train").replace(folder / "train")
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{archive}: damaged archive ({reason}); fetch it again") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a zip file led before its beginning
            raise UserError(f"{archive}: damaged archive; fetch it again") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not official:
        return f"{archive}: not the official archive's checksum; read all the same"
    return None


_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
)


def _look_through(archive):
    """Read all of an archive, writing nothing; return whether its checksum is the official one."""
    with open_archive(archive) as stream:
        plain = Unpacked(archive, stream)
        categories = {category for category, _, _ in _photographs(plain)}
        if not categories - {BACKGROUND}:
            raise UserError(f"{archive}: no photographs in it; give {TAR_NAME} or caltech-101.zip")
        return plain.digest.hexdigest() == TAR_MD5


def _extract(archive, temporary):
    with open_archive(archive) as stream:
        found = _photographs(Unpacked(archive, stream))
        for category, name, content in tqdm(found, "Unpacking", unit=" files", disable=None):
            place = temporary / ("" if category == BACKGROUND else "train") / category
            place.mkdir(parents=True, exist_ok=True)
            with (place / name).open("xb") as file:
                shutil.copyfileobj(content, file)


def _photographs(plain):
    """Yield (category, name, content) of each; raise UserError where one is not to be unpacked."""
    homes, names = {}, {}  # homes: the folder in the archive that each category comes from
    for member, content in members(plain):
        parts = PurePosixPath(member.name).parts
        if reason := _unsafe(member, parts):
            raise UserError(f"{plain.archive}: {member.name[:100]!r} {reason}; not unpacked")
        if member.isdir() or _of_a_mac(parts) or len(parts) < 2 or parts[-2] == TOP:
            continue
        *home, category, name = parts
        known = homes.setdefault(_folded(category), [*home, category])
        if known != [*home, category]:
            one, other = "/".join(known), "/".join([*home, category])
            raise UserError(
                f"{plain.archive}: {one!r} and {other!r} are two folders of one category; give an "
                "archive with each category once"
            )
        other = names.setdefault(_folded(f"{category}/{name}"), member)
        if other is not member:
            raise UserError(
                f"{plain.archive}: {other.name!r} and {member.name!r} are one name, or are on some "
                "systems; not unpacked"
            )
        yield category, name, content


def _folded(name):
    """Return a name as systems compare it that tell neither case nor forms of Unicode apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _unsafe(member, parts):
    """Return why a member is not unpacked, by the rules of every system on each; None if it is."""
    if ".." in parts or member.name.startswith("/") or "\\" in member.name:
        return "leads out of the folder"
    if not member.name.isprintable():
        return "holds a character that cannot be shown"
    if any(letter in member.name for letter in ':*?"<>|'):
        return "holds a character that Windows keeps for itself"
    for part in parts:
        if _DEVICE.fullmatch(part):
            return "is a device on Windows"
        if part.endswith((".", " ")):
            return "ends in a dot or space, which Windows drops"
        if len(part.encode()) > 255:
            return "is too long a name"
    if not (member.isdir() or member.type in FILES):
        return "is a link or device, no file or folder"
    return None


def _of_a_mac(parts):
    return any(part.startswith(("._", ".DS_Store")) for part in parts)
