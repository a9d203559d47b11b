"""What the cells of notebooks call: errors in one line, parameters with their meaning, code as it runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from manet_lib.models.mask_attention import MaskPool, attend
from manet_lib.notebook import need, show_table, source, takes, used
from manet_lib.notebook.cells import MATTERS, PHANTOM_ONLY
from manet_lib.params import Params, load_params
from manet_lib.paths import params_file
from manet_lib.workflow.parameters import READ_BY
from manet_lib.workflow.steps import clean_masks_step, raw_masks_step, store_step


class _Shell(InteractiveShell):
    """Keeps what a notebook would show of an error."""

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        self.shown = stb


def test_a_user_error_is_one_line_and_another_error_keeps_its_traceback() -> None:
    shell = _Shell()
    shell.run_cell("from manet_lib.params import UserError\nraise UserError('seed: mend it so')")
    assert shell.shown == ["UserError: seed: mend it so"]
    shell.run_cell("1 / 0")
    assert len(shell.shown) > 1


def test_need_stops_and_names_the_step_and_the_command(paths: Any, refused: Any) -> None:
    params = load_params(params_file("tiny"))
    with refused("clean_masks", "not been run yet", "make reproduce PARAMS=params/tiny.yaml"):
        need(clean_masks_step(params, paths))


def test_need_lets_go_on_where_all_is_done(tiny_run: Any, refused: Any) -> None:
    done = clean_masks_step(tiny_run.params, tiny_run.paths)
    need(raw_masks_step(tiny_run.params, tiny_run.paths), done)
    changed = tiny_run.params.model_copy(update={"min_object_fraction": 0.5})
    with refused("min_object_fraction", "0.5"):
        need(clean_masks_step(changed, tiny_run.paths))


def test_takes_adds_up_what_was_done_and_names_what_was_not(tiny_run: Any, paths: Any) -> None:
    steps = [store_step(tiny_run.params, tiny_run.paths), clean_masks_step(tiny_run.params, tiny_run.paths)]
    assert takes(*steps).data.startswith("The steps of this notebook took less than a minute (")
    to_do = store_step(tiny_run.params, paths)
    assert takes(steps[1], to_do).data.startswith("Still to be run: store.")


def test_source_is_the_code_without_its_docstring() -> None:
    assert source(attend).data == (
        "```python\ndef attend(features: Tensor, lung_map: Tensor) -> Tensor:\n"
        "    return features.mul_(lung_map)\n```"
    )
    shown = source(MaskPool).data
    assert "class MaskPool(nn.AvgPool2d):" in shown
    assert '"""' not in shown
    assert "ValueError(" in shown


def test_every_step_says_what_matters_and_nothing_that_it_does_not_read() -> None:
    assert MATTERS.keys() == READ_BY.keys()
    for step, names in MATTERS.items():
        assert set(names) <= {*READ_BY[step]}, step
    assert set(PHANTOM_ONLY) <= {*READ_BY["store"]}


@pytest.mark.parametrize("profile", ["phantoms", "cxr_sample"])
def test_some_stand_out_and_the_rest_is_folded(profile: str) -> None:
    params = load_params(params_file(profile))
    first, _, folded = used(params, "store", "manifest").data.partition("<details>")
    shown = [line.split("`")[1] for line in first.splitlines() if line.startswith("| `")]
    assert ("phantom_images" in shown) == (profile == "phantoms")
    assert ("data_dir" in shown) == (profile != "phantoms")
    rest = [line.split("`")[1] for line in folded.splitlines() if line.startswith("| `")]
    assert sorted([*shown, *rest]) == sorted({"profile", *READ_BY["store"], *READ_BY["manifest"]})
    assert f"<summary>{len(rest)} more parameters</summary>" in folded


def test_every_parameter_says_what_it_means() -> None:
    for name, field in Params.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(("rows", "columns", "folded"), [(14, 8, False), (15, 2, True), (2, 9, True)])
def test_large_tables_are_folded_and_written_whole(paths: Any, rows: int, columns: int, folded: bool) -> None:
    table = pd.DataFrame([[f"{row}-{column}" for column in range(columns)] for row in range(rows)])
    text = show_table(table.add_prefix("column "), paths, "large", "A caption.").data
    assert text.startswith("<details><summary>A caption.") == folded
    assert f"{rows - 1}-{columns - 1}" in text
    assert len(pd.read_csv(paths.figures / "large.csv")) == rows
