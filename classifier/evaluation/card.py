"""The model card: what a model is, how good, on what and how it was made, in Markdown."""

import html
import re
from pathlib import Path

from classifier import cli
from classifier.evaluation import report
from classifier.evaluation.report import Report
from classifier.files import atomic_write, may_replace

# First and last class, and number of them.
LICENCES = {
    ("Faces", "yin_yang", 101): "Caltech-101 (Li, Andreeto, Ranzato, Perona 2022, "
    "doi:10.22002/D1.20086), CC BY 4.0",
}
UNKNOWN_LICENCE = "that of your photographs, which this program does not know"
MARK = "made by train.py"  # in the first lines of every card


def may_stand_at(path: Path) -> bool:
    """Return whether a card may be written at `path`: nothing is there, or an earlier card."""
    return may_replace(path, MARK)


def plain(text: str) -> str:
    """Return a text on one line in which Markdown and HTML mark nothing."""
    text = " ".join(html.escape(text, quote=False).split())
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


def write(path: Path, model: Path, made: Report, page: Path) -> None:
    """Write the card of a model file.

    Args:
        path: where the card goes.
        model: path of the model file.
        made: Report of the model.
        page: path of the report.
    """
    info, classes = made.info, made.info.classes
    text = report.template("card.md").render(
        name=model.name,
        predict=cli.shown("predict.py", "--model", model, "PHOTOGRAPH"),
        info=info,
        classes=[plain(name) for name in classes],
        leak=made.leak,
        figures=made.figures,
        rows=report.headlines(made.figures),
        page=page,
        data={name: plain(str(value)) for name, value in made.data.items()},
        licence=LICENCES.get((classes[0], classes[-1], len(classes)), UNKNOWN_LICENCE),
        command=" ".join(info.training.get("command", "unknown").split()),
        run=[(name, plain(value)) for name, value in report.run_rows(info)],
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
