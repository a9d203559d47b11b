"""The command ``manet``: films in, answers out (``predict``), and networks to take elsewhere (``export``)."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from manet_lib.artifacts import atomic_path
from manet_lib.data.folder import films_in, read_films
from manet_lib.export import export_onnx
from manet_lib.params import MODELS, UserError
from manet_lib.predict import NOTE, Answers, MANet
from manet_lib.progress import bar
from manet_lib.release import BATCH, best_trained, released
from manet_lib.report.figures import overview_figure

_FIRST = "film,label,"
"""How a CSV of this command begins, by which it is told from another file."""


def predict(
    manet: MANet, files: Sequence[Path], batch: int = BATCH, pictures: Path | None = None
) -> Iterator[dict[str, Any]]:
    """What the networks say of films, one row of the CSV after another, in the order of the files.

    Args:
        manet: the networks.
        files: of the films.
        batch: how many films go through the networks together.
        pictures: folder for a PNG of each film, its lungs and its heat map; None draws none.

    Yields:
        film, label, p_<class>, lung_area, distance, warnings, fault, note; of a file that cannot be read nothing
        but film, fault and note.
    """
    read = read_films(files, manet.networks.params.image_size)
    numbered = enumerate(bar(read, len(files), "classifying films", unit="films"))
    while part := list(islice(numbered, batch)):
        films = [film for _, (_, film) in part if not isinstance(film, UserError)]
        answered = iter(_answered(manet, np.stack(films), pictures is not None)) if films else iter(())
        for number, (file, film) in part:
            if isinstance(film, UserError):
                yield {"film": str(file), "label": "", "fault": str(film), "note": NOTE}
                continue
            row, mask, heat = next(answered)
            if pictures is not None:
                _draw(film, mask, heat, row, pictures / f"{number:05d}_{file.stem}.png")
            yield {"film": str(file)} | row


def _answered(
    manet: MANet, films: NDArray[np.uint8], drawn: bool
) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_], NDArray[np.float32]]]:
    answers = manet.classify(films)
    heat = manet.heat_maps(films, answers) if drawn else np.zeros((len(films), 0), np.float32)
    for number, mask in enumerate(answers.masks):
        yield _row(manet.classes, answers, number), mask, heat[number]


def _row(classes: list[str], answers: Answers, number: int) -> dict[str, Any]:
    values = zip(classes, answers.probabilities[number], strict=True)
    return {
        "label": answers.labels[number],
        **{f"p_{name}": round(float(value), 6) for name, value in values},
        "lung_area": round(float(answers.masks[number].mean()), 4),
        "distance": round(float(answers.distances[number]), 3),
        "warnings": "; ".join(answers.warnings[number]),
        "fault": "",
        "note": NOTE,
    }


def _draw(
    film: NDArray[np.uint8], mask: NDArray[np.bool_], heat: NDArray[np.float32], row: dict[str, Any], path: Path
) -> None:
    nowhere = np.zeros(film.shape, bool)
    figure = overview_figure(film, mask.astype(np.uint8), nowhere, heat, f"attention: {row['label']}")
    said = [NOTE, *filter(None, row["warnings"].split("; "))]
    figure.text(0.5, -0.02, "\n".join(said), ha="center", va="top", fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")
    plt.close(figure)


def _predict(options: argparse.Namespace) -> int:
    files = films_in(options.films)
    _check_is_ours(options.output)
    manet = MANet.from_file(_weights(options), options.accelerator)
    rows: list[dict[str, Any]] = []
    try:
        for row in predict(manet, files, options.batch, options.pictures):
            rows.append(row)  # what was answered before an interruption is kept
    finally:
        if rows:
            with atomic_path(options.output) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)
    faults = [row["fault"] for row in rows if row["fault"]]
    _say(rows, faults, manet, options)
    return 1 if faults else 0


def _check_is_ours(output: Path) -> None:
    try:
        with output.open(encoding="utf-8", errors="replace") as file:
            start = file.readline()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{output}: {error.strerror}; give --output another name") from None
    if not start.startswith(_FIRST):
        raise UserError(f"{output}: is another file and is left alone; give --output another name")


def _say(rows: list[dict[str, Any]], faults: list[str], manet: MANet, options: argparse.Namespace) -> None:
    for fault in faults:
        print(f"passed over: {fault}", file=sys.stderr)
    answered = [row for row in rows if not row["fault"]]
    if len(rows) == 1 and answered:
        (row,) = answered
        print(f"{row['label']}: " + ", ".join(f"{name} {row[f'p_{name}']:.2f}" for name in manet.classes))
        print(f"lung area {row['lung_area']:.2f} of the film, distance {row['distance']:.1f} (1 is a usual film)")
        for warning in filter(None, row["warnings"].split("; ")):
            print(f"warning: {warning}")
    else:
        counts = Counter(row["label"] for row in answered)
        print(", ".join(f"{counts[name]} {name}" for name in manet.classes))
        warned = sum(bool(row["warnings"]) for row in answered)
        print(f"{len(answered)} films answered, {warned} of them with a warning; {len(faults)} files passed over")
    print(f"{NOTE}; {options.output}" + (f", pictures in {options.pictures}" if options.pictures else ""))


def _export(options: argparse.Namespace) -> int:
    weights = _weights(options)
    if options.output.suffix == ".safetensors":
        with atomic_path(options.output) as temporary:
            shutil.copyfile(weights, temporary)
        print(f"{options.output}: both stages and how to use them; MANet.from_file reads it")
    else:
        error = export_onnx(weights, options.output)
        print(f"{options.output}: segmenter.onnx, classifier.onnx, manet.json; ONNX Runtime is within {error:.0e}")
    return 0


def _weights(options: argparse.Namespace) -> Path:
    if options.weights is not None:
        if options.model or options.trial != 1:
            raise UserError("--weights: one file holds one model and trial; leave --model and --trial out")
        return Path(options.weights)
    return released(options.run, options.model or best_trained(options.run, options.trial), options.trial)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="manet", description=f"MANet on chest films; {NOTE}.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predicting = commands.add_parser("predict", help="what the networks say of films", description=predict.__doc__)
    predicting.description = "Classify a film or a folder of films (PNG, JPEG, TIFF, DICOM) and write a CSV."
    predicting.add_argument("films", type=Path, metavar="FILM_OR_FOLDER")
    predicting.add_argument(
        "--output", type=Path, default=Path("manet_predictions.csv"), help="the CSV (%(default)s)"
    )
    predicting.add_argument("--pictures", type=Path, help="folder for a picture of each film, lungs and heat map")
    predicting.add_argument(
        "--batch", type=int, default=BATCH, help="films that go through the networks together (%(default)s)"
    )
    predicting.add_argument(
        "--accelerator", default="auto", choices=["auto", "cpu", "cuda"], help="auto: a GPU if there is one"
    )
    predicting.set_defaults(work=_predict)
    exporting = commands.add_parser("export", help="the networks as one file, or as ONNX")
    exporting.description = "Write both stages to OUTPUT: one file NAME.safetensors, or a folder of ONNX graphs."
    exporting.add_argument("output", type=Path, metavar="OUTPUT")
    exporting.set_defaults(work=_export)
    for command in (predicting, exporting):
        source = command.add_mutually_exclusive_group(required=True)
        source.add_argument("--run", type=Path, help="folder of a finished run, such as runs/phantoms")
        source.add_argument("--weights", type=Path, help="a file manet.safetensors")
        command.add_argument("--model", choices=MODELS, help="of the run; ResNet50(MA) if it is there")
        command.add_argument("--trial", type=int, default=1, help="which training of it")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if files were passed over, 2 where nothing could be done."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.work(options))
    except UserError as error:
        print(f"manet: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
