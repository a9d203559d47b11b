"""A whole run with its progress: ``python -m manet_lib.workflow.reproduce FILE``, which `make reproduce` calls.

Snakemake runs the notebooks, and what it prints goes to a log file. This module says how many steps there are,
about how long they take on this machine, how far they are, and at the end what came out.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar
from urllib.parse import quote

from manet_lib.params import Params, UserError, load_params
from manet_lib.paths import RunPaths, log_of, output_root, project_root
from manet_lib.workflow.digests import stamp
from manet_lib.workflow.graph import stale
from manet_lib.workflow.processes import die_with_parent
from manet_lib.workflow.records import claimed

Result = TypeVar("Result")

_TRUST = 0.1
"""Share of the estimate that counts as if it had been observed already, when the time left is corrected."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        params: of the run.
        paths: of the run.
        expected: seconds of each notebook, from :func:`manet_lib.workflow.estimates.estimates`.
        started: when the run began, in seconds since the epoch.
        done: notebooks that have been executed.
    """

    params: Params
    paths: RunPaths
    expected: Mapping[str, float]
    started: float = field(default_factory=time.time)
    done: list[str] = field(default_factory=list)
    before: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        files = (file for name in self.expected for file in (self.paths.node_record(name), *self._markers(name)))
        self.before = {file: stamp(file.parent, file.name) for file in files}

    def look(self) -> list[str]:
        """Notebooks that have been executed since the last look."""
        new = [
            name for name in self.expected if name not in self.done and self._is_new(self.paths.node_record(name))
        ]
        self.done += new
        return new

    @property
    def share(self) -> float:
        """How much of the expected time is done, in [0, 1]; a training run counts by its epochs."""
        total = sum(self.expected.values())
        part = sum(self.expected[name] for name in self.done)
        part += sum(
            self.expected[name] * 0.9 * self._epochs(name) for name in self.expected if name not in self.done
        )
        return part / total if total else 1.0

    def _epochs(self, name: str) -> float:
        """Share of its epochs that a training run has finished."""
        log = self._markers(name)[-1]
        if not name.startswith(("02_segmentation", "04_classification")) or not self._is_new(log):
            return 0.0
        epochs = self.params.seg_epochs if name.startswith("02") else self.params.epochs
        return min(1.0, (len(log.read_text().splitlines()) - 1) / epochs)

    @property
    def left(self) -> float:
        """Seconds that are left: the estimate, corrected by how long the part that is done took."""
        total, share = sum(self.expected.values()), self.share
        elapsed = time.time() - self.started
        return (1 - share) * total * (elapsed + _TRUST * total) / ((share + _TRUST) * total or 1.0)

    def __str__(self) -> str:
        open_ones = (name for name in self.expected if name not in self.done)
        running = [name for name in open_ones if self._is_new(self._markers(name)[0])]
        now = f"; running {', '.join(running)}" if running else ""
        elapsed = in_minutes(time.time() - self.started)
        steps = f"{len(self.done)} of {len(self.expected)} steps"
        return f"{steps}, {elapsed} elapsed, about {in_minutes(self.left)} left{now}"

    def _markers(self, name: str) -> tuple[Path, Path]:
        """The notebook while it is executed, and the log of its training run."""
        folder = self.paths.root / "classification" / name.partition("-")[2]
        folder = folder if name.startswith("04_classification") else self.paths.segmentation
        return self.paths.executed(name).with_suffix(".part.ipynb"), log_of(folder)

    def _is_new(self, file: Path) -> bool:
        """Whether a file has been written since the run began; clocks of file systems may differ from this one."""
        return stamp(file.parent, file.name) not in ("-", self.before[file])  # "-" where there is none


def in_minutes(seconds: float) -> str:
    """A duration in words, such as `2 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def show(progress: Progress, process: subprocess.Popen[bytes]) -> None:
    """Show how far a run is until its process ends: one line in a terminal, a line for each notebook elsewhere.

    Elsewhere than in a terminal a line is printed at least once a minute.
    """
    live, said = sys.stdout.isatty(), time.monotonic()
    while True:
        ended = process.poll() is not None
        for name in progress.look():
            if not live:
                print(f"{name} done: {progress}", flush=True)
                said = time.monotonic()
        if not live and not ended and time.monotonic() > said + 60:
            print(progress, flush=True)
            said = time.monotonic()
        if live:
            line = str(progress)[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="\n" if ended else "", flush=True)
        if ended:
            return
        time.sleep(0.5)


def reasons(log: str, names: list[str]) -> Iterator[str]:
    """The lines of a log that say why notebooks failed; where none does, its last lines."""
    said = [line for line in log.splitlines() if line.startswith(tuple(f"{name}: " for name in names))]
    lines = said or [line for line in log.splitlines() if line.strip()][-3:]
    yield from dict.fromkeys(re.sub(r"\s+", " ", line) for line in lines)


def snakemake_command(params_file: Path, cores: int, gpus: str, data_only: bool) -> list[str]:
    """What runs the notebooks. Snakemake's lock is left out: the Snakefile says why."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project_root() / "Snakefile")]
    command += ["--directory", str(project_root()), "--cores", str(cores), "--nolock"]
    command += ["--rerun-incomplete", "--keep-going", *(["--until", "data"] if data_only else [])]
    command += ["--config", f"params={quote(str(params_file.resolve()))}"]
    return command + ([f"gpus={gpus}"] if gpus else [])


def apart(work: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a process of its own, which gives its memory back: this one stays small during a run."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _estimate(params: Params, paths: RunPaths, names: tuple[str, ...]) -> tuple[dict[str, float], float, float]:
    from manet_lib.workflow.estimates import estimate

    return estimate(params, paths, names)


def _closing_lines(params: Params, paths: RunPaths) -> list[str]:
    from manet_lib.report.agreement import closing_lines

    return list(closing_lines(params, paths))


def reproduce(params_file: Path, cores: int, gpus: str = "", data_only: bool = False) -> int:
    """Run all notebooks of a parameter file, or that of the data alone, and say how far they are.

    Returns:
        The exit status.
    """
    params = load_params(params_file)
    paths = RunPaths.of(params.profile)
    why = {name: fault for name, fault in stale(params, paths) if not data_only or name == "01_data"}
    if not why:
        steps = "the data" if data_only else "every step"
        print(f"Nothing to do: {steps} of {params.profile} is done.")
        return 0
    with claimed(paths.root):  # else it is said now that another process is at work there, not after the estimate
        pass
    seconds, operations, images_per_second = apart(_estimate, params, paths, tuple(why))
    print(
        f"{len(why)} steps, about {in_minutes(sum(seconds.values()))} on this machine, where ResNet50 trains at "
        f"{images_per_second:.1f} images a second (128 pixels, fp32); training takes {operations / 1e12:.0f}·10¹²"
        " operations",
        flush=True,
    )
    log = paths.root / "reproduce.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(params, paths, seconds)
    with log.open("wb") as file:
        process = subprocess.Popen(
            snakemake_command(params_file, cores, gpus, data_only),
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
            env=os.environ | _cache(),
        )
        _pass_on_signals(process)
        show(progress, process)
    if process.returncode:
        missing = [name for name in why if name not in progress.done]
        for line in reasons(log.read_text(encoding="utf-8", errors="replace"), missing):
            print(line, file=sys.stderr)
        where = log.relative_to(output_root())
        print(f"{len(progress.done)} of {len(why)} steps done; the log is {where}", file=sys.stderr)
    return process.returncode


def _cache() -> dict[str, str]:
    """A folder for Snakemake's and Matplotlib's caches where the user's home cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK):
            return {}
    except OSError:
        pass
    return {"XDG_CACHE_HOME": str(output_root() / ".cache")}


def _pass_on_signals(process: subprocess.Popen[bytes]) -> None:
    """Have SIGTERM and SIGHUP end the notebooks first; Ctrl-C reaches them by itself."""

    def end(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: None)


def main(arguments: list[str] | None = None) -> None:
    """Run the parameter file of a command line."""
    parser = argparse.ArgumentParser(
        description="Run all notebooks of a parameter file, and say how far they are."
    )
    parser.add_argument("params", type=Path)
    parser.add_argument("--cores", type=int, default=2, help="processor cores to use")
    parser.add_argument("--gpus", default="", help="how many GPUs to use; all, if not given")
    parser.add_argument("--data", action="store_true", help="prepare the data only")
    options = parser.parse_args(arguments)
    started = time.time()
    try:
        status = reproduce(options.params, options.cores, options.gpus, options.data)
        if status == 0 and not options.data:
            params = load_params(options.params)
            for line in apart(_closing_lines, params, RunPaths.of(params.profile)):
                print(line)
            print(f"That took {in_minutes(time.time() - started)}.")
    except UserError as error:
        sys.exit(str(error))
    sys.exit(status)


if __name__ == "__main__":
    main()
