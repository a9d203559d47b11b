"""The records of a study: one for each training run, with everything that is needed to compute its numbers again.

``benchmarks/results/studies/NAME.jsonl.gz`` has one line of JSON for each training run. Keys: condition, arm, pair
(0 for the runs that choose a learning rate), seed, trial, learning_rate, log (a list for each of train_loss,
val_loss, val_accuracy, by epoch; empty if the loss diverged), tests (by name: image_id, label and logits with two
decimals), heat_maps (where they are scored: percent in lungs and lesions), classes, seconds, device, precision,
version, torch (of PyTorch; older records lack it), code (a digest of the modules that the training run used) and
settings (a digest of the parameters, the arm and the tests).
"""

import fcntl
import gzip
import json
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from manet_lib.paths import recorded_results

Record = dict[str, Any]
Key = tuple[str, str, int, int, float]


def records_file(name: str) -> Path:
    """Where the records of a study are kept."""
    return recorded_results("studies") / f"{name}.jsonl.gz"


def append(file: Path, record: Record) -> None:
    """Add a record. Several processes may do so at a time; what one that was killed left unfinished is removed."""
    line = gzip.compress(json.dumps(record, separators=(",", ":")).encode() + b"\n", mtime=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.seek(0)
        opened.truncate(_whole(opened.read())[1])
        opened.write(line)


def read(file: Path) -> list[Record]:
    """All records of a file, none where there is no file.

    A last one that was not written whole is left out. Of two records of the same training run, settings and code,
    as two machines may make them, the first counts; so the files of two machines may be joined end to end.
    """
    found: dict[tuple[Key, str, str], Record] = {}
    for line in _whole(file.read_bytes() if file.is_file() else b"")[0].splitlines():
        record = json.loads(line)
        found.setdefault((key_of(record), record["settings"], record["code"]), record)
    return list(found.values())


def _whole(data: bytes) -> tuple[bytes, int]:
    """The text of all gzip members that are whole, and how many bytes they have together."""
    text, end = b"", 0
    while end < len(data):
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(data[end:])
        except zlib.error:
            break
        if not member.eof:
            break
        text, end = text + part, len(data) - len(member.unused_data)
    return text, end


def key_of(record: Record) -> Key:
    """What tells the training runs of a study apart: condition, arm, pair, seed and learning rate."""
    return (record["condition"], record["arm"], record["pair"], record["seed"], record["learning_rate"])


def probabilities_of(record: Record, test: str) -> NDArray[np.float64]:
    """Class probabilities of the images of a test, float (images, classes)."""
    return softmax(np.array(record["tests"][test]["logits"]), axis=1)


def score(record: Record, test: str, quantity: str = "accuracy", images: Collection[str] | None = None) -> float:
    """Accuracy, AUC or another share of a training run on one of its tests, in percent.

    The AUC of two classes is that of the second; that of more is the mean over the classes, each against the rest.

    Args:
        record: of the training run.
        test: which of its tests.
        quantity: `accuracy`, `auc`, `recall CLASS`, or `pneumonias`, the share of images of bacterial and viral
            pneumonia that are taken for the other of the two.
        images: ids of those that count; all, if not given.

    Raises:
        ValueError: there is no such quantity.
    """
    classes, tested = record["classes"], record["tests"][test]
    counts = np.array([images is None or name in images for name in tested["image_id"]])
    actual = np.array([classes.index(label) for label in tested["label"]])[counts]
    probabilities = probabilities_of(record, test)[counts]
    predicted = probabilities.argmax(axis=1)
    if quantity == "accuracy":
        return 100 * float((predicted == actual).mean())
    if quantity.startswith("recall "):
        wanted = classes.index(quantity.removeprefix("recall "))
        return 100 * float((predicted[actual == wanted] == wanted).mean())
    if quantity == "pneumonias":
        pair = [classes.index("bp"), classes.index("vp")]
        chosen = np.isin(actual, pair)
        return 100 * float((np.isin(predicted, pair) & (predicted != actual))[chosen].mean())
    if quantity != "auc":
        raise ValueError(f"quantity: {quantity!r}; expected accuracy, auc, pneumonias or recall and a class")
    if len(classes) == 2:
        return 100 * float(roc_auc_score(actual == 1, probabilities[:, 1]))
    return 100 * float(np.mean([roc_auc_score(actual == one, probabilities[:, one]) for one in set(actual)]))
