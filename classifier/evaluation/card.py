"""The model card: what a model is, how good, on what and how it was made, in Markdown."""

from pathlib import Path

from classifier.evaluation import report
from classifier.evaluation.report import Report
from classifier.files import atomic_write

# First and last class, and number of them: the data sets that prepro.py brings.
LICENCES = {
    ("Faces", "yin_yang", 101): "Caltech-101 (Li, Andreeto, Ranzato, Perona 2022, "
    "doi:10.22002/D1.20086), CC BY 4.0",
    ("0", "9", 10): "scikit-learn's digits (Alpaydin and Kaynak 1998, "
    "doi:10.24432/C50P49), CC BY 4.0",
}
UNKNOWN_LICENCE = "that of your photographs, which this program does not know"


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
        path=model,
        info=info,
        classes=classes,
        leak=made.leak,
        figures=made.figures,
        rows=report.headlines(made.figures),
        page=page,
        data=made.data,
        licence=LICENCES.get((classes[0], classes[-1], len(classes)), UNKNOWN_LICENCE),
        command=info.training.get("command", "unknown"),
        run=report.run_rows(info),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
