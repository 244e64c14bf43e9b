"""How sure a row's model really is, what it takes for none of these, and where it looks.

python benchmarks/insight.py clean-64-head --archive FILE --imagenet FILE.h5
python benchmarks/insight.py clean-64-head --scores --archive FILE --imagenet FILE.h5
python benchmarks/insight.py clean-224-head --pointing --archive FILE --imagenet FILE.h5

The model is that of the row's first seed, which results.py's commands make unless it is there. The
figures are those of `python -m classifier.evaluation` on test and on BACKGROUND_Google; no step of
training, choosing or fitting sees either. With --scores several scores are compared, on val alone:
DRAWS times 10 classes are held out of the head, and their photographs are the unknown ones. With
--pointing the heat maps of predict.py --explain play the grid pointing game. All go to
benchmarks/results/insight.json.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results  # noqa: E402

from classifier import backend, cli  # noqa: E402
from classifier.data.arrays import Arrays  # noqa: E402
from classifier.errors import UserError  # noqa: E402
from classifier.evaluation.evaluate import Judge  # noqa: E402
from classifier.evaluation.explain import feature_maps  # noqa: E402
from classifier.evaluation.metrics import auroc  # noqa: E402
from classifier.evaluation.unknown import REJECTED, fit_known, some_of_each  # noqa: E402
from classifier.prediction import model_file  # noqa: E402
from classifier.prediction.forward import Network, softmax  # noqa: E402
from classifier.prediction.runtime import images_a_step, images_a_thread  # noqa: E402
from classifier.prediction.verdict import Head, Known  # noqa: E402
from classifier.training.run import code_version  # noqa: E402

DRAWS, HELD_OUT = 8, 10
GRIDS, CONFIDENT = 500, 0.9  # of the pointing game; confident from this probability on
# Of those that a model took for known, or was surest of, these were seen to show one of the classes
# after all: helicopter, aeroplane (drawn), nautilus, cup, umbrella (drawn), electric guitars (two),
# Joshua trees, umbrella. 118 were looked at.
OF_A_CLASS = ("0095", "0097", "0100", "0112", "0143", "0175", "0176", "0300", "0334")
HEADER = (
    "| model | calibration error (95% interval) | uncalibrated | AUROC (95% interval) "
    "| unknown rejected (95% interval) | known accepted |",
    "|---|---|---|---|---|---|",
)


def main() -> int:
    parser = cli.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("row", choices=[name for name in results.ROWS if name.startswith("clean")])
    parser.add_argument("--archive", type=Path, help="of Caltech-101 (default: download it)")
    parser.add_argument("--imagenet", type=Path, metavar="FILE.h5", help="Keras' weights")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--scores", action="store_true", help="compare scores on val with classes held out"
    )
    which.add_argument(
        "--pointing", action="store_true", help="play the grid pointing game on test"
    )
    args = parser.parse_args()
    archive = args.archive and args.archive.resolve()
    imagenet = args.imagenet and args.imagenet.resolve()
    os.chdir(results.ROOT)
    scripts = results.commands(args.row, 0, archive, imagenet)
    arrays, model = scripts[0][-1], scripts[1][-1]
    if not (Path(arrays).is_file() and Path(model).is_file()):
        results.train(scripts)
    kept = results.kept("insight") or {}
    if args.scores:
        figures = compared(Path(arrays), Path(model))
        for name, figure in figures.items():
            print(f"{name:28} AUROC {figure['auroc']:.3f}, rejected {figure['rejected']:.1%}")
        kind, flag = "scores", " --scores"
    elif args.pointing:
        figures = {**pointing(Path(arrays), Path(model)), "code": code_version()}
        print(json.dumps(figures, indent=1))
        kind, flag = "pointing", " --pointing"
    else:
        background = Path("datasets/caltech_101/BACKGROUND_Google")
        words = ["-m", "classifier.evaluation", arrays, "--model", model]
        words += ["--unknown", str(background), "--json"]
        done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise UserError("the evaluation failed (see above)")
        figures = json.loads(done.stdout)
        figures["code"] = code_version()
        print(json.dumps(figures, indent=1))
        kind, flag = "models", ""
    figures = {"command": f"python benchmarks/insight.py {args.row}{flag}", **figures}
    kept[kind] = {**kept.get(kind, {}), args.row: figures}
    kept["background_of_a_class"] = OF_A_CLASS
    results.write("insight.json", kept)
    print(table(kept))
    return 0


def table(kept: dict) -> str:
    """Return the models' figures as a Markdown table."""

    def span(figures, key):
        low, high = (100 * figures[f"{key}_{end}"] for end in ("low", "high"))
        return f"{100 * figures[key]:.1f} ({low:.1f} to {high:.1f})"

    lines = [
        f"| `{name}` | {span(model, 'ece')} | {100 * model['uncalibrated_ece']:.1f} "
        f"| {span(model, 'auroc')} | {span(model, 'rejected')} | {100 * model['accepted']:.1f} |"
        for name, model in kept.get("models", {}).items()
    ]
    return "\n".join([*HEADER, *lines])


def compared(path: Path, model: Path) -> dict[str, dict[str, float]]:
    """Return each score's AUROC and share rejected at 95% of val accepted, means of DRAWS draws."""
    backend.start_keras()
    from sklearn.linear_model import LogisticRegression

    from classifier.training.fused import features_of
    from classifier.training.head import INVERSE_PENALTY, MAX_ITERATIONS

    network, info = model_file.load(model)
    step = images_a_step(info.side)
    straight = features_of(network, step)
    views = [
        Judge(compute, info, step)
        for compute in (straight, lambda images: straight(images[:, :, ::-1]))
    ]
    features, labels = {}, {}
    with Arrays(path) as arrays:
        for split in ("train", "val"):
            rows = np.flatnonzero(arrays.copies(split) == 0)
            features[split] = [
                judge.of_arrays(arrays, split, rows, mirror=False).features for judge in views
            ]
            labels[split] = arrays.labels(split)[rows]
    val = np.mean(features["val"], axis=0) if info.mirror else features["val"][0]
    found = {}
    for draw in range(DRAWS):
        held_out = np.random.default_rng(draw).permutation(len(info.classes))[:HELD_OUT]
        train, known = (~np.isin(labels[split], held_out) for split in ("train", "val"))
        X, y = [view[train] for view in features["train"]], labels["train"][train]
        fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_ITERATIONS)
        fitted.fit(np.concatenate(X), np.tile(y, 2))
        head = Head(fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32))
        for name, values in scores(head, X[0], y, val, known).items():
            threshold = np.quantile(values[known], REJECTED)
            figures = auroc(values[known], values[~known]), (values[~known] < threshold).mean()
            found.setdefault(name, []).append(figures)
        print(f"{draw + 1} of {DRAWS} draws", file=sys.stderr)
    return {
        name: dict(zip(("auroc", "rejected"), map(float, np.mean(figures, axis=0)), strict=True))
        for name, figures in found.items()
    }


def pointing(path: Path, model: Path) -> dict[str, float]:
    """Play the grid pointing game (Boehle et al. 2021, arXiv:2104.00032) with heat maps.

    A grid shows four test photographs of different classes, each named rightly with a probability
    of at least CONFIDENT, in 2x2 cells as large as the network's images.

    Returns:
        pointed: the share of grids' photographs in whose cell the map of their class is highest,
        with its 95% interval over the grids, pointed_low to pointed_high; within: the mean share of
        the evidence for a class, above 0, that lies in its cell, which is the game's own figure;
        grids, and the photographs and classes that they were drawn from.
    """
    weights, info = model_file.load_weights(model)
    head = model_file.head_of(weights, info)
    network = Network(weights, info.enlarge_to, many=True)
    random = np.random.default_rng(0)
    with Arrays(path) as arrays:
        labels = arrays.labels("test")
        features = Judge(network, info, images_a_thread(info.side)).of_arrays(arrays, "test")
        probabilities = head.probabilities(features.features)
        sure = (probabilities.argmax(axis=1) == labels) & (probabilities.max(axis=1) >= CONFIDENT)
        classes = np.unique(labels[sure])
        network.enlarge_to *= 2
        pointed, within = [], []
        for number in range(GRIDS):
            four = random.choice(classes, 4, replace=False)
            rows = [random.choice(np.flatnonzero(sure & (labels == label))) for label in four]
            cells = [features.pixels(row) for row in rows]
            grid = np.vstack([np.hstack(cells[:2]), np.hstack(cells[2:])])
            maps = feature_maps(network, grid[None], info.mirror)[0] @ head.kernel[:, four]
            hits, shares = in_cells(maps)
            pointed.append(hits.mean())
            within.append(shares.mean())
            if number % 50 == 49:
                print(f"{number + 1} of {GRIDS} grids", file=sys.stderr)
    means = random.choice(pointed, (2000, GRIDS)).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {
        "pointed": float(np.mean(pointed)), "pointed_low": float(low), "pointed_high": float(high),
        "within": float(np.mean(within)), "grids": GRIDS, "photographs": int(sure.sum()),
        "classes": len(classes),
    }  # fmt: skip


def in_cells(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the four maps of a 2x2 grid are highest in their own cell, and shares in it.

    Args:
        maps: float array (rows, columns, 4), both even; the cells' own maps, row by row.

    Returns:
        bool (4,), and float (4,): the share of what is above 0 that lies in the cell, of nothing 0.
    """
    rows, columns, _ = maps.shape
    cells = maps.reshape(2, rows // 2, 2, columns // 2, 4)
    highest = cells.max(axis=(1, 3)).reshape(4, 4).argmax(axis=0)
    evidence = np.maximum(cells, 0).sum(axis=(1, 3)).reshape(4, 4)
    own = np.arange(4)
    return highest == own, evidence[own, own] / np.maximum(evidence.sum(axis=0), 1e-12)


def scores(
    head: Head, features: np.ndarray, labels: np.ndarray, queries: np.ndarray, known: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the scores of `queries`, higher where a photograph fits what is known.

    Args:
        head: of the classes that are known.
        features: float array (N, features) of training photographs.
        labels: int array (N,), their class numbers.
        queries: float array (M, features) of val.
        known: bool array (M,), which of these are of known classes.
    """
    rows = some_of_each(labels, np.arange(len(labels)), 0)
    fitted = fit_known(head, features[rows], labels[rows], queries[known])
    whole = Head(head.kernel, head.bias, 1.0, fitted)
    logits = head.logits(queries)
    energy = head.energies(queries, np.inf)
    return {
        "maximum probability": softmax(logits).max(axis=1),
        "maximum logit": logits.max(axis=1),
        "energy": energy,
        "ReAct": head.energies(queries, fitted.ceiling),
        "SCALE": head.energies(scaled(queries), np.inf),
        "ViM": energy - residual(head, features, queries),
        "nearest neighbour": nearest(features, queries),
        "Mahalanobis": -mahalanobis(fitted, queries),
        "relative Mahalanobis": -fitted.relative_distances(queries),
        "ReAct, relative Mahalanobis": whole.scores(queries),
    }


def scaled(features: np.ndarray, percentile: float = 85) -> np.ndarray:
    """Scale features by the share of their largest (SCALE, Xu et al. 2024, arXiv:2310.00227)."""
    cut = np.percentile(features, percentile, axis=1, keepdims=True)
    largest = np.where(features >= cut, features, 0).sum(axis=1, keepdims=True)
    return features * np.exp(features.sum(axis=1, keepdims=True) / largest)


def residual(head: Head, features: np.ndarray, queries: np.ndarray, kept: int = 512) -> np.ndarray:
    """Return what of the features lies beside their main directions, in logits (ViM, Wang 2022)."""
    origin = -np.linalg.pinv(head.kernel.T) @ head.bias
    away = features - origin
    _, directions = np.linalg.eigh(away.T @ away)
    beside = directions[:, :-kept]
    scale = head.logits(features).max(axis=1).mean()
    scale /= np.linalg.norm(away @ beside, axis=1).mean()
    return scale * np.linalg.norm((queries - origin) @ beside, axis=1)


def nearest(features: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the cosine to the nearest training photograph (Sun et al. 2022)."""
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, features))
    return (one @ other.T).max(axis=1)


def mahalanobis(known: Known, queries: np.ndarray) -> np.ndarray:
    """Return the distance from the nearest class, in the directions in which classes differ."""
    places = (np.sqrt(queries) - known.centre) @ known.projection
    return ((places[:, None] - known.means) ** 2).sum(axis=2).min(axis=1)


if __name__ == "__main__":
    cli.run(main)
