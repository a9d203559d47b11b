"""The command ``manet``: ``predict`` classifies images, ``export`` writes networks, ``info`` describes a file."""

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from PIL import Image

from manet_lib.data.folder import OWN_PICTURE, Found, images_in, read_images
from manet_lib.inference.contact_sheet import is_contact_sheet, write_contact_sheet
from manet_lib.inference.export import EXPORTED, export_onnx
from manet_lib.inference.networks import Networks, is_own, read_header
from manet_lib.inference.outputs import check_folder, check_output, growing_csv, is_stream, text_of
from manet_lib.inference.predict import NOTE, MANet
from manet_lib.inference.release import BATCH, best_trained, known_networks
from manet_lib.params import MODELS, UserError, printable
from manet_lib.report.heat_maps import overview_figure
from manet_lib.report.tables import model_title
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import atomic_path, read_json

_FIRST = "image,label,"
"""How a CSV of this command begins, which distinguishes it from another file."""
_LONGEST = 150
"""Bytes of an image's name in the name of its picture; file systems allow 255 in all."""
_MOST = 1024
"""Images that may go through the networks together."""
_LISTED = 6
"""Images of which a line is printed, so that the command prints ten lines at most; the CSV has all."""


def predict(
    manet: MANet, files: Sequence[Path], batch: int = BATCH, pictures: Path | None = None
) -> Iterator[dict[str, Any]]:
    """What the networks predict for images, one row of the CSV after another, in the order of the files.

    Args:
        manet: the networks.
        files: of the images.
        batch: how many images go through the networks together.
        pictures: folder for a PNG of each image, its lungs and its heat map; None draws none.

    Yields:
        image, label, p_<class>, lung_area, distance, warnings, fault, note; of a file that cannot be read nothing
        but image, fault and note.
    """
    _check_batch(batch)
    read = read_images(files, manet.networks.params.image_size)
    numbered = enumerate(bar(read, len(files), "classifying images", unit="images"))
    while part := list(islice(numbered, batch)):
        images = [image for _, (_, image) in part if not isinstance(image, UserError)]
        answered = iter(_answered(manet, np.stack(images), pictures is not None)) if images else iter(())
        for number, (file, image) in part:
            if isinstance(image, UserError):
                yield _fault(file, str(image))
                continue
            row, mask, heat = next(answered)
            if pictures is not None:
                _draw(image, mask, heat, row, pictures / _picture_name(number, file))
            yield {"image": text_of(file)} | row


def _check_batch(batch: int) -> None:
    if not 1 <= batch <= _MOST:
        raise UserError(f"--batch: {batch}; expected 1 to {_MOST}")


def _fault(file: Path, reason: str) -> dict[str, Any]:
    return {"image": text_of(file), "label": "", "fault": reason, "note": NOTE}


def _picture_name(number: int, file: Path) -> str:
    stem = text_of(Path(file.stem)).encode()[:_LONGEST].decode("utf-8", "ignore")
    return f"{number:05d}_{stem}.png"


def _answered(
    manet: MANet, images: NDArray[np.uint8], drawn: bool
) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_], NDArray[np.float32]]]:
    predictions = manet.classify(images)
    heat = manet.heat_maps(images, predictions) if drawn else np.zeros((len(images), 0), np.float32)
    for number, mask in enumerate(predictions.masks):
        values = zip(manet.classes, predictions.probabilities[number], strict=True)
        row = {
            "label": predictions.labels[number],
            **{f"p_{name}": round(float(value), 6) for name, value in values},
            "lung_area": round(float(mask.mean()), 4),
            "distance": round(float(predictions.distances[number]), 3),
            "warnings": "; ".join(predictions.warnings[number]),
            "fault": "",
            "note": NOTE,
        }
        yield row, mask, heat[number]


def _draw(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], heat: NDArray[np.float32], row: dict[str, Any], path: Path
) -> None:
    nowhere = np.zeros(image.shape, bool)
    figure = overview_figure(image, mask.astype(np.uint8), nowhere, heat, f"Grad-CAM: {row['label']}")
    said = [NOTE, *filter(None, row["warnings"].split("; "))]
    figure.text(0.5, -0.02, "\n".join(said), ha="center", va="top", fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata={"Software": OWN_PICTURE})
    plt.close(figure)


def _predict(options: argparse.Namespace) -> int:
    _check_batch(options.batch)  # before anything is read or written
    found = images_in(options.images)
    _check_outputs(options, found)
    manet = MANet(_networks(options), options.accelerator)
    columns = ["image", "label", *(f"p_{name}" for name in manet.classes)]
    columns += ["lung_area", "distance", "warnings", "fault", "note"]
    rows: list[dict[str, Any]] = []
    with growing_csv(options.output, columns) as add:
        passed_over = (_fault(path, reason) for path, reason in found.passed_over)
        for row in chain(predict(manet, found.images, options.batch, options.pictures), passed_over):
            add(row)
            rows.append(row)
    if options.pictures:
        names = [_picture_name(number, file) for number, file in enumerate(found.images)]
        names += [""] * len(found.passed_over)
        drawn = [(name if row["label"] else "", row) for name, row in zip(names, rows, strict=True)]
        write_contact_sheet(options.pictures, drawn, manet.classes)
    faults = [row["fault"] for row in rows if row["fault"]]
    with redirect_stdout(sys.stderr if is_stream(options.output) else sys.stdout):
        _say(rows, faults, manet, options)
    return 2 if len(faults) == len(rows) else 1 if faults else 0


def _check_outputs(options: argparse.Namespace, found: Found) -> None:
    """Everything that will be written can be, and replaces nothing but what this command wrote."""
    if not is_stream(options.output):
        check_output(options.output, _is_predictions)
    if options.pictures:
        check_folder(options.pictures, "--pictures")
        check_output(options.pictures / "index.html", is_contact_sheet, "--pictures")
        for number, file in enumerate(found.images):
            picture = options.pictures / _picture_name(number, file)
            if picture.exists():
                check_output(picture, _is_own_picture, "--pictures")


def _is_predictions(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith(_FIRST)


def _is_own_picture(path: Path) -> bool:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return picture.info.get("Software") == OWN_PICTURE
    except Exception:  # Pillow raises many kinds for another file
        return False


def _say(rows: list[dict[str, Any]], faults: list[str], manet: MANet, options: argparse.Namespace) -> None:
    for fault in faults:
        print(f"skipped: {printable(fault)}", file=sys.stderr)
    answered = [row for row in rows if not row["fault"]]
    if not answered:
        print("manet: no image could be classified", file=sys.stderr)
        return
    if len(rows) == 1:
        (row,) = answered
        print(f"{row['label']}: " + ", ".join(f"{name} {row[f'p_{name}']:.2f}" for name in manet.classes))
        print(
            f"lung area {row['lung_area']:.2f} of the image, distance {row['distance']:.1f} (1 is a usual image)"
        )
        for warning in filter(None, row["warnings"].split("; ")):
            print(f"warning: {warning}")
    else:
        for row in answered[:_LISTED]:
            said = f", {row['warnings']}" if row["warnings"] else ""
            print(printable(f"{row['image']}: {row['label']} {row['p_' + row['label']]:.2f}{said}"))
        if len(answered) > _LISTED:
            print(f"and {len(answered) - _LISTED} more")
        counts = Counter(row["label"] for row in answered)
        print(", ".join(f"{counts[name]} {name}" for name in manet.classes))
        warned = sum(bool(row["warnings"]) for row in answered)
        print(f"{len(answered)} images classified, {warned} of them with a warning; skipped: {len(faults)}")
    pictures = f", pictures in {options.pictures / 'index.html'}" if options.pictures else ""
    name = model_title(manet.networks.params.models[0])
    print(printable(f"{name}; {NOTE}; {text_of(options.output)}{pictures}"))


def _export(options: argparse.Namespace) -> int:
    output = options.output
    if output.suffix == ".safetensors":
        check_output(output, is_own, "OUTPUT")
        _networks(options).save(output)
        print(f"{output}: both stages and how to use them; MANet.from_file reads it")
        return 0
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; give OUTPUT the name of a folder")
    for name in EXPORTED:
        check_output(output / name, lambda path: _is_export(path.parent), "OUTPUT")
    error = export_onnx(_networks(options), output)
    print(f"{output}: {', '.join(EXPORTED)}; ONNX Runtime differs by at most {error:.0e} of the largest value")
    return 0


def _info(options: argparse.Namespace) -> int:
    if not options.file.is_file():
        raise UserError(f"{options.file}: no such file; `manet export --run runs/NAME {options.file}` makes one")
    header = read_header(options.file)
    if not header:
        raise UserError(f"{options.file}: no weights of both stages in this version's format; see `manet export`")
    settings, usage, data, results = (header[name] for name in ("settings", "usage", "data", "results"))
    accuracy, low, high = results["test accuracy"]
    print(f"{settings['models'][0]} at {settings['image_size']}×{settings['image_size']} pixels")
    print(f"classes: {', '.join(settings['classes'])}")
    print(f"trained on {data['images']['train']} images, source {data['source']}")
    print(f"test accuracy: {accuracy:.3f} ({low:.3f} to {high:.3f}) on {results['test images']} images")
    print(f"temperature {usage['temperature']:.2f}, largest usual distance {usage['farthest']:.2f}")
    print(NOTE)
    return 0


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an export of this command."""
    return "settings" in (read_json(folder / "manet.json") or {})


def _networks(options: argparse.Namespace) -> Networks:
    if options.weights is not None:
        if options.model or options.trial != 1:
            raise UserError("--weights: one file holds one model and trial; leave --model and --trial out")
        return Networks.load(Path(options.weights))
    if options.trial < 1:
        raise UserError(f"--trial: {options.trial}; expected 1 or more")
    return known_networks(options.run, options.model or best_trained(options.run, options.trial), options.trial)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="manet", description=f"MANet on chest radiographs; {NOTE}.")
    parser.add_argument("--version", action="version", version=f"manet {version('manet-companion')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predicting = commands.add_parser("predict", help="classify images", description=predict.__doc__)
    predicting.description = "Classify an image or a folder of images (PNG, JPEG, TIFF, DICOM) and write a CSV."
    predicting.add_argument("images", type=Path, metavar="IMAGE_OR_FOLDER")
    predicting.add_argument(
        "--output", type=Path, default=Path("manet_predictions.csv"), help="the CSV (%(default)s)"
    )
    predicting.add_argument("--pictures", type=Path, help="folder for a picture of each image, lungs and heat map")
    predicting.add_argument(
        "--batch", type=int, default=BATCH, help="images that go through the networks together (%(default)s)"
    )
    predicting.add_argument(
        "--accelerator", default="auto", choices=["auto", "cpu", "cuda"], help="auto: a GPU if there is one"
    )
    predicting.set_defaults(work=_predict)
    exporting = commands.add_parser("export", help="the networks as one file, or as ONNX")
    exporting.description = "Write both stages to OUTPUT: one file NAME.safetensors, or a folder of ONNX graphs."
    exporting.add_argument("output", type=Path, metavar="OUTPUT")
    exporting.set_defaults(work=_export)
    informing = commands.add_parser("info", help="what a file of weights is")
    informing.description = "Print network, classes, training data and test results of a file manet.safetensors."
    informing.add_argument("file", type=Path, metavar="WEIGHTS")
    informing.set_defaults(work=_info)
    for command in (predicting, exporting):
        source = command.add_mutually_exclusive_group(required=True)
        source.add_argument("--run", type=Path, help="folder of a finished run, such as runs/phantoms")
        source.add_argument("--weights", type=Path, help="a file manet.safetensors")
        command.add_argument(
            "--model",
            choices=MODELS,
            help="of the run; if not given, resnet50_ma, else its first with mask attention, else its first",
        )
        command.add_argument("--trial", type=int, default=1, help="which training run of it")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if some files were skipped, 2 if nothing could be done.

    130 after Ctrl-C and 143 after SIGTERM; predictions made before that are kept.
    """
    options = _parser().parse_args(arguments)
    try:
        for name, value in vars(options).items():
            if value == []:  # what argparse makes of `--run=--`
                raise UserError(f"--{name}: `--` is no value; write `./--` for a file of that name")
        return int(options.work(options))
    except UserError as error:
        print(f"manet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "; predictions made before that are kept" if options.work is _predict else ""
        print(f"manet: interrupted{kept}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read what this prints has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not known:
            raise
        way = "; give --batch a smaller number" if options.work is _predict else ""
        print(f"manet: out of memory{way}", file=sys.stderr)
        return 2
    except OSError as error:  # of a name that no file can have
        print(
            f"manet: {printable(str(error.filename))}: {(error.strerror or str(error)).lower()}", file=sys.stderr
        )
        return 2


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def command() -> int:
    """What the installed command ``manet`` runs: :func:`main`, which leaves no temporary files on SIGTERM."""
    signal.signal(signal.SIGTERM, _end)
    return main()


if __name__ == "__main__":
    sys.exit(command())
