"""Tables, parameter files, records, weights and names as anybody may have them: the right answer, or one line."""

from __future__ import annotations

import copy
import csv
import io
import json
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from manet_lib.data.listing import read_listing
from manet_lib.data.store import Store, build_store
from manet_lib.models import create_model
from manet_lib.models.pretrained import load_torchvision_weights
from manet_lib.params import Params, UserError, load_params, validate
from manet_lib.paths import RunPaths
from manet_lib.report.tables import _latex, to_markdown
from manet_lib.training.checkpoint import load_checkpoint, save_checkpoint
from manet_lib.workflow.records import read_done

CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
    lambda cell: "\\" not in cell and cell not in (".", "..") and ";" not in cell
)
ENCODINGS = {
    "utf-8": "utf-8",
    "with a mark": "utf-8-sig",
    "utf-16": "utf-16",
    "little": "utf-16-le",
    "big": "utf-16-be",
    "utf-32": "utf-32",
}


def one_line(call: Callable[[], Any]) -> Any:
    """What a call returns; a UserError must be one printable line of a length that a person reads."""
    try:
        return call()
    except UserError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 2000
        return None


def written(rows: list[list[str]], separator: str, end: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    return text.getvalue()


@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(sorted(ENCODINGS)),
    st.booleans(),
)
def test_a_table_is_the_same_however_it_was_saved(
    tmp_path: Path, cells: list[tuple[str, str, str]], separator: str, end: str, encoding: str, told: bool
) -> None:
    rows = [["path", "label", "patient"], *map(list, cells)]
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    plain.write_text(written(rows, ",", "\n"), encoding="utf-8", newline="")
    start = f"sep={separator}{end}" if told else ""
    other.write_bytes((start + written(rows, separator, end)).encode(ENCODINGS[encoding]))
    expected, found = read_listing(plain), read_listing(other)
    assert found.to_numpy().tolist() == expected.to_numpy().tolist()
    assert found.index.tolist() == [line + told for line in expected.index]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_value_error_of_one_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "any.csv"
    file.write_bytes(data)
    try:
        assert isinstance(read_listing(file, tmp_path), pd.DataFrame)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_accents_are_found_however_they_are_composed(tmp_path: Path, on_disk: Any, in_table: Any) -> None:
    name = unicodedata.normalize(on_disk, "Müller/Röntgen.png")
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    listed = unicodedata.normalize(in_table, "Müller/Röntgen.png")
    (tmp_path / "index.csv").write_text(f"path,label\n{listed},sick\n", encoding="utf-8")
    assert read_listing(tmp_path / "index.csv", tmp_path)["path"].tolist() == [name]


@given(st.text(max_size=60))
def test_any_message_is_one_printable_line(text: str) -> None:
    said = str(UserError(text))
    assert said.isprintable()
    if text.isprintable():
        assert said == text


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*Params.model_fields, "unknown"]), NESTED, max_size=4))
def test_any_values_are_parameters_or_one_line(values: dict[str, Any]) -> None:
    one_line(lambda: validate({"profile": "x"} | values, "mine.yaml"))


@given(st.integers(2, 30), st.integers(1, 9), st.booleans())
def test_lists_of_lists_by_name_are_refused_at_once(tmp_path: Path, depth: int, width: int, known: bool) -> None:
    levels = ["&a0 [x]"] + [f"&a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    file = tmp_path / "bomb.yaml"
    file.write_text(f"profile: x\n{'classes' if known else 'other'}: [{', '.join(levels)}]\n")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"\*a0 repeats a list or mapping; write it out"):
        load_params(file)
    assert time.monotonic() - began < 5
    deep: Any = ["x"]
    for _ in range(depth):
        deep = [deep] * width
    with pytest.raises(UserError) as caught:  # as a notebook could inject it
        validate({"profile": "x", "classes": deep}, "here")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("value", ["no", "yes", "2024-01-01", "1", "1.5", "null"])
def test_what_yaml_does_not_read_as_text_is_to_be_quoted(tmp_path: Path, value: str) -> None:
    assert not isinstance(yaml.safe_load(value), str)
    (tmp_path / "a.yaml").write_text(f"profile: x\ndata_source: manifest\nclasses: [{value}, sick]\n")
    with pytest.raises(UserError, match="quote it"):
        load_params(tmp_path / "a.yaml")


DONE = {
    "parameters": {"seed": 0},
    "inputs": {"a": "0"},
    "outputs": {"a": {"sha256": "0", "bytes": 1}},
    "code": {"m": "0"},
    "versions": {"torch": "2"},
    "device": "cpu",
    "seconds": 1.0,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(DONE)), JSON, st.booleans(), st.booleans())
def test_a_damaged_record_is_no_record(tmp_path: Path, part: str, value: Any, absent: bool, inner: bool) -> None:
    record: dict[str, Any] = copy.deepcopy(DONE)
    (tmp_path / "done.json").write_text(json.dumps(record))
    assert read_done(tmp_path) == DONE
    if inner and part == "outputs":
        record["outputs"]["a"] = value
    elif absent:
        del record[part]
    else:
        record[part] = value
    (tmp_path / "done.json").write_text(json.dumps(record))
    found = read_done(tmp_path)
    assert found is None or all(type(found[name]) is type(DONE[name]) or name == "seconds" for name in DONE)
    if absent and not (inner and part == "outputs"):
        assert found is None


@given(st.sampled_from(["parameters", "inputs", "code", ""]), JSON)
def test_a_damaged_checkpoint_key_is_a_damaged_checkpoint(tmp_path: Path, part: str, value: Any) -> None:
    key: dict[str, Any] = {"parameters": {}, "inputs": {}, "code": {}}
    damaged = value if not part else key | {part: value}
    save_checkpoint(tmp_path, 1, {"key": json.dumps(damaged)})
    found = load_checkpoint(tmp_path, key)
    if found is not None:  # a name that nothing has says nothing if its value is null
        theirs = json.loads(found["key"])
        assert {name: {k: v for k, v in one.items() if v is not None} for name, one in theirs.items()} == key


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return create_model("resnet34", 1000).state_dict()


def tensors(shape: torch.Size) -> dict[str, torch.Tensor]:
    ones = torch.ones(shape)
    return {
        "sparse": ones.to_sparse(),
        "meta": ones.to("meta"),
        "complex": ones.to(torch.complex64),
        "bool": ones.bool(),
        "not finite": ones * torch.nan,
        "quantised": torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8),
        "no dimension": torch.tensor(1.0),
        "five dimensions": torch.ones(1, 1, 1, 1, 1),
        "empty": torch.ones(0),
    }


@pytest.fixture(scope="module")
def unchanged() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A network, and a copy of its weights."""
    model = create_model("resnet34")
    return model, {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"])
@pytest.mark.parametrize("kind", sorted(tensors(torch.Size([1]))))
def test_weights_of_another_kind_are_one_line_and_change_nothing(
    tmp_path: Path,
    whole: dict[str, torch.Tensor],
    unchanged: tuple[torch.nn.Module, dict[str, torch.Tensor]],
    name: str,
    kind: str,
) -> None:
    torch.save(whole | {name: tensors(whole[name].shape)[kind]}, tmp_path / "weights.pth")
    model, before = unchanged
    with pytest.raises(UserError, match=r"^pretrained: weights.pth: ") as caught:
        load_torchvision_weights(model, tmp_path / "weights.pth")
    assert name in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@given(st.lists(st.text(st.characters(exclude_categories=["C"]), max_size=8), min_size=1, max_size=4, unique=True))
def test_names_do_not_break_tables(names: list[str]) -> None:
    table = pd.DataFrame([names], columns=names)
    for line in to_markdown(table).splitlines():
        assert line.replace(r"\|", "").count("|") == len(names) + 1
    for name in names:
        bare = _latex(name)
        for sign in "%_&#${}":
            assert bare.count(f"\\{sign}") >= name.count(sign)
        assert not set("^~|") & set(bare.replace(r"\textasciicircum{}", ""))


LUNGS = np.zeros((40, 40), bool)
LUNGS[8:32, 6:16] = LUNGS[8:32, 24:34] = True


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_masks_are_refused_where_most_are_inverted(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, inverted: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("masks")
    rows = []
    for number, dark in enumerate(inverted):
        grey = np.random.default_rng(number).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
        Image.fromarray((LUNGS ^ dark).astype(np.uint8) * 255).save(folder / f"mask{number}.png")
        rows.append((f"{number}.png", ("healthy", "sick")[number % 2], f"mask{number}.png"))
    rows += [("0.png", "sick", "")] if len(rows) == 1 else []
    pd.DataFrame(rows, columns=["path", "label", "mask_path"]).drop_duplicates("path").to_csv(
        folder / "index.csv", index=False
    )
    known = {label for _, label, _ in rows[: len(inverted)]}
    if len(known) < 2:
        return
    own: dict[str, Any] = {"data_source": "manifest", "data_dir": str(folder), "classes": ["healthy", "sick"]}
    params = Params(profile="own", image_size=64, models=["resnet34"], **own)
    paths = RunPaths(folder / "run", folder / "figures")
    if 2 * sum(inverted) > len(inverted):
        with pytest.raises(
            UserError, match=rf"mask_path: {sum(inverted)} of {len(inverted)} masks .* mask_lungs: dark"
        ):
            build_store(params, paths)
        params = params.model_copy(update={"mask_lungs": "dark" if all(inverted) else "bright"})
    build_store(params, paths)
    store = Store.open(paths.store)
    for mask, dark in zip(store.masks, inverted, strict=True):
        shown = dark and params.mask_lungs != "dark"
        assert mask[2, 2] == shown
