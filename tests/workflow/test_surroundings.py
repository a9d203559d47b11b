"""A run does not depend on what a user's environment holds: Matplotlib's settings, names, homes and clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake.cli import parse_config

from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.workflow import reproduce
from manet_lib.workflow.reproduce import Progress, snakemake_command

DRAW = """
import sys
if len(sys.argv) > 1:
    import ipykernel
import numpy as np
import matplotlib
from manet_lib.report.style import picture_grid, save_figure
from manet_lib.paths import RunPaths
from pathlib import Path
figure = picture_grid([[np.zeros((9, 9), np.uint8)] * 2], ["$\\\\frac{$", "a$b$c"], ["50% & {more}"])
save_figure(figure, RunPaths(Path("run"), Path("figures")), "names", 60)
print(matplotlib.get_backend())
"""


@pytest.mark.parametrize(("where", "backend"), [((), "agg"), (("notebook",), "inline")])
@pytest.mark.parametrize("asked", ["agg", "svg", ""])
def test_figures_are_drawn_whatever_the_environment_asks_of_matplotlib(
    tmp_path: Path, where: tuple[str, ...], backend: str, asked: str
) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.dpi: 7\n")
    environment = os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    environment |= {"MPLBACKEND": asked} if asked else {}
    done = subprocess.run(
        [sys.executable, "-c", DRAW, *where], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert backend in done.stdout.lower()
    assert all((tmp_path / f"figures/names.{ending}").stat().st_size > 500 for ending in ("png", "pdf", "svg"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30))
def test_any_name_of_a_parameter_file_reaches_snakemake(name: str) -> None:
    file = Path("/params") / f"{name}.yaml"
    command = snakemake_command(file, 2, "", "")
    given_to_snakemake = command[command.index("--config") + 1]
    assert Path(unquote(str(parse_config([given_to_snakemake])["params"]))) == file.resolve()


@pytest.mark.parametrize("home", ["/proc/nohome", "/dev/null/home"])
def test_caches_go_to_the_run_where_there_is_no_home(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reproduce._cache() == {}
    monkeypatch.setenv("HOME", home)
    assert reproduce._cache().keys() == {"XDG_CACHE_HOME"}


def test_a_notebook_counts_as_done_when_its_record_changes_and_not_by_its_time(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, tmp_path)
    record = paths.node_record("01_data")
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    ahead = time.time() + 2 * 86400
    os.utime(record, (ahead, ahead))
    params: Any = Params(profile="x")
    progress = Progress(params, paths, {"01_data": 10.0})
    assert progress.look() == []
    record.write_text(json.dumps({"made": "again"}))
    os.utime(record, (time.time() - 86400,) * 2)
    assert progress.look() == ["01_data"]
