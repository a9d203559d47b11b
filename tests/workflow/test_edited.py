"""An edited run takes over what its edits do not touch, and leaves the first run as it was."""

import hashlib

import numpy as np
import pytest

from manet_lib.data.phantom import write_phantoms
from manet_lib.data.postprocess import clean_masks
from manet_lib.paths import RunPaths
from manet_lib.workflow.edited import reuse
from manet_lib.workflow.steps import all_steps, clean_masks_step


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    return tiny_run.copy_to(tmp_path, monkeypatch)


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def edited(run, **changes):
    params = run.params.model_copy(update={"profile": "edited"} | changes)
    paths = RunPaths.of("edited")
    return params, paths, reuse(params, paths, run.paths)


def test_what_an_edit_does_not_touch_is_done(run):
    params, paths, taken = edited(run, min_object_fraction=0.2)
    assert taken == ["store", "manifest", "segmentation", "raw_masks"]
    for step in all_steps(params, paths):
        assert step.is_done() == (step.folder.name in taken)
    for name in taken:
        assert contents(paths.root / name) == contents(run.paths.root / name)
    assert contents(paths.phantoms) == contents(run.paths.phantoms)
    assert edited(run, min_object_fraction=0.2)[2] == []


def test_work_in_an_edited_run_leaves_the_first_as_it_was(run):
    before = contents(run.paths.root)
    params, paths, _ = edited(run, min_object_fraction=0.99)
    assert clean_masks(params, paths)
    assert not np.load(paths.clean_masks).any()
    assert contents(run.paths.root) == before
    assert clean_masks_step(run.params, run.paths).is_done()


def test_what_an_edit_touches_is_not_taken_over_nor_what_comes_after_it(run):
    assert edited(run, split="patient")[2] == ["store"]


def test_nothing_is_taken_from_a_run_that_is_not_there(run, tmp_path):
    params = run.params.model_copy(update={"profile": "edited"})
    assert reuse(params, RunPaths.of("edited"), RunPaths(tmp_path / "none", tmp_path / "none")) == []


def test_phantoms_that_are_drawn_again_leave_those_of_the_first_run(run):
    params, paths, _ = edited(run)
    before = contents(run.paths.phantoms)
    write_phantoms(paths.phantoms, params.phantom_images, params.phantom_size, params.seed + 1, 1.0)
    assert contents(paths.phantoms) != before
    assert contents(run.paths.phantoms) == before


def test_what_an_interrupted_call_has_begun_is_finished_by_the_next(run, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copy2", interrupted)
        with pytest.raises(KeyboardInterrupt):
            edited(run)
    params, paths, taken = edited(run)
    assert taken[0] == "store"
    assert contents(paths.phantoms) == contents(run.paths.phantoms)
    assert all(step.is_done() for step in all_steps(params, paths) if step.folder.name in taken)
