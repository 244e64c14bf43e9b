"""Draw the pictures of this folder: a test picture and the diagrams of the README.

    test.jpg                   a yin-yang sign, for trying predict.py
    skip_connection.svg        two layers, plain and with a skip connection
    identity_block.svg         the residual block that keeps the shape
    convolutional_block.svg    the residual block that changes the shape
    resnet50.svg               the whole network and the shape after each step

The same Pillow release writes the same bytes each time. Nothing but Pillow is needed.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw

# ---- The test picture -------------------------------------------------------------------------

SIZE = 300  # pixels a side
SUPERSAMPLING = 8  # drawn this many times larger, then averaged: smooth edges
SIGN_RADIUS = 140
OUTLINE = 3.5  # pixels
DOT_RADIUS = 19
JPEG_QUALITY = 92
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def yin_yang():
    """Return the sign on white: dark half on the left, its head at the bottom.

    Returns:
        PIL.Image, RGB, SIZE x SIZE.
    """
    image = Image.new("RGB", (SIZE * SUPERSAMPLING, SIZE * SUPERSAMPLING), WHITE)
    draw = ImageDraw.Draw(image)

    def bounds(radius, below=0.0):
        """Return the square about a circle `below` the centre, in drawn pixels."""
        centre_x, centre_y = SIZE / 2, SIZE / 2 + below
        corners = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
        return [corner * SUPERSAMPLING for corner in corners]

    inner = SIGN_RADIUS - OUTLINE
    head = inner / 2  # radius of a head, and how far its centre is from the sign's
    draw.ellipse(bounds(SIGN_RADIUS), fill=BLACK)
    draw.ellipse(bounds(inner), fill=WHITE)
    draw.pieslice(bounds(inner + OUTLINE / 2), 90, 270, fill=BLACK)
    for below, half, dot in ((-head, WHITE, BLACK), (head, BLACK, WHITE)):
        draw.ellipse(bounds(head, below), fill=half)
        draw.ellipse(bounds(DOT_RADIUS, below), fill=dot)
    return image.reduce(SUPERSAMPLING)


# ---- Drawing in SVG ---------------------------------------------------------------------------

# Fill and outline by what a layer does, the same in every diagram.
COLOURS = {
    "data": ("#f1f3f5", "#6b7480"),
    "conv": ("#cfe2ff", "#3b6fb6"),
    "norm": ("#d9f2e0", "#3c8f5a"),
    "activation": ("#ffe3c2", "#c2741a"),
    "dropout": ("#ecdcf9", "#8557b0"),
    "pool": ("#ffd9dc", "#bd4c58"),
    "dense": ("#cdeff0", "#2b8a8f"),
    "add": ("#fff3b0", "#a08300"),
    "convolutional": ("#bfcaf8", "#4453a8"),
    "identity": ("#e4e9fd", "#4453a8"),
    "group": ("#fafbfc", "#c4cbd3"),
}
# The panel is white in GitHub's dark mode as well, so that one set of colours serves both.
STYLE = """\
text{font-family:sans-serif;font-size:14px;fill:#1f2328;text-anchor:middle}
.note{font-size:13px;fill:#57606a}
.strong{font-weight:bold}
.panel{fill:#fff;stroke:#d0d7de}
.wire{fill:none;stroke:#444c56;stroke-width:1.8}
#head{fill:#444c56}
.divider{fill:none;stroke:#d0d7de}
"""
LINE_HEIGHT = 18  # pixels from a line of text to the next
BASELINE = 5  # pixels from the middle of a line of text to its baseline


@dataclass(frozen=True)
class Area:
    """A rectangle that is drawn already, for what is drawn next to it to start from."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self):
        """Middle of the left side."""
        return self.x, self.y + self.height / 2

    @property
    def right(self):
        """Middle of the right side."""
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self):
        """Middle of the upper side."""
        return self.x + self.width / 2, self.y

    @property
    def bottom(self):
        """Middle of the lower side."""
        return self.x + self.width / 2, self.y + self.height


class Diagram:
    """An SVG picture on a white panel; x grows to the right, y downwards, both in pixels."""

    def __init__(self, width, height, title, description):
        self.width, self.height = width, height
        self.title, self.description = title, description
        self.elements = []

    def text(self, x, y, *lines, style=""):
        """Write lines of text about the middle (x, y); `style` is "", "note" or "strong"."""
        attribute = f' class="{style}"' if style else ""
        first = y + BASELINE - (len(lines) - 1) * LINE_HEIGHT / 2
        for number, line in enumerate(lines):
            baseline = first + number * LINE_HEIGHT
            self.elements.append(
                f'<text x="{x:g}" y="{baseline:g}"{attribute}>{escape(line)}</text>'
            )

    def box(self, x, y, width, height, kind, *lines, radius=5):
        """Draw a box with lines of text in it, coloured by its kind; return its Area."""
        self.elements.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            f'rx="{radius:g}"/>'
        )
        self.text(x + width / 2, y + height / 2, *lines)
        return Area(x, y, width, height)

    def chain(self, x, y, height, cells):
        """Draw layers that follow each other directly, side by side; return their common Area.

        Args:
            x: left side.
            y: upper side.
            height: of each layer.
            cells: of each layer (width, kind, line of text ...).
        """
        start = x
        for width, kind, *lines in cells:
            self.box(x, y, width, height, kind, *lines)
            x += width
        return Area(start, y, x - start, height)

    def adder(self, x, y, radius=15):
        """Draw a circled plus about (x, y); return its Area."""
        area = self.box(x - radius, y - radius, 2 * radius, 2 * radius, "add", radius=radius)
        arm = radius / 2
        self.wire((x - arm, y), (x + arm, y))
        self.wire((x, y - arm), (x, y + arm))
        return area

    def wire(self, *points, style="wire", marker=""):
        """Draw a line through points (x, y); `style` is "wire" or "divider"."""
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        self.elements.append(f'<path class="{style}" d="{path}"{marker}/>')

    def arrow(self, *points):
        """Draw a line through points (x, y) with a head at the last."""
        self.wire(*points, marker=' marker-end="url(#arrow)"')

    def svg(self):
        """Return the picture as the text of an SVG file."""
        used = [kind for kind in COLOURS if any(f'class="{kind}"' in e for e in self.elements)]
        colours = [f".{kind}{{fill:{COLOURS[kind][0]};stroke:{COLOURS[kind][1]}}}" for kind in used]
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(self.title)}</title>',
            f'<desc id="desc">{escape(self.description)}</desc>',
            f"<style>\n{STYLE}" + "\n".join(colours) + "\n</style>",
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9.5" refY="5" markerWidth="9" '
            'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
            '<path id="head" d="M0 0.5L10 5L0 9.5z"/></marker></defs>',
            f'<rect class="panel" x="0.5" y="0.5" width="{self.width - 1}" '
            f'height="{self.height - 1}" rx="12"/>',
            *self.elements,
            "</svg>\n",
        ])  # fmt: skip


# ---- The diagrams -----------------------------------------------------------------------------


def skip_connection():
    """Return the Diagram of two weight layers, plain and with a skip connection."""
    diagram = Diagram(
        680, 470, "Skip connection",
        "Left: x passes two weight layers, which must learn the whole mapping F(x). Right: "
        "x is also added to what the same layers give, so that they learn the residual only.",
    )  # fmt: skip
    diagram.wire((340, 24), (340, 446), style="divider")
    _weight_layers(diagram, 170, "Plain", skip=False)
    _weight_layers(diagram, 490, "With a skip connection", skip=True)
    return diagram


def _weight_layers(diagram, x, heading, skip):
    """Draw two weight layers below each other about `x`, and beside them the skip if wanted."""

    def layer(y, kind, *lines):
        return diagram.box(x - 80, y, 160, 40, kind, *lines)

    diagram.text(x, 36, heading, style="strong")
    source = diagram.box(x - 22, 64, 44, 32, "data", "x", radius=16)
    first = layer(132, "conv", "Weight layer")
    relu = layer(196, "activation", "ReLU")
    second = layer(260, "conv", "Weight layer")
    last = layer(382, "activation", "ReLU")
    diagram.arrow(source.bottom, first.top)
    diagram.arrow(first.bottom, relu.top)
    diagram.arrow(relu.bottom, second.top)
    diagram.text(x - 28, 316, "F(x)", style="note")
    if skip:
        adder = diagram.adder(x, 342)
        side = x + 112
        diagram.arrow(second.bottom, adder.top)
        diagram.arrow((x, 114), (side, 114), (side, 342), adder.right)
        diagram.text(side + 34, 226, "x", "identity", style="note")
        diagram.arrow(adder.bottom, last.top)
        diagram.text(x - 46, 366, "F(x) + x", style="note")
    else:
        diagram.arrow(second.bottom, last.top)
    diagram.arrow(last.bottom, (x, 450))


def identity_block():
    """Return the Diagram of the block that adds its unchanged input."""
    diagram = Diagram(
        1000, 266, "Identity block",
        "1x1 convolution, batch normalisation, ReLU, dropout; 3x3 convolution, batch "
        "normalisation, ReLU, dropout; 1x1 convolution, batch normalisation; the unchanged "
        "input is added; ReLU.",
    )  # fmt: skip
    split, adder = _main_path(diagram, 120, "H × W × F3", "H × W")
    diagram.arrow(split, (split[0], 56), (adder.top[0], 56), adder.top)
    diagram.text((split[0] + adder.top[0]) / 2, 38, "Shortcut: the unchanged input", style="note")
    return diagram


def convolutional_block():
    """Return the Diagram of the block whose shortcut is a convolution."""
    diagram = Diagram(
        1000, 318, "Convolutional block",
        "1x1 convolution of stride s, batch normalisation, ReLU, dropout; 3x3 convolution, batch "
        "normalisation, ReLU, dropout; 1x1 convolution, batch normalisation; the input is added "
        "after a 1x1 convolution of stride s and batch normalisation; ReLU.",
    )  # fmt: skip
    split, adder = _main_path(diagram, 170, "H × W × C", "H/s × W/s", "stride s")
    middle = (split[0] + adder.top[0]) / 2
    diagram.text(middle, 24, "Shortcut: changes the shape to that of the sum", style="note")
    shortcut = diagram.chain(middle - 64, 42, 72, _conv("1×1 conv", "F3 filters", "stride s"))
    y = shortcut.left[1]
    diagram.arrow(split, (split[0], y), shortcut.left)
    diagram.arrow(shortcut.right, (adder.top[0], y), adder.top)
    diagram.text(middle + 132, y + 18, "H/s × W/s × F3", style="note")
    return diagram


def _main_path(diagram, y, input_shape, size, *stride):
    """Draw a block but for its shortcut.

    Args:
        diagram: Diagram to draw in.
        y: upper side of the layers.
        input_shape: shape of the block's input.
        size: height and width after its first convolution.
        stride: a line for the first convolution, if it has a stride.

    Returns:
        Where the shortcut leaves the main path, (x, y), and Area of the adder it ends at.
    """
    height, gap = 72, 30
    middle = y + height / 2
    end = [(52, "activation", "ReLU"), (74, "dropout", "Dropout")]

    def shape(area, text):
        diagram.text(area.bottom[0], y + height + 18, text, style="note")

    source = diagram.box(42, middle - 16, 44, 32, "data", "x", radius=16)
    shape(source, input_shape)
    convolutions = (
        [*_conv("1×1 conv", "F1 filters", *stride), *end],
        [*_conv("3×3 conv", "F2 filters"), *end],
        _conv("1×1 conv", "F3 filters"),
    )
    previous = source
    for number, cells in enumerate(convolutions, 1):
        unit = diagram.chain(previous.right[0] + gap, y, height, cells)
        diagram.arrow(previous.right, unit.left)
        shape(unit, f"{size} × F{number}")
        previous = unit
    adder = diagram.adder(previous.right[0] + gap + 15, middle)
    relu = diagram.box(adder.right[0] + 24, y, 52, height, "activation", "ReLU")
    shape(relu, f"{size} × F3")
    diagram.arrow(previous.right, adder.left)
    diagram.arrow(adder.right, relu.left)
    diagram.arrow(relu.right, (relu.right[0] + gap, middle))
    diagram.text(
        diagram.width / 2, y + height + 50, "BN: batch normalisation. Below: shapes of the "
        "outputs, height × width × channels.", style="note",
    )  # fmt: skip
    return (source.right[0] + gap / 3, middle), adder


def _conv(*lines):
    """Return a convolution and its batch normalisation as cells of a chain."""
    return [(90, "conv", *lines), (38, "norm", "BN")]


# Stage: filters of a block's convolutions, identity blocks, stride of the convolutional block.
STAGES = {
    2: ((64, 64, 256), 2, 1),
    3: ((128, 128, 512), 3, 2),
    4: ((256, 256, 1024), 5, 2),
    5: ((512, 512, 2048), 2, 2),
}
COLUMN, COLUMN_GAP, MARGIN = 205, 40, 46  # widths in pixels: three rows of four columns


def resnet50(size=64, classes=101):
    """Return the Diagram of the whole network.

    Args:
        size: pixels a side of its input, a multiple of 32.
        classes: number of classes.
    """
    width = 4 * COLUMN + 3 * COLUMN_GAP + 2 * MARGIN
    diagram = Diagram(
        width, 520, "ResNet-50",
        f"The network for {size}x{size} RGB pictures and {classes} classes: a first convolution "
        "and max pooling, four stages of a convolutional block and identity blocks, global "
        "average pooling, dropout and a dense layer with softmax.",
    )  # fmt: skip
    columns = [MARGIN + number * (COLUMN + COLUMN_GAP) for number in range(4)]

    y, height = 32, 64
    stem = [
        diagram.box(columns[0], y, COLUMN, height, "data", "Input picture", "RGB, 0 to 255"),
        diagram.box(columns[1], y, COLUMN, height, "data", "Scaling", "subtract the mean"),
        diagram.chain(columns[2], y, height, [
            (112, "conv", "7×7 conv, 64", "stride 2"), (38, "norm", "BN"),
            (COLUMN - 150, "activation", "ReLU"),
        ]),
        diagram.box(columns[3], y, COLUMN, height, "pool", "3×3 max pooling", "stride 2"),
    ]  # fmt: skip
    _row(diagram, stem, [
        _shape(size, 3), _shape(size, 3), _shape(size // 2, 64), _shape(size // 4, 64),
    ])  # fmt: skip

    size //= 4
    stages, shapes = [], []
    for x, (number, (filters, identities, stride)) in zip(columns, STAGES.items(), strict=True):
        stages.append(_stage(diagram, x, 162, number, filters, identities, stride))
        size //= stride
        shapes.append(_shape(size, filters[-1]))
    _row(diagram, stages, shapes)

    y, features = 376, STAGES[5][0][-1]
    head = [
        diagram.box(columns[0], y, COLUMN, height, "pool", "Global average pooling"),
        diagram.box(columns[1], y, COLUMN, height, "dropout", "Dropout"),
        diagram.box(columns[2], y, COLUMN, height, "dense", "Fully connected", f"fc{classes}"),
        diagram.box(columns[3], y, COLUMN, height, "activation", "Softmax"),
    ]
    _row(diagram, head, [
        f"{features}", f"{features}", f"{classes}", f"{classes} probabilities",
    ])  # fmt: skip

    for above, below in ((stem, stages), (stages, head)):
        _turn(diagram, above[-1], below[0])
    diagram.text(
        width / 2, 496, "BN: batch normalisation. Below each step: the shape of its output, "
        "height × width × channels.", style="note",
    )  # fmt: skip
    return diagram


def _shape(size, channels):
    return f"{size} × {size} × {channels}"


def _row(diagram, areas, shapes):
    """Connect areas from left to right, and write the shape of its output below each."""
    for area, shape in zip(areas, shapes, strict=True):
        diagram.text(area.bottom[0], area.bottom[1] + 18, shape, style="strong")
    for previous, area in zip(areas, areas[1:], strict=False):
        diagram.arrow(previous.right, area.left)


def _turn(diagram, last, first):
    """Connect the last area of a row to the first of the next row."""
    right, left = last.right[0] + MARGIN / 2, first.left[0] - MARGIN / 2
    between = first.y - 16
    diagram.arrow(
        last.right, (right, last.right[1]), (right, between), (left, between),
        (left, first.left[1]), first.left,
    )  # fmt: skip


def _stage(diagram, x, y, number, filters, identities, stride):
    """Draw a stage: its convolutional block and its pile of identity blocks; return its Area."""
    area = diagram.box(x, y, COLUMN, 148, "group", radius=8)
    diagram.text(area.top[0], y + 16, f"Stage {number}", style="strong")
    top, height = y + 39, 70
    convolutional = diagram.box(
        x + 10, top, 82, height, "convolutional", "Conv", "block", f"stride {stride}"
    )
    left, width = x + 112, 74
    for offset in (8, 4):  # the edges of the pile, furthest first
        diagram.box(left + offset, top - offset, width, height, "identity")
    pile = diagram.box(left, top, width, height, "identity", "Identity", "block", f"× {identities}")
    diagram.arrow(convolutional.right, pile.left)
    counts = ", ".join(map(str, filters))
    diagram.text(area.bottom[0], y + 128, f"filters {counts}", style="note")
    return area


# ---- The command ------------------------------------------------------------------------------


def draw(folder):
    """Write all pictures into a folder, making it if needed.

    Args:
        folder: Path of the folder.

    Returns:
        list of the Paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "test.jpg"]
    yin_yang().save(written[0], quality=JPEG_QUALITY)
    for diagram in (skip_connection, identity_block, convolutional_block, resnet50):
        path = folder / f"{diagram.__name__}.svg"
        path.write_text(diagram().svg(), encoding="utf-8", newline="\n")
        written.append(path)
    return written


def main():
    """Read the command line, write the pictures and name them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="DIR", default=Path(__file__).parent,
                        help="folder to write into (default: the one of this script)")  # fmt: skip
    for path in draw(parser.parse_args().output):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
