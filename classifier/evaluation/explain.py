"""Why a photograph is named so: a picture of the places that speak for a class.

The network ends in the mean of its last feature maps and one Dense layer, so a class's logit is the
mean of what each place adds to it, and the bias: the class activation map (Zhou et al. 2016,
arXiv:1512.04150). For such a network Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) is the same
map, and here it needs no gradient.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from classifier.data.images import scaled
from classifier.files import atomic_write, may_replace
from classifier.prediction.forward import Network, of_views

STRIDE = 32  # pixels of the network's image from one place of the last maps to the next
SIDE = 360  # of both photographs in a picture, their longer one
COLUMN, GAP, CAPTION, ROW, BAR = 300, 16, 28, 46, 12  # of what stands around and beside them
TEXT, GREY, BLUE, EMPTY = (29, 39, 48), (154, 165, 173), (43, 108, 163), (232, 236, 240)
# What speaks for a class, from nothing to the most: blue, turquoise, yellow, red.
SHARES = (0, 0.35, 0.65, 1)
COLOURS = np.array([(40, 70, 160), (60, 150, 190), (250, 210, 70), (220, 40, 30)])
OPACITY = 0.65  # of the most
MARK = "resnet-classifier: why a photograph is named so"  # in each picture's file
LONGEST_TEXT = 200  # characters of a name that are looked at


def feature_maps(
    network: Network, images: np.ndarray, mirror: bool, threads: int = 1
) -> np.ndarray:
    """Return a network's last feature maps, float32 (N, rows, columns, features).

    Their mean over the places is what `forward.averaged` returns. Times the head's kernel they are
    what each place adds to the logits.

    Args:
        network: of the model.
        images: RGB pixels 0..255, (N, height, width, 3).
        mirror: take the mean of the maps of the images and, turned back, of their mirror images.
        threads: 2 to compute both at a time.
    """
    maps = of_views(network.feature_maps, images, mirror, threads)
    return (maps[0] + maps[1][:, :, ::-1]) / 2 if mirror else maps[0]


def heat_map(evidence: np.ndarray, side: int, mirror: bool) -> np.ndarray:
    """Return what each pixel of the network's image adds to a logit: float32 (side, side).

    Args:
        evidence: float array (rows, columns), what the places of the last maps add.
        side: of the image, after enlarging, pixels.
        mirror: as for `feature_maps`.
    """
    # Each place looks at a pixel and what is around it, the first place at the first pixel. In the
    # mirror image it is the last pixel, so the mean of both lies between.
    right = side - 1 - STRIDE * (evidence.shape[1] - 1)  # pixels beyond the last place
    left = 1.5 - (0.5 + (right / 2 if mirror else 0)) / STRIDE  # of the image, in places
    top = 1.5 - 0.5 / STRIDE
    box = (left, top, left + side / STRIDE, top + side / STRIDE)
    places = Image.fromarray(np.pad(evidence, 1, "edge").astype(np.float32))
    return np.asarray(places.resize((side, side), Image.Resampling.BICUBIC, box))


def overlay(photograph: Image.Image, heat: np.ndarray) -> Image.Image:
    """Lay what speaks for a class over a photograph in grey.

    Args:
        photograph: PIL image, RGB.
        heat: float32 array (side, side), of `heat_map`. The most is red; what speaks against the
            class is not shown.
    """
    shares = Image.fromarray(np.maximum(heat, 0) / max(heat.max(), 1e-12))
    shares = np.asarray(shares.resize(photograph.size, Image.Resampling.BICUBIC)).clip(0, 1)
    colours = np.stack([np.interp(shares, SHARES, channel) for channel in COLOURS.T], axis=-1)
    opacity = OPACITY * shares[..., None]
    grey = np.asarray(photograph.convert("L"))[..., None]
    return Image.fromarray((opacity * colours + (1 - opacity) * grey).astype(np.uint8))


def picture(
    photograph: Image.Image,
    name: str,
    heat: np.ndarray,
    ranked: Sequence[tuple[str, float]],
    unknown: bool | None,
) -> Image.Image:
    """Draw a picture for people: the photograph, what speaks for a class, and bars.

    Args:
        photograph: PIL image, RGB, of any size.
        name: of the photograph.
        heat: for the likeliest class, of `heat_map`.
        ranked: (label, probability) of the classes to show, best first.
        unknown: whether it is none of the classes.
    """
    photograph = scaled(photograph, SIDE)
    width, height = photograph.size
    column = max(width, 200)  # room for the caption above a narrow one
    top, lefts = GAP + CAPTION, (GAP, 2 * GAP + column, 3 * GAP + 2 * column)
    size = (lefts[2] + COLUMN + GAP, top + max(height, ROW * len(ranked)) + GAP)
    canvas = Image.new("RGB", size, "white")
    canvas.paste(photograph, (lefts[0], top))
    canvas.paste(overlay(photograph, heat), (lefts[1], top))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)

    def write(left, top, text, room):
        text = fitting(text, lambda part: draw.textlength(part, font), room)
        draw.text((left, top), text, TEXT, font)

    write(lefts[0], GAP, name, column)
    write(lefts[1], GAP, f"what speaks for {ranked[0][0]}", column)
    write(lefts[2], GAP, "none of these; closest:" if unknown else "likeliest", COLUMN)
    for label, probability in ranked:
        write(lefts[2], top, label, COLUMN - 70)
        draw.text((lefts[2] + COLUMN, top), f"{probability:.1%}", TEXT, font, anchor="ra")
        bar = top + 22
        draw.rectangle((lefts[2], bar, lefts[2] + COLUMN, bar + BAR), EMPTY)
        if length := round(COLUMN * probability):
            colour = GREY if unknown else BLUE
            draw.rectangle((lefts[2], bar, lefts[2] + length, bar + BAR), colour)
        top += ROW
    return canvas


def fitting(text: str, length, room: int) -> str:
    """Return a text in ASCII, its end cut off where it is longer than there is room.

    Pillow's own font has no other letters: accents are left out, and ? stands for what remains.

    Args:
        text: any.
        length: returns how long a text is.
        room: the most it may be.
    """
    letters = unicodedata.normalize("NFKD", text[:LONGEST_TEXT])
    letters = (letter for letter in letters if not unicodedata.combining(letter))
    text = "".join(letter if " " <= letter <= "~" else "?" for letter in letters)
    if length(text) <= room:
        return text
    while text and length(text + "...") > room:
        text = text[:-1]
    return text + "..."


def save(path: Path, drawn: Image.Image) -> None:
    """Write a picture as PNG, in one step, with the mark by which `may_stand_at` knows it."""
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", MARK)
    with atomic_write(path) as temporary:
        drawn.save(temporary, "PNG", pnginfo=mark)


def may_stand_at(path: Path) -> bool:
    """Return whether a picture may be written to `path`: nothing is there, or an earlier one."""
    return may_replace(path, MARK)
