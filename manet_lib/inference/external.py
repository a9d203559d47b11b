"""A run's networks on images from elsewhere: ``python -m manet_lib.inference.external RUN FOLDER``.

RUN is a folder ``runs/<profile>``, FOLDER holds ``index.csv`` with columns path and label (and patient, if known).
The predictions are written to a CSV; accuracy, calibration and how far the images are from the training images are
printed. This is research software; none of its predictions is a diagnosis.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from manet_lib.cli import predict
from manet_lib.data.listing import read_listing
from manet_lib.evaluation.scores import brier_interval, calibration_by_chance, calibration_values
from manet_lib.evaluation.statistics import share_interval
from manet_lib.inference.outputs import check_output
from manet_lib.inference.predict import MANet
from manet_lib.params import UserError
from manet_lib.report.tables import to_markdown, with_interval
from manet_lib.workflow.records import write_csv


def predictions(
    run: Path, folder: Path, csv_name: str = "index.csv", model: str = "resnet50_ma", trial: int = 1
) -> pd.DataFrame:
    """What the networks of a run predict for images on which they were not trained.

    Args:
        run: a folder ``runs/<profile>``.
        folder: holds the CSV and the images.
        csv_name: the CSV's name inside the folder: columns path and label, and patient if it is known.
        model: one of the classifiers that the run trained.
        trial: which training run of it.

    Returns:
        One row per image: path, label, patient, predicted, p_<class> (calibrated), lung_area (share of the image),
        distance from the training images (1 at the median of the validation images) and warnings (such as an
        out-of-distribution image).

    Raises:
        UserError: the run has no such training run, the CSV cannot be used, a label is none of the run's classes,
            or files cannot be read, all of them named.
    """
    manet = MANet.from_run(run, model, trial)
    table = _listed(folder, csv_name, manet.classes)
    found = pd.DataFrame(predict(manet, [folder / name for name in table["path"]]))
    faults = found.loc[found["fault"] != "", "fault"].tolist()
    if faults:
        raise UserError(f"{len(faults)} files cannot be used: {'; '.join(faults)}")
    said = found.drop(columns=["image", "fault", "note"]).rename(columns={"label": "predicted"})
    return pd.concat([table, said], axis=1)


def _listed(folder: Path, csv_name: str, classes: list[str]) -> pd.DataFrame:
    try:
        table = read_listing(folder / csv_name, folder)
    except (OSError, ValueError) as error:
        raise UserError(f"{csv_name}: cannot be used: {' '.join(str(error).split())}") from None
    missing = [name for name in ("path", "label") if name not in table]
    if missing:
        raise UserError(f"{csv_name}: has no column {missing[0]!r}, only {', '.join(table.columns)}; rename one")
    if table.empty:
        raise UserError(f"{csv_name}: lists no image; add a line for each")
    twice = table.loc[table["path"].duplicated(), "path"]
    if len(twice):
        raise UserError(f"{csv_name}: lists {twice.iloc[0]} twice; keep one line of it")
    unknown = sorted(set(table["label"]) - set(classes))
    if unknown:
        raise UserError(
            f"{csv_name}: label {unknown[0]!r} is none of the run's classes {', '.join(classes)}; rename it"
        )
    patients = table["patient"] if "patient" in table else table["path"]
    patients = patients.where(patients != "", table["path"])
    return table[["path", "label"]].assign(patient=patients).reset_index(drop=True)


def summary(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Accuracy, calibration and distance of images from elsewhere, with 95% intervals over patients.

    Args:
        table: from :func:`predictions`.
        classes: of the run.
    """
    probabilities = table[[f"p_{name}" for name in classes]].to_numpy(float)
    actual = table["label"].to_numpy()[:, None] == np.array(classes)
    right = (table["label"] == table["predicted"]).to_numpy()[None]
    confidence = probabilities.max(axis=1)[None]
    patients = table["patient"].tolist()
    bounds = {
        "Accuracy": share_interval(right, patients),
        "Brier score": brier_interval(actual, probabilities[None], patients),
    }
    shown = {"Images": f"{len(table)}"} | {name: with_interval(*one, ".2f") for name, one in bounds.items()}
    shown |= {
        "Calibration error": f"{calibration_values(confidence, right).mean():.2f}",
        "Calibration error of true probabilities, 95th percentile": f"{calibration_by_chance(confidence):.2f}",
        "With a warning": f"{100 * (table['warnings'] != '').mean():.0f}%",
        "No lungs found": f"{int((table['lung_area'] == 0).sum())}",
    }
    return pd.DataFrame(shown.items(), columns=["", "External images"])


def _is_own(path: Path) -> bool:
    """Whether a file is a table of this command."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith("path,label,patient,predicted,")


def main(arguments: list[str] | None = None) -> None:
    """Print the summary of a folder of images and write what the networks predict for each."""
    parser = argparse.ArgumentParser(description="A run's networks on images from elsewhere; no diagnosis.")
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/phantoms")
    parser.add_argument("folder", type=Path, help="holds the images and a CSV with columns path and label")
    parser.add_argument("--csv", default="index.csv", help="name of the CSV")
    parser.add_argument("--model", default="resnet50_ma", help="which classifier of the run")
    parser.add_argument("--trial", type=int, default=1, help="which training run of it")
    parser.add_argument("--output", type=Path, default=Path("external.csv"), help="where the predictions go")
    options = parser.parse_args(arguments)
    try:
        check_output(options.output, _is_own)
        table = predictions(options.run, options.folder, options.csv, options.model, options.trial)
        write_csv(options.output, table, "%.6f")
    except UserError as error:
        sys.exit(str(error))
    classes = [name.removeprefix("p_") for name in table if name.startswith("p_")]
    print(to_markdown(summary(table, classes)))
    print(f"predictions for every image: {options.output}; research software, no diagnosis")


if __name__ == "__main__":
    main()
