"""The command on folders as people have them: broken files, other files, pictures, and what it leaves alone."""

import io
import json
import os
import re
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from manet_lib.cli import main
from manet_lib.data.folder import images_in, read_images
from manet_lib.data.phantom import write_phantoms
from manet_lib.inference.networks import Networks, read_header
from manet_lib.inference.predict import MANet
from manet_lib.inference.release import released
from manet_lib.params import UserError
from manet_lib.training.classification import train_classifier


@pytest.fixture(scope="module")
def weights(tiny_run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run.copy_to(tmp_path_factory.mktemp("cli"), patch)
    train_classifier(run.params, run.paths, "resnet34_ma", 1)
    return released(run.paths.root, "resnet34_ma", 1)


@pytest.fixture
def folder(tmp_path):
    write_phantoms(tmp_path / "images", 10, 80, seed=5, confounder_strength=0)
    return tmp_path / "images" / "images"


def predict(weights, images, output, *more):
    return main(["predict", str(images), "--weights", str(weights), "--output", str(output), *map(str, more)])


@pytest.mark.parametrize("option", ["--run", "--weights", "--output", "--pictures"])
def test_a_value_of_two_dashes_is_one_line(option, capsys):
    where = [] if option in ("--run", "--weights") else ["--run", "x"]
    assert main(["predict", ".", f"{option}=--", *where]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_of_weights_says_what_it_is(weights, tmp_path, capsys):
    assert main(["info", str(weights)]) == 0
    said, header = capsys.readouterr().out, read_header(weights)
    for part in ("resnet34_ma", "64×64", "covid19", f"{header['results']['test accuracy'][0]:.3f}"):
        assert part in said
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"no weights")
    assert main(["info", str(other)]) == 2
    assert str(other) in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0


def test_every_image_of_a_folder_is_answered_as_alone_whatever_the_batch(weights, folder, tmp_path, capsys):
    tables = []
    for batch in (1, 3, 16):
        assert predict(weights, folder, tmp_path / f"{batch}.csv", "--batch", batch) == 0
        tables.append(pd.read_csv(tmp_path / f"{batch}.csv"))
    assert "10 images classified" in capsys.readouterr().out
    table, manet = tables[0], MANet.from_file(weights)
    for other in tables[1:]:
        pd.testing.assert_frame_equal(table, other, atol=2e-5)
    assert table["image"].tolist() == [str(path) for path in sorted(folder.iterdir())]
    for row in table.to_dict("records")[::4]:
        alone = manet.predict(row["image"])
        assert row["label"] == alone.label
        assert row["note"] == "research software, no diagnosis"
        for name, value in alone.probabilities.items():
            assert row[f"p_{name}"] == pytest.approx(value, abs=1e-5)


def test_broken_files_are_listed_and_passed_over_and_the_exit_code_says_so(weights, folder, tmp_path, capsys):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    assert predict(weights, folder, tmp_path / "out.csv") == 1
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert len(table) == 12
    faults = table[table["fault"] != ""]
    assert sorted(Path(image).name for image in faults["image"]) == ["broken.png", "empty.dcm"]
    assert (faults["label"] == "").all()
    assert table.loc[table["fault"] == "", "label"].isin(MANet.from_file(weights).classes).all()
    said = capsys.readouterr()
    assert "10 images classified" in said.out
    assert "skipped: 2" in said.out
    assert all(name in said.err for name in ("broken.png", "empty.dcm"))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n and nothing more"])
def test_where_nothing_can_be_classified_the_exit_code_is_2(weights, tmp_path, capsys, content):
    (tmp_path / "broken.png").write_bytes(content)
    assert predict(weights, tmp_path / "broken.png", tmp_path / "out.csv") == 2
    said = capsys.readouterr()
    assert "broken.png" in said.err
    assert said.out == ""


def test_one_image_is_answered_in_words_and_drawn(weights, folder, tmp_path, capsys):
    image = sorted(folder.iterdir())[0]
    assert predict(weights, image, tmp_path / "out.csv", "--pictures", tmp_path / "pictures") == 0
    said = capsys.readouterr().out
    assert MANet.from_file(weights).predict(image).label in said
    assert "no diagnosis" in said
    (picture,) = (tmp_path / "pictures").glob("*.png")
    assert picture.name == f"00000_{image.stem}.png"
    with Image.open(picture) as opened:
        assert opened.width > 600
        assert np.asarray(opened.convert("L")).std() > 20


def test_a_photograph_is_answered_with_a_warning(weights, tmp_path, capsys):
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(tmp_path / "person.jpg")
    assert predict(weights, tmp_path / "person.jpg", tmp_path / "out.csv") == 0
    (warnings,) = pd.read_csv(tmp_path / "out.csv")["warnings"]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    whole = MANet.from_file(weights).predict(tmp_path / "person.jpg").warnings
    assert told == [f"warning: {warning}" for warning in whole], "a warning is not cut in two"
    assert warnings == "; ".join(whole)


def test_other_files_are_left_alone_and_own_ones_are_replaced(weights, folder, tmp_path, capsys):
    listing = tmp_path / "images" / "index.csv"
    before = listing.read_bytes()
    assert predict(weights, folder, listing) == 2
    assert "index.csv: was not written by this command and is left alone" in capsys.readouterr().err
    assert listing.read_bytes() == before
    image = sorted(folder.iterdir())[0]
    assert predict(weights, image, tmp_path / "out.csv") == predict(weights, folder, tmp_path / "out.csv") == 0
    assert len(pd.read_csv(tmp_path / "out.csv")) == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "nowhere", "--weights", "w"], "nowhere: no such file or folder"),
        (["predict", ".", "--weights", "w"], "no image in it"),
        (["predict", "image.png", "--weights", "w"], "w: no such file"),
        (["predict", "image.png", "--run", "nowhere"], "nowhere: no such folder; `make reproduce`"),
        (["predict", "image.png", "--run", "."], "no network is trained in trial 1"),
        (["export", "out", "--weights", "w", "--trial", "2"], "leave --model and --trial out"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if arguments[1] == "image.png":
        Image.fromarray(np.zeros((9, 9), np.uint8)).save("image.png")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_pictures_may_lie_among_the_images(weights, folder, tmp_path):
    for _ in range(2):
        assert predict(weights, folder, tmp_path / "out.csv", "--pictures", folder) == 0
    assert len(pd.read_csv(tmp_path / "out.csv")) == 10


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_lack_of_memory_is_one_line(weights, folder, tmp_path, monkeypatch, capsys, kind):
    def greedy(*_):
        raise kind("out of memory")

    monkeypatch.setattr(MANet, "classify", greedy)
    assert predict(weights, folder, tmp_path / "out.csv") == 2
    assert capsys.readouterr().err == "manet: out of memory; give --batch a smaller number\n"
    monkeypatch.setattr(Networks, "save", greedy)
    assert main(["export", str(tmp_path / "out.safetensors"), "--weights", str(weights)]) == 2
    assert capsys.readouterr().err == "manet: out of memory\n"  # export has no --batch


def test_a_file_of_another_version_is_replaced(weights, tmp_path, capsys):
    old = tmp_path / "old.safetensors"
    save_file({"x": torch.zeros(1)}, old, metadata={"format": "manet 1"})
    assert main(["info", str(old)]) == 2
    assert main(["export", str(old), "--weights", str(weights)]) == 0
    assert read_header(old) == read_header(weights)


@pytest.mark.parametrize("error", [1.0, float("nan")])
def test_graphs_that_compute_something_else_are_not_kept(weights, tmp_path, monkeypatch, capsys, error):
    monkeypatch.setattr("manet_lib.inference.export._NEEDED", ())
    monkeypatch.setattr("manet_lib.inference.export._write", lambda *given: given[-1].write_text("graph"))
    monkeypatch.setattr("manet_lib.inference.export._error", lambda *_: error)
    assert main(["export", str(tmp_path / "out"), "--weights", str(weights)]) == 2
    assert f"ONNX Runtime is off by {error:.1e} of the largest value; not kept" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_run_is_exported_and_used_where_it_is_not(weights, folder, tmp_path, capsys):
    run = weights.parents[2]
    assert main(["export", str(tmp_path / "taken.safetensors"), "--run", str(run)]) == 0
    assert read_header(tmp_path / "taken.safetensors") == read_header(weights)
    assert predict(tmp_path / "taken.safetensors", folder, tmp_path / "out.csv") == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_graphs_give_the_predictions_of_the_command(weights, folder, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "onnx"
    assert main(["export", str(out), "--weights", str(weights)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["classifier.onnx", "manet.json", "segmenter.onnx"]
    assert json.loads((out / "manet.json").read_text())["settings"]["models"] == ["resnet34_ma"]
    networks = Networks.load(weights)
    images = np.stack([image for _, image in read_images(images_in(folder).images, networks.params.image_size)])
    expected = networks.run(images)
    stage_1, stage_2 = (onnxruntime.InferenceSession(out / f"{name}.onnx") for name in ("segmenter", "classifier"))
    unit = images[:, None] / 255
    low, high = (getattr(unit, name)(axis=(1, 2, 3), keepdims=True) for name in ("min", "max"))
    unit = ((unit - low) / (high - low)).astype(np.float32)
    lungs, features = stage_1.run(None, {"image": unit})
    np.testing.assert_allclose(features, expected.features, atol=1e-3 * np.abs(expected.features).max())
    assert ((lungs[:, 0] > 0) == expected.masks).mean() > 0.95
    given, mask = networks.shown(images, expected.masks)
    (logits,) = stage_2.run(None, {"image": given.numpy(), "mask": mask.numpy()})
    np.testing.assert_allclose(logits, expected.logits, atol=1e-3)


def test_images_are_read_in_order_and_each_fault_stays_with_its_file(folder):
    files = sorted(folder.iterdir()) * 9
    files[50] = folder / "nowhere.png"
    read = list(read_images(files, 32))
    assert [path for path, _ in read] == files
    assert [number for number, (_, image) in enumerate(read) if isinstance(image, UserError)] == [50]
    np.testing.assert_array_equal(read[0][1], read[10][1])


@pytest.mark.parametrize("batch", ["0", "-3", "100000000000000000000"])
def test_a_batch_that_cannot_be_is_refused_before_anything_is_read(weights, folder, tmp_path, capsys, batch):
    assert predict(weights, folder, tmp_path / "out.csv", "--batch", batch) == 2
    assert "expected 1 to 1024" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_an_image_is_never_replaced(weights, folder, tmp_path):
    image = sorted(folder.iterdir())[0]
    before = image.read_bytes()
    assert predict(weights, folder, image) == 2
    assert main(["export", str(image), "--weights", str(weights)]) == 2
    (tmp_path / "notes.safetensors").write_text("mine")
    assert main(["export", str(tmp_path / "notes.safetensors"), "--weights", str(weights)]) == 2
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    mine = pictures / f"00000_{image.stem}.png"
    mine.write_bytes(before)
    assert predict(weights, folder, tmp_path / "out.csv", "--pictures", pictures) == 2
    assert image.read_bytes() == mine.read_bytes() == before
    assert (tmp_path / "notes.safetensors").read_text() == "mine"
    assert not (tmp_path / "out.csv").exists()


def test_own_pictures_are_not_answered_and_names_of_any_kind_are(weights, folder, tmp_path, monkeypatch, capsys):
    images = sorted(folder.iterdir())
    for image in images[3:]:
        image.unlink()
    images[0].rename(folder / os.fsdecode(b"r\xf6ntgen.png"))
    images[1].rename(folder / ("n" * 240 + ".png"))
    monkeypatch.chdir(folder)
    for _ in range(2):
        assert predict(weights, ".", tmp_path / "out.csv", "--pictures", "predictions") == 0
    table = pd.read_csv(tmp_path / "out.csv")
    assert len(table) == len(list((folder / "predictions").glob("*.png"))) == 3
    page = (folder / "predictions" / "index.html").read_text()
    links = {unquote(link) for link in re.findall(r'<img src="([^"]+)"', page)}
    assert links == {picture.name for picture in (folder / "predictions").glob("*.png")}
    assert "r\\xf6ntgen.png" in set(table["image"])


def test_a_page_shows_every_picture_and_every_fault_and_replaces_no_other_page(weights, folder, tmp_path, capsys):
    (folder / "<b>broken.png").write_bytes(b"no image")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    pictures = tmp_path / "pictures"
    assert predict(weights, folder, tmp_path / "out.csv", "--pictures", pictures) == 1
    assert len(capsys.readouterr().out.splitlines()) <= 10
    table, page = pd.read_csv(tmp_path / "out.csv", keep_default_na=False), (pictures / "index.html").read_text()
    assert page.count("<tr") == len(table) + 1
    assert page.count('class="warned"') == (table["warnings"] != "").sum() > 0
    assert page.count("<img ") == (table["fault"] == "").sum()
    assert "&lt;b&gt;broken.png" in page
    assert "<b>broken" not in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    (pictures / "index.html").write_text("mine")
    assert predict(weights, folder, tmp_path / "other.csv", "--pictures", pictures) == 2
    assert (pictures / "index.html").read_text() == "mine"


def test_what_was_answered_before_an_interruption_is_kept(weights, folder, tmp_path, monkeypatch, capsys):
    whole = MANet.classify
    calls = []

    def interrupted(self, images):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, images)

    monkeypatch.setattr(MANet, "classify", interrupted)
    assert predict(weights, folder, tmp_path / "out.csv", "--batch", 2) == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert len(pd.read_csv(tmp_path / "out.csv")) == 4


def test_a_run_that_cannot_be_written_is_used_all_the_same(weights, folder, tmp_path, monkeypatch, capsys):
    run = weights.parents[2]
    before = weights.read_bytes()
    weights.unlink()

    def refused(*_):
        raise UserError("manet.safetensors: cannot be written: read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Networks, "save", refused)
        assert main(["predict", str(folder), "--run", str(run), "--output", str(tmp_path / "out.csv")]) == 0
    weights.write_bytes(before)
    assert len(pd.read_csv(tmp_path / "out.csv")) == 10
    out, err = capsys.readouterr()
    assert "computed again next time" in err
    assert "next time" not in out


WORDS = st.text(st.characters(exclude_characters="/\0"), max_size=300) | st.sampled_from(
    [
        ".",
        "..",
        "/",
        "/dev/null",
        "/proc/1/mem",
        "images",
        "images/0.png",
        "table.csv",
        "-",
        "--",
        "a/b/c",
        "~",
        "*",
    ]
)
NUMBERS = st.integers().map(str) | st.sampled_from(["", "1e3", "nan", "0x10", "٣", "1_000"])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "--output": WORDS,
        "--pictures": WORDS,
        "--batch": NUMBERS,
        "--trial": NUMBERS,
        "--model": WORDS,
        "--accelerator": WORDS,
        "--weights": WORDS,
        "--run": WORDS,
    },
)


@given(command=st.sampled_from(["predict", "export"]), place=WORDS, options=OPTIONS)
def test_any_arguments_without_networks_end_in_a_line_and_change_nothing(
    command, place, options, tmp_path_factory
):
    """Nothing here is a file of weights or a finished run, so that all that can happen is a refusal."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "images").mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / "images/0.png")
    (folder / "table.csv").write_text("path,label\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = io.StringIO()
    here = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            code = main([command, place, *(f"{name}={value}" for name, value in options.items())])
        assert said.getvalue().count("\n") == 1
    except SystemExit as error:  # from argparse, which prints how it is used
        code = error.code
        assert code == 0 or "manet" in said.getvalue()
    finally:
        os.chdir(here)
    assert code in (0, 2)
    assert {path: path.read_bytes() for path in before} == before


def started(weights, images, output, *more):
    command = [
        Path(sys.executable).with_name("manet"),
        "predict",
        images,
        "--weights",
        weights,
        "--output",
        output,
    ]
    return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sigterm_leaves_whole_rows_and_no_temporary_file(weights, folder, tmp_path):
    image = sorted(folder.iterdir())[0].read_bytes()
    for number in range(1500):
        (folder / f"more{number:04d}.png").write_bytes(image)
    output = tmp_path / "out.csv"
    process = started(weights, folder, output, "--batch", "1")
    deadline = time.monotonic() + 120
    while not output.is_file() or output.read_text().count("\n") < 5:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert 4 <= len(pd.read_csv(output)) < 1510
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_closed_pipe_is_no_traceback(weights, folder, tmp_path):
    process = started(weights, folder, tmp_path / "out.csv")
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) in (0, 1)
    assert "Traceback" not in said
    assert len(pd.read_csv(tmp_path / "out.csv")) == 10
