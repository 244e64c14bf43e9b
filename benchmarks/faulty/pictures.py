"""Pictures of every kind, damaged in every way: what the rows of photographs.py decode.

python benchmarks/faulty/pictures.py make FOLDER SEED COUNT    COUNT damaged pictures, and the bombs
python benchmarks/faulty/pictures.py decode < NAMES            a line of JSON each: what it cost

`make` writes FOLDER/good/*, FOLDER/bad/* and FOLDER/bombs/*. Each bad one is a small sound picture,
of SEEDS, that was damaged; its name is odd too. A bomb is small or plain, but asks for much.
"""

import contextlib
import io
import itertools
import json
import random
import resource
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

ORIENTATION = 0x0112
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ABSURD = (0, 1, 7, 255, 32_767, 50_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """Return a picture as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(number: int, width: int = 24, height: int = 18) -> Image.Image:
    """Return a picture of smooth shapes, another one for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def seeds() -> dict[str, bytes]:
    """Return small sound pictures of every kind that is decoded, and files that are to be refused.

    Their names end in the suffix of their kind.
    """
    return {**_jpegs(), **_pngs(), **_tiffs(), **_others(), **_refused()}


def _jpegs():
    rgb, grey, cmyk = photo(0), photo(1).convert("L"), photo(2).convert("CMYK")
    found = {
        "baseline.jpg": encoded(rgb, "JPEG"),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True),
        "444.jpg": encoded(rgb, "JPEG", subsampling=0, optimize=True),
        "restarts.jpg": encoded(rgb.resize((64, 48)), "JPEG", restart_marker_blocks=1),
        "grey.jpg": encoded(grey, "JPEG"),
        "cmyk.jpg": encoded(cmyk, "JPEG"),
        "icc.jpg": encoded(rgb, "JPEG", icc_profile=ICC),
        "bad icc.jpg": encoded(rgb, "JPEG", icc_profile=b"no profile" * 20),
        "cmyk icc.jpg": encoded(cmyk, "JPEG", icc_profile=ICC),
        "comment.jpg": encoded(rgb, "JPEG", comment=b"a comment", dpi=(300, 300)),
        "two pictures.mpo": encoded(rgb, "MPO", save_all=True, append_images=[photo(3)]),
    }
    adobe = found["cmyk.jpg"].index(b"Adobe")
    ycck = bytearray(found["cmyk.jpg"])
    ycck[adobe + 11] = 2  # the transform: YCCK
    found["ycck.jpg"] = bytes(ycck)
    for orientation in (*range(10), 65_535):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        found[f"turned {orientation}.jpg"] = encoded(rgb, "JPEG", exif=exif)
    return found


def _pngs():
    found = {}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour, bits, interlaced in (
        (colour, bits, interlaced)
        for colour, of in depths.items()
        for bits in of
        for interlaced in (0, 1)
    ):
        name = f"colour {colour} {bits} bit{' interlaced' * interlaced}.png"
        found[name] = png(19, 13, bits, colour, interlaced)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    frames = [photo(i) for i in range(3)]
    found["exif.png"] = encoded(frames[0], "PNG", exif=exif, icc_profile=ICC)
    found["bad icc.png"] = encoded(frames[0], "PNG", icc_profile=b"no profile")
    found["animated.png"] = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    found["transparent.png"] = encoded(frames[1].convert("P"), "PNG", transparency=3)
    return found


def png(
    width: int, height: int, bits: int, colour: int, interlaced: int = 0, more: bytes = b"",
    data: bytes | None = None,
) -> bytes:  # fmt: skip
    """Return a PNG of random pixels.

    Args:
        width: pixels.
        height: pixels.
        bits: of a sample.
        colour: the format's number of a colour type.
        interlaced: 1: by Adam7.
        more: chunks between header and pixels.
        data: compressed pixels, other ones.
    """
    if data is None:
        a_pixel = bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        passes = [(0, 0, 1, 1)]
        if interlaced:
            passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                      (1, 0, 2, 2), (0, 1, 1, 2)]  # fmt: skip
        chance = random.Random(width * bits + colour)
        rows = [
            b"\0" + chance.randbytes((len(range(x, width, dx)) * a_pixel + 7) // 8)
            for x, y, dx, dy in passes
            for _ in range(y, height, dy)
            if x < width
        ]
        data = zlib.compress(b"".join(rows))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(48)) * 16) if colour == 3 else b""
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), more, palette, chunk(b"IDAT", data),
         chunk(b"IEND", b""))
    )  # fmt: skip


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _tiffs():
    rgb, found = photo(4), {}
    for name in (None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg",
                 "zstd", "lzma"):  # fmt: skip
        found[f"{name}.tif"] = encoded(rgb, "TIFF", compression=name)
    for name in ("group3", "group4", "tiff_ccitt"):
        found[f"{name}.tif"] = encoded(rgb.convert("1"), "TIFF", compression=name)
    for mode in ("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"):
        image = rgb.convert("L" if mode in ("LA", "I;16", "F") else "RGB")
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
        found[f"mode {mode}.tif"] = encoded(image, "TIFF")
    found["16 bit lzw.tif"] = encoded(rgb.convert("I;16"), "TIFF", compression="tiff_lzw")
    found["cmyk icc.tif"] = encoded(rgb.convert("CMYK"), "TIFF", icc_profile=ICC)
    found["big.tif"] = encoded(rgb, "TIFF", big_tiff=True)
    pages = [photo(i) for i in range(5, 9)]
    found["pages.tif"] = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    pixels, grey = rgb.tobytes(), np.asarray(rgb.convert("L"))
    usual = {256: 24, 257: 18, 259: 1, 262: 2, 277: 3}
    found["one strip.tif"] = tiff({**usual, 258: [8] * 3, 278: 18, 279: len(pixels)}, [pixels])
    planes = [band.tobytes() for band in rgb.split()]
    found["planar.tif"] = tiff({**usual, 258: [8] * 3, 278: 18, 284: 2}, planes)
    tiles = [rgb.crop((x, y, x + 16, y + 16)).tobytes() for y in (0, 16) for x in (0, 16)]
    tiled = {**usual, 258: [8] * 3, 322: 16, 323: 16}
    found["tiled.tif"] = tiff(tiled, tiles, offsets=324)
    found["tiled big-endian.tif"] = tiff(tiled, tiles, offsets=324, order=">")
    deep = np.asarray(rgb).astype("<u2").tobytes()
    found["16 bit rgb.tif"] = tiff({**usual, 258: [16] * 3, 278: 18}, [deep])
    for kind, sample in (("<f4", 3), ("<f8", 3), ("<i4", 2), ("<u4", 1), ("i1", 2)):
        data = grey.astype(kind).tobytes()
        tags = {**usual, 262: 1, 277: 1, 258: 8 * np.dtype(kind).itemsize, 339: sample, 278: 18}
        found[f"samples {kind[-2:]} {sample}.tif"] = tiff(tags, [data])
    for orientation in (2, 5, 6, 9):
        found[f"turned {orientation}.tif"] = tiff(
            {**usual, 258: [8] * 3, 278: 18, 274: orientation}, [pixels]
        )
    return found


def tiff(
    tags: dict, parts: list[bytes], offsets: int = 273, order: str = "<", following: int = 0
) -> bytes:
    """Return a TIFF: its header, the data of its tags and pixels, its directory last but one.

    Args:
        tags: {number: value or values}, SHORTs, or LONGs where one is above 65,535.
        parts: of the pixels.
        offsets: the tag that gets their places.
        order: "<" or ">".
        following: where the next page's directory is.
    """
    places = itertools.accumulate([8, *map(len, parts)])
    tags = {**tags, offsets: list(places)[: len(parts)]}
    body, entries = b"".join(parts), b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        kind, letter = (4, "L") if max(values, default=0) > 65_535 else (3, "H")
        data = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(data) > 4:
            place = 8 + len(body)
            body, data = body + data, struct.pack(f"{order}L", place)
        entries += struct.pack(f"{order}HHL", tag, kind, len(values)) + data.ljust(4, b"\0")
    start = b"II*\0" if order == "<" else b"MM\0*"
    head = start + struct.pack(f"{order}L", 8 + len(body))
    count = struct.pack(f"{order}H", len(tags))
    return head + body + count + entries + struct.pack(f"{order}L", following)


def _others():
    rgb, frames = photo(9), [photo(i) for i in range(10, 13)]
    animated = {"save_all": True, "append_images": frames}
    found = {
        "one.gif": encoded(rgb, "GIF"),
        "interlaced.gif": encoded(rgb, "GIF", interlace=1),
        "animated.gif": encoded(rgb, "GIF", **animated, duration=20, loop=0, disposal=2),
        "transparent.gif": encoded(rgb.convert("P"), "GIF", transparency=5, comment=b"a comment"),
        "lossy.webp": encoded(rgb, "WEBP"),
        "lossless.webp": encoded(rgb, "WEBP", lossless=True),
        "alpha.webp": encoded(rgb.convert("RGBA"), "WEBP", icc_profile=ICC),
        "animated.webp": encoded(rgb, "WEBP", **animated),
    }
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        found[f"mode {mode}.bmp"] = encoded(rgb.convert(mode), "BMP")
    found["rle8.bmp"] = bmp(8, 1, b"\x08\1\x08\2\x08\3\0\0" * 17 + b"\0\4\1\2\3\4\x14\5\0\1")
    found["rle4.bmp"] = bmp(4, 2, b"\x18\x12\0\0" * 9 + b"\x18\x45\0\0" * 9 + b"\0\1")
    found["16 bit.bmp"] = bmp(16, 0, random.Random(0).randbytes(24 * 18 * 2))
    found["fields.bmp"] = bmp(32, 3, random.Random(1).randbytes(24 * 18 * 4))
    found["old.bmp"] = (
        b"BM" + struct.pack("<LLL", 26 + 72 * 18, 0, 26) + struct.pack("<LHHHH", 12, 24, 18, 1, 24)
        + bytes(72 * 18)
    )  # fmt: skip
    pixels = rgb.tobytes()
    words = " ".join(map(str, pixels)).encode()
    bits = b"01" * (12 * 18)
    found |= {
        "raw.ppm": b"P6\n24 18\n255\n" + pixels,
        "raw of 7.ppm": b"P6 24 18 7\n" + bytes(value % 8 for value in pixels),
        "raw 16 bit.ppm": b"P6 24 18 65535\n" + pixels * 2,
        "text.ppm": b"P3\n# a comment\n24 18\n255\n" + words,
        "raw.pgm": b"P5\n24 18\n255\n" + pixels[: 24 * 18],
        "raw 16 bit.pgm": b"P5 24 18 65535\n" + pixels[: 24 * 18 * 2],
        "text.pgm": b"P2 24 18 300\n" + b" ".join(words.split()[: 24 * 18]),
        "raw.pbm": b"P4 24 18\n" + pixels[: 3 * 18],
        "text.pbm": b"P1 24 18\n" + bits,
        "float.pfm": b"Pf\n24 18\n-1.0\n" + np.linspace(0, 1, 24 * 18, dtype="<f4").tobytes(),
    }
    return found


def bmp(bits: int, compression: int, data: bytes, width: int = 24, height: int = 18) -> bytes:
    """Return a BMP of this data, with a palette of 256 colours where it has at most 8 bits."""
    palette = bytes(range(256)) * 4 if bits <= 8 else b""
    masks = struct.pack("<LLL", 0xFF0000, 0xFF00, 0xFF) if compression == 3 else b""
    start = 54 + len(palette) + len(masks)
    header = struct.pack("<LllHHLLllLL", 40, width, height, 1, bits, compression, len(data),
                         0, 0, len(palette) // 4, 0)  # fmt: skip
    return (
        b"BM" + struct.pack("<LLL", start + len(data), 0, start) + header + masks + palette + data
    )


def _refused():
    rgb = photo(13)
    kinds = ("ICO", "AVIF", "JPEG2000", "TGA", "PCX", "ICNS", "DDS", "SGI", "EPS", "PDF",
             "MSP", "XBM", "SPIDER")  # fmt: skip
    modes = {"MSP": "1", "XBM": "1", "SPIDER": "F"}
    found = {f"other.{k.lower()}": encoded(rgb.convert(modes.get(k, "RGB")), k) for k in kinds}
    return found | {
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "script.ps": b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n",
        "preview.eps": b"\xc5\xd0\xd3\xc6" + struct.pack("<LLLLLL", 30, 99, 0, 0, 0, 0),
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "layers.psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HLLHH", 3, 18, 24, 8, 3) + bytes(99),
        "archive.zip": b"PK\3\4\x14" + bytes(60),
        "page.html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
        "film.fli": struct.pack("<LHHHH", 200, 0xAF11, 9, 24, 18) + bytes(190),
        "empty.jpg": b"",
        "one byte.jpg": b"\xff",
    }


def damaged(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return a picture with some damage: one kind, or several.

    Args:
        data: of the picture.
        others: of all pictures, to be spliced with.
        chance: what decides.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = chance.randrange(len(data) + 1)
        length = min(chance.choice((1, 2, 4, 8, 16, 64, 256)), len(data) - place)
        run = slice(place, place + length)
        changed = bytearray(data)
        match chance.randrange(9):
            case 0:
                del changed[place:]
            case 1 | 2 if data:
                for _ in range(chance.choice((1, 1, 2, 8, 50))):
                    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case 3:
                changed[run] = (
                    bytes([chance.choice((0, 0, 255, 255, chance.randrange(256)))]) * length
                )
            case 4:
                del changed[run]
            case 5:
                changed[place:place] = chance.randbytes(chance.choice((1, 2, 16, 300)))
            case 6:
                changed[place:place] = changed[run] * chance.choice((1, 2, 50))
            case 7:
                other = chance.choice(others)
                changed[place:] = other[chance.randrange(len(other) + 1) :]
            case _:
                changed = _absurd(changed, chance)
        data = bytes(changed)
    return data


def _absurd(data, chance):
    """Set a number of a picture's header to an absurd one."""
    found = fields(data)
    if not found:
        return data
    place, width, order = chance.choice(found)
    if data[:1] == b"P":  # numbers in words
        data[place : place + width] = str(chance.choice(ABSURD)).encode()
        return data
    number = chance.choice((*ABSURD, chance.randrange(256**width))) % 256**width
    data[place : place + width] = number.to_bytes(width, order)
    if data.startswith(b"\x89PNG"):
        for start, length in chunks(data):
            end = start + 8 + length
            data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
    return data


def fields(data: bytes) -> list[tuple[int, int, str]]:
    """Return the numbers of a picture's header: (place, bytes, order)."""
    data = bytes(data)
    found = []
    if data.startswith(b"\x89PNG"):
        found += [
            (16, 4, "big"),
            (20, 4, "big"),
            (24, 1, "big"),
            (25, 1, "big"),
            (28, 1, "big"),
        ] * 2
        found += [(start, 4, "big") for start, _ in chunks(data)]
        found += [(start + 8, 4, "big") for start, length in chunks(data) if length > 3]
    elif data.startswith(b"\xff\xd8"):
        at = 2
        while at + 4 < len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
            found.append((at + 2, 2, "big"))
            if 0xC0 <= data[at + 1] <= 0xC2:
                found += [
                    (at + 4, 1, "big"),
                    (at + 5, 2, "big"),
                    (at + 7, 2, "big"),
                    (at + 9, 1, "big"),
                ] * 2
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        exif = data.find(b"II*\0")
        found += _entries(data, exif) if exif > 0 else []
    elif data[:4] in (b"II*\0", b"MM\0*"):
        found += _entries(data, 0)
    elif data.startswith(b"GIF8"):
        image = data.find(b",\0\0\0\0")
        found += [(6, 2, "little"), (8, 2, "little"), (10, 1, "little")]
        found += [(image + 1 + 2 * i, 2, "little") for i in range(4)] + [(image + 10, 1, "little")]
    elif data.startswith(b"BM"):
        found += [(at, 4, "little") for at in (2, 10, 14, 18, 22, 30, 34, 46, 50)]
        found += [(26, 2, "little"), (28, 2, "little")]
    elif data.startswith(b"RIFF"):
        places = {4: 4, 16: 4, 20: 4, 21: 4, 24: 3, 26: 2, 27: 3, 28: 2}
        found += [(place, width, "little") for place, width in places.items()]
    elif data[:1] == b"P" and data[1:2].isdigit():
        at = 2
        for word in data[:30].split()[1:4]:
            at = data.find(word, at)
            found.append((at, len(word), ""))
            at += len(word)
    return [(place, width, order) for place, width, order in found if place + width <= len(data)]


def _entries(data, start):
    """Return the numbers of a TIFF's first directory."""
    order, letter = ("little", "<") if data[start : start + 1] == b"I" else ("big", ">")
    with contextlib.suppress(struct.error):
        (at,) = struct.unpack_from(f"{letter}L", data, start + 4)
        (count,) = struct.unpack_from(f"{letter}H", data, start + at)
        entries = [start + at + 2 + 12 * i for i in range(min(count, 40))]
        found = [(start + 4, 4, order), (start + at, 2, order)]
        found += [(start + at + 2 + 12 * count, 4, order)]  # the next page
        for entry in entries:
            found += [(entry, 2, order), (entry + 2, 2, order), (entry + 4, 4, order)]
            found += [(entry + 8, 2, order), (entry + 8, 4, order)] * 2
        return found
    return []


def chunks(data: bytes) -> list[tuple[int, int]]:
    """Return the chunks of a PNG: (place, length of their data)."""
    found, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        found.append((at, length))
        at += 12 + length
    return found


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield files that are small or plain, and ask for much: (name, data)."""
    yield from _large()
    yield from _many_parts()
    yield from _nested()


def _large():
    """Yield pictures at a limit of the decoder, or far above it, of one colour."""
    empty = zlib.compress(b"")
    for side in (50_000, 65_535, 2**31 - 1):
        yield f"{side} square.png", png(side, side, 8, 6, data=empty)
    zeros = zlib.compressobj(9)
    rows = [zeros.compress(bytes(50_000 * 6251 // 50)) for _ in range(50)]
    yield (
        "50000 square of 1 bit.png",
        png(50_000, 50_000, 1, 0, data=b"".join(rows) + zeros.flush()),
    )
    for colour, bits, interlaced in ((6, 16, 0), (6, 16, 1), (3, 1, 1), (4, 16, 0), (0, 16, 0)):
        a_pixel = bits * {0: 1, 3: 1, 4: 2, 6: 4}[colour]
        zeros, row = zlib.compressobj(1), bytes(5000 * a_pixel // 8 + 1)
        rows = [zeros.compress(row * 100) for _ in range(51)]
        data = b"".join(rows) + zeros.flush()
        yield (
            f"25 MP {colour} {bits} {interlaced}.png",
            png(5000, 5000, bits, colour, interlaced, data=data),
        )
    for width, height in ((65_500, 763), (763, 65_500)):  # JPEG's encoder has a limit of its own
        yield f"{width} wide.jpg", encoded(Image.new("CMYK", (width, height), "red"), "JPEG")
    for width, height in ((65_535, 380), (380, 65_535)):
        yield f"{width} wide.png", encoded(Image.new("RGBA", (width, height), "red"), "PNG")
        yield f"{width} wide.gif", encoded(Image.new("P", (width, height), 1), "GIF", interlace=1)
    for width in (10_000, 5000):
        jpeg = encoded(Image.new("CMYK", (width, 5000), "red"), "JPEG", progressive=True)
        last = jpeg.rindex(b"\xff\xda")
        for scans in (50, 100):
            more = jpeg[last:-2] * (scans - jpeg.count(b"\xff\xda"))
            yield f"{width} wide of {scans} scans.jpg", jpeg[:-2] + more + jpeg[-2:]
    yield "25 MP.bmp", bmp(1, 0, bytes(628 * 5000), 5000, 5000)
    for name in ("RGBA", "CMYK", "I", "F"):
        flat = Image.new(name, (5000, 5000))
        yield f"25 MP {name}.tif", encoded(flat, "TIFF", compression="tiff_lzw")
    flat = Image.new("RGB", (5000, 5000), "red")
    for name in ("jpeg", "zstd", "lzma", "packbits"):
        yield f"25 MP {name}.tif", encoded(flat, "TIFF", compression=name)
    for side in (4000, 5000):
        flat = Image.new("RGBA", (side, side), "red")
        yield f"{side} square.webp", encoded(flat, "WEBP", method=0)
        yield f"{side} square lossless.webp", encoded(flat, "WEBP", method=0, lossless=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8))
    yield "noise.webp", encoded(noise, "WEBP", method=0, lossless=True, quality=0)
    yield "noise.jpg", encoded(noise, "JPEG", progressive=True, quality=95)


def _many_parts():
    """Yield files of very many parts: frames, pages, chunks, strips, comments, words."""
    gif = encoded(photo(0), "GIF")
    start = gif.index(b",\0\0\0\0")
    yield "100000 frames.gif", gif[:-1] + gif[start:-1][:40] * 100_000 + b";"
    yield "comments.gif", gif[:start] + b"!\xfe\1a\0" * 4_000_000 + gif[start:]
    yield (
        "comment of many parts.gif",
        gif[:start] + b"!\xfe" + b"\2ab" * 8_000_000 + b"\0" + gif[start:],
    )
    yield "unknown parts.gif", gif[:start] + b"\1" * 20_000_000 + gif[start:]
    webp = encoded(photo(0), "WEBP", save_all=True, append_images=[photo(1)] * 2000)
    yield "2000 frames.webp", webp
    page = tiff({256: 24, 257: 18, 258: [8] * 3, 262: 2, 277: 3, 278: 18}, [bytes(24 * 18 * 3)])
    yield "page after itself.tif", page[:-4] + page[4:8]
    pages = [photo(i) for i in range(2)] * 500
    yield "1000 pages.tif", encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    yield "private chunks.png", png(24, 18, 8, 2, more=chunk(b"prVt", b"") * 2_000_000)
    yield "texts.png", png(24, 18, 8, 2, more=chunk(b"tEXt", b"a\0b") * 2_000_000)
    pixels = random.Random(0).randbytes(55 * 13)
    rows = b"".join(b"\0" + pixels[i : i + 57] for i in range(0, 57 * 12, 57)) + bytes(58)
    split = zlib.compress(rows)
    many = b"".join(chunk(b"IDAT", b"") for _ in range(2_000_000))
    yield "empty pixels.png", png(19, 13, 8, 2, more=many, data=split)
    jpeg = encoded(photo(0), "JPEG")
    yield "fill bytes.jpg", jpeg[:2] + b"\xff" * 6_000_000 + jpeg[2:]
    yield "junk.jpg", jpeg[:2] + b"\xff\xe9\0\2" + b"\xff\0" * 8_000_000 + jpeg[2:]
    exif = b"\xff\xe1\x2e\xe0Exif\0\0" + bytes(12_000 - 8)
    yield "exif in parts.jpg", jpeg[:2] + exif * 5000 + jpeg[2:]
    comment = b"\xff\xfe\xff\xff" + bytes(65_533)
    yield "long comments.jpg", jpeg[:2] + comment * 900 + jpeg[2:]
    yield "words.ppm", b"P3 3000 2000 255\n" + b"1 " * 18_000_000
    yield "comments.ppm", b"P3 24 18 255\n" + b"#\n" * 600_000 + b"1 " * 24 * 18 * 3
    yield "long comment.ppm", b"P6\n#" + b"x" * 10_000_000 + b"\n24 18 255\n" + bytes(24 * 18 * 3)
    yield "blanks.ppm", b"P6" + b" " * 10_000_000 + b"24 18 255\n" + bytes(24 * 18 * 3)
    yield "values of 7.ppm", b"P6 3000 2000 7\n" + bytes(18_000_000)
    yield "16 bit.ppm", b"P6 2000 1500 65535\n" + bytes(18_000_000)
    yield "runs.bmp", bmp(8, 1, b"\1\1" * 12_000_000, 4000, 3000)
    yield "empty runs.bmp", bmp(8, 1, b"\0\0" * 12_000_000, 4000, 3000)
    yield "runs of 4.bmp", bmp(4, 2, b"\xff\x12" * 200_000, 10_000, 5000)


def _nested():
    """Yield pictures whose metadata claim much, or lead in circles."""
    pixels, usual = bytes(24 * 18 * 3), {256: 24, 257: 18, 258: [8] * 3, 262: 2, 277: 3, 278: 18}
    many, large = [8] * 4_000_000, [70_000] * 25_000_000
    yield "strips.tif", tiff({**usual, 278: 1, 273: many, 256: 24}, [], offsets=279)
    yield "places of strips.tif", tiff({**usual, 278: 1, 279: 72}, [pixels[:4]] * 3_000_000)
    for tag, name in ((258, "bits"), (320, "colours"), (700, "xmp"), (34_675, "icc")):
        yield f"long {name}.tif", tiff({**usual, tag: many}, [pixels])
    yield "long resolution.tif", tiff({**usual, 282: large}, [pixels])
    inner = struct.pack("<H", 4000) + b"".join(
        struct.pack("<HHLL", 1000 + i, 3, 4_000_000, 8) for i in range(4000)
    )
    data = bytes(8_000_000) + inner + bytes(4)
    whole = tiff({**usual, 34_665: 8 + 8_000_000, 34_853: 8 + 8_000_000}, [data])
    yield "long exif.tif", whole
    entry = struct.pack("<HHLL", 270, 2, 4, 0)
    head = tiff(usual, [pixels])
    at = int.from_bytes(head[4:8], "little")
    entries = head[at + 2 : -4] + entry * 60_000
    yield "many entries.tif", head[:at] + struct.pack("<H", len(entries) // 12) + entries + bytes(4)
    big = b"II+\0\10\0\0\0" + struct.pack("<QQ", 16, 4_000_000)
    yield "many entries, big.tif", big + struct.pack("<HHQQ", 270, 2, 4, 0) * 4_000_000
    for depth in (1, 2):
        exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2)
        exif += struct.pack("<HHLL", 0x8769, 4, 1, 8) + struct.pack("<HHLL", 0x8825, 4, depth, 8)
        exif += struct.pack("<L", 8)
        for kind in ("JPEG", "PNG", "WEBP"):
            yield f"exif in itself {depth}.{kind.lower()}", encoded(photo(0), kind, exif=exif)
    zeros = zlib.compress(bytes(100_000_000), 9)
    for name, start in ((b"iCCP", b"a\0\0"), (b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        more = chunk(name, start + zeros)
        yield f"{name.decode()} of zeros.png", png(24, 18, 8, 2, more=more)
        yield (
            f"many {name.decode()}.png",
            png(24, 18, 8, 2, more=chunk(name, start + zlib.compress(bytes(900_000))) * 500),
        )
    raw = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  9\n" + b"00" * 400_000)
    yield "raw exif.png", png(24, 18, 8, 2, more=chunk(b"zTXt", raw))
    icc = b"\xff\xe2\xff\xffICC_PROFILE\0\1\1" + bytes(65_533 - 14)
    jpeg = encoded(photo(0), "JPEG")
    yield "icc in parts.jpg", jpeg[:2] + icc * 900 + jpeg[2:]
    xmp = b"\xff\xe1\xff\xff" + b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation=" * 3851
    yield "xmp.jpg", jpeg[:2] + xmp[:65_537].ljust(65_537) * 900 + jpeg[2:]
    mpf = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + struct.pack("<HHLL", 0xB001, 4, 1, 2**31)
    mpf += struct.pack("<HHLL", 0xB002, 7, 32, 8) + bytes(4)
    segment = b"MPF\0" + mpf
    yield (
        "2^31 pictures.mpo",
        jpeg[:2] + b"\xff\xe2" + struct.pack(">H", 2 + len(segment)) + segment + jpeg[2:],
    )


def good() -> Iterator[tuple[str, bytes]]:
    """Yield sound pictures that stand beside bad ones: (name, data)."""
    options = {"jpg": {}, "png": {}, "gif": {}, "bmp": {}, "tif": {}, "webp": {"lossless": True}}
    kinds = {"jpg": "JPEG", "tif": "TIFF"}
    for number, (suffix, more) in enumerate(options.items()):
        picture = photo(100 + number, 120, 90)
        yield f"good {number}.{suffix}", encoded(picture, kinds.get(suffix, suffix.upper()), **more)


NAMES = (
    "{}.jpg", "with space {}.jpg", " {} ", "it's {}.jpg", '"{}".png', "two\nlines {}.jpg",
    "tab\t{}", "-{}.jpg", "--json{}", "-", "%s%n{}.jpg", "{{{}}}", "$(touch {}).jpg",
    "`{}`;rm *.jpg", "[{}].jpg", "?*{}.png", "\\{}.jpg", "日本 {}.jpg", "مرحبا {}.jpg",
    "עברית\u202e{}.gpj", "été {}.jpg", "e\u0301te\u0301 {}.jpg", "🦁{}.jpg", "\udcff\udcfe {}.jpg",
    "\x1b[31m{}.jpg", "\r{}", "\x07{}", "{}", "{}.", "{}.jpg.exe", "~{}.jpg", "#{}#",
    "skipped: {}: not an image", "file:{}.jpg", "{}|cat",
)  # fmt: skip


def odd_name(number: int, suffix: str) -> str:
    """Return a name that a file can have, another one for each number."""
    if number % 37 == 0:
        return f"{number}".ljust(251, "x") + ".jpg"  # the longest there is
    if number % 37 == 1:
        return f"{number:06}" + "字" * 83
    name = NAMES[number % len(NAMES)]
    name = f"{name}{{}}" if name == "-" else name
    return name.format(number) + (suffix if number % 3 else "")


def bad(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield so many damaged pictures of odd names: (name, data)."""
    chance = random.Random(seed)
    found = seeds()
    others = list(found.values())
    names = itertools.cycle(found)
    for number in range(count):
        name = next(names)
        yield odd_name(number, Path(name).suffix), damaged(found[name], others, chance)


def make(folder: Path, seed: int, count: int) -> None:
    """Write so many damaged pictures, sound ones and the bombs below a folder."""
    for name, files in {"good": good(), "bad": bad(seed, count), "bombs": bombs()}.items():
        (folder / name).mkdir()
        for file, data in files:
            (folder / name / file).write_bytes(data)


def decode(files: list[str]) -> None:
    """Decode files; print a line of JSON each: [name, seconds, megabytes, what came of it]."""
    from classifier.data.images import ImageError
    from classifier.data.images import decode as decoded

    for file in files:
        forget_peak()
        began = time.monotonic()
        try:
            decoded(file, 64)
            result = ""
        except ImageError as error:
            result = str(error)
        print(json.dumps([file, time.monotonic() - began, peak(), result]), flush=True)


def forget_peak() -> None:
    """Have the system forget the most memory that this process had."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Return the most memory that this process had, MB, since it was forgotten where it can be."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        decode(json.load(sys.stdin))
