from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manet_lib.data.seeds import stable_hash
from manet_lib.params import Params, load_params
from manet_lib.paths import RunPaths, done_of, project_root
from manet_lib.workflow.digests import sha256_of
from manet_lib.workflow.parameters import READ_BY
from manet_lib.workflow.records import (
    Step,
    atomic_path,
    claimed,
    new_array,
    read_done,
    read_table,
    save_settings,
    write_json,
    write_text,
)

NO_EFFECT = {
    *("accelerator", "num_workers", "threads", "download", "mirror", "restarts", "timeout_minutes"),
    *("checkpoint_minutes", "old_code"),
}


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(project_root())} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestAtomicPath:
    def test_appears_only_when_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "a.csv"
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert temporary.suffix == ".csv"  # numpy and matplotlib go by the ending
            assert not path.exists()
        assert path.read_text() == "half"
        assert _names(path.parent) == ["a.csv"]

    def test_error_leaves_the_old_file_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:  # noqa: PT012
            temporary.write_text("new")
            _ = 1 / 0
        assert path.read_text() == "old"
        assert _names(tmp_path) == ["a.txt"]

    def test_interrupt_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a.txt") as temporary:  # noqa: PT012
            temporary.write_text("new")
            raise KeyboardInterrupt
        assert _names(tmp_path) == []

    def test_full_disk_is_one_line(self, tmp_path: Path, refused: Any) -> None:
        with refused("a.txt", "No space left on device"), atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert _names(tmp_path) == []

    def test_limit_of_the_file_size(self, tmp_path: Path) -> None:
        # A real failure of write(2), in the middle of a file.
        path = tmp_path / "a.txt"
        path.write_text("old")
        result = _python(
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from manet_lib.workflow.records import write_text\n"
            "from manet_lib.params import UserError\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
            "try:\n"
            f"    write_text(Path({str(path)!r}), 'x' * 1_000_000)\n"
            "except UserError as error:\n"
            "    print(error)\n"
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == "a.txt: cannot be written: File too large; check space and permissions"
        assert path.read_text() == "old"
        assert _names(tmp_path) == ["a.txt"]

    def test_folder_that_cannot_be_made_is_one_line(self, tmp_path: Path, refused: Any) -> None:
        (tmp_path / "file").write_text("")
        with refused("a.txt"), atomic_path(tmp_path / "file" / "a.txt"):
            pass

    def test_text_and_json_survive(self, tmp_path: Path) -> None:
        write_text(tmp_path / "a.txt", "Größe 512×512\n")
        assert (tmp_path / "a.txt").read_bytes().decode("utf-8") == "Größe 512×512\n"
        write_json(tmp_path / "a.json", {"a": [1, 2.5, None]})
        assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5, None]}


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestStableHash:
    def test_is_the_same_in_every_process(self) -> None:
        here = [stable_hash("split", 0), stable_hash(1, 2, "image"), stable_hash()]
        code = "from manet_lib.data.seeds import stable_hash as h; print([h('split', 0), h(1, 2, 'image'), h()])"
        for seed in ("0", "1"):
            assert json.loads(_python(code, PYTHONHASHSEED=seed).stdout) == here

    def test_tells_parts_apart(self) -> None:
        assert (
            len({stable_hash("ab", "c"), stable_hash("a", "bc"), stable_hash("abc"), stable_hash("c", "ab")}) == 4
        )

    def test_spreads_over_32_bits(self) -> None:
        values = [stable_hash(0, 1, epoch, f"image{image}") for epoch in range(20) for image in range(500)]
        assert len(set(values)) > 9990  # the birthday problem allows about 0.01 collisions
        assert 0 <= min(values) < 2**20 * 10
        assert 2**32 - 2**20 * 10 < max(values) < 2**32
        for bit in range(32):
            assert abs(sum(value >> bit & 1 for value in values) / 10_000 - 0.5) < 0.03


@pytest.fixture
def steps(tmp_path: Path) -> Callable[[Params], tuple[Step, Step]]:
    """A step `store`, and a step `clean_masks` that reads from it."""

    def make(params: Params) -> tuple[Step, Step]:
        one, two = tmp_path / "one", tmp_path / "two"
        written = [one / "a.txt", one / "deep" / "b.txt"]
        return (
            store := Step("store", one, params, [], written, ("manet_lib.data.store",)),
            Step(
                "clean_masks",
                two,
                params,
                [store],
                [two / "c.txt"],
                ("manet_lib.data.postprocess",),
                (("trial", 1),),
            ),
        )

    return make


def _work(step: Step, text: str = "result") -> Callable[[], None]:
    def work() -> None:
        for path in step.outputs:
            write_text(path, text)

    return work


def _run(pair: tuple[Step, Step]) -> None:
    for step in pair:
        step.run(_work(step))


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return value[:-1]
    if value == "rerun":
        return "keep"
    if isinstance(value, dict):
        return {"resnet34": 1.0}
    return f"{value}x" if isinstance(value, str) else value + 1


class TestStep:
    def test_runs_once(self, steps: Any) -> None:
        first, second = steps(Params(profile="x"))
        assert first.run(_work(first))
        assert second.run(_work(second))
        for step in (first, second):
            assert step.is_done()
            assert not step.run(lambda: pytest.fail("was done already"))

    @pytest.mark.parametrize("name", Params.model_fields)
    def test_redone_only_for_parameters_that_it_reads(self, steps: Any, name: str) -> None:
        params = Params(profile="x")
        _run(steps(params))
        changed = params.model_copy(update={name: _other(getattr(params, name))})
        read: set[str] = set()
        for step in steps(changed):
            read |= {*READ_BY[step.name]} - NO_EFFECT  # of the step and of those before it
            assert step.is_done() != (name in read)

    def test_another_parameter_before_it_is_named(self, steps: Any, refused: Any) -> None:
        _run(steps(Params(profile="x")))
        second = steps(Params(profile="x", image_size=256))[1]
        with refused("one: was made with image_size: 512, which is 256 now", "make reproduce"):
            second.run(lambda: pytest.fail("its input is of another size"))

    def test_redone_for_another_extra_value(self, steps: Any) -> None:
        _run(steps(Params(profile="x")))
        second = steps(Params(profile="x"))[1]
        other = replace(second, extra=(("trial", 2),))
        assert second.is_done()
        assert not other.is_done()

    def test_redone_when_its_input_changed(self, steps: Any) -> None:
        first, second = pair = steps(Params(profile="x"))
        _run(pair)
        first.complete(first.begin(), "cpu", 0.0)  # once more, with the same result
        assert second.is_done()
        _work(first, "RESULT")()  # of the same length: the hash tells
        first.complete(first.begin(), "cpu", 0.0)
        assert first.is_done()
        assert not second.is_done()

    @pytest.mark.parametrize("damage", ["remove", "truncate", "append"])
    def test_redone_when_an_output_is_damaged(self, steps: Any, damage: str) -> None:
        first, _ = pair = steps(Params(profile="x"))
        _run(pair)
        victim = first.outputs[1]
        if damage == "remove":
            victim.unlink()
        else:
            victim.write_text("resul" if damage == "truncate" else "results")
        assert not first.is_done()

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"outputs": {}}'])
    def test_redone_when_its_record_is_damaged(self, steps: Any, text: str) -> None:
        first, _ = pair = steps(Params(profile="x"))
        _run(pair)
        done_of(first.folder).write_text(text)
        assert not first.is_done()

    def test_not_done_while_it_runs_nor_after_an_error(self, steps: Any) -> None:
        first, _ = steps(Params(profile="x"))
        first.run(_work(first))
        other, _ = steps(Params(profile="x", seed=1))

        def fail() -> None:
            assert read_done(other.folder) is None
            _work(other)()
            raise RuntimeError("power cut")

        with pytest.raises(RuntimeError, match="power cut"):
            other.run(fail)
        assert not first.is_done()  # its files may be overwritten by now
        assert not other.is_done()

    def test_input_that_is_not_there_is_one_line(self, steps: Any, refused: Any) -> None:
        _, second = steps(Params(profile="x"))
        with refused("one", "make reproduce"):
            second.run(_work(second))

    def test_redone_when_what_it_depends_on_outside_changed(self, steps: Any) -> None:
        first, second = pair = steps(Params(profile="x"))
        _run(pair)
        listed = replace(first, outside=lambda: {"listing": "abc"})
        assert "store" not in (listed.fault() or "")
        assert listed.fault() == "one: was made with listing: None, which is 'abc' now"
        assert replace(second, inputs=[listed]).fault() == listed.fault(), "the cause, not what follows from it"

    def test_redone_for_newer_code_unless_that_is_to_be_kept(self, steps: Any) -> None:
        first, second = pair = steps(Params(profile="x"))
        _run(pair)
        done = done_of(second.folder)
        record = json.loads(done.read_text())
        assert "manet_lib.data.store" not in record["code"], "it is the code of a step before, whose output counts"
        record["code"]["manet_lib.data.postprocess"] = "of yesterday"
        done.write_text(json.dumps(record))
        assert second.fault() == "two: was made by an earlier version of manet_lib.data.postprocess"
        kept = steps(Params(profile="x", old_code="keep"))[1]
        assert kept.is_done()
        assert kept.outdated_code() == ["manet_lib.data.postprocess"]
        assert first.outdated_code() == []

    def test_a_folder_in_use_is_left_alone(self, steps: Any, refused: Any) -> None:
        first, _ = steps(Params(profile="x"))
        with claimed(first.folder), refused("one: another process is at work there", f"process {os.getpid()}"):
            first.run(lambda: pytest.fail("somebody else is writing there"))
        assert first.run(_work(first))

    def test_who_waits_for_a_claim_gets_it_when_it_is_free(self, tmp_path: Path) -> None:
        held, free = threading.Event(), threading.Event()

        def hold() -> None:
            with claimed(tmp_path / "run"):
                held.set()
                time.sleep(0.3)
                free.set()

        threading.Thread(target=hold).start()
        assert held.wait(10)
        with claimed(tmp_path / "run", wait=True):
            assert free.is_set()

    def test_a_claim_ends_with_its_process(self, tmp_path: Path) -> None:
        code = (
            "import os, signal; from pathlib import Path; from manet_lib.workflow.records import claimed; "
            f"claimed(Path({str(tmp_path / 'run')!r})).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert _python(code).returncode == -9
        with claimed(tmp_path / "run"):
            pass

    def test_record_says_what_it_was_made_from(self, steps: Any) -> None:
        first, second = pair = steps(Params(profile="x"))
        _run(pair)
        record = json.loads(done_of(second.folder).read_text())
        assert record["step"] == "clean_masks"
        assert record["parameters"] == {"min_object_fraction": 0.01, "trial": 1}
        assert record["inputs"] == {
            "one/a.txt": sha256_of(first.outputs[0]),
            "one/deep/b.txt": sha256_of(first.outputs[1]),
        }
        assert record["outputs"]["c.txt"] == {"sha256": sha256_of(second.outputs[0]), "bytes": 6}
        assert record["device"] == "cpu"
        assert record["seconds"] >= 0
        assert {"python", "torch", "numpy", "albumentations"} <= set(record["versions"])


def test_settings_of_a_run_can_be_loaded_again(paths: RunPaths) -> None:
    params = Params(
        profile="x", learning_rate=1e-4, seg_weight_decay=1e-7, classes=["a", "b"], data_source="manifest"
    )
    save_settings(params, paths)
    assert load_params(paths.settings) == params
    before = paths.settings.stat().st_mtime_ns
    save_settings(params, paths)
    assert paths.settings.stat().st_mtime_ns == before


def test_names_are_text_and_missing_numbers_are_not(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("image_id,label,patient,share\n01,NA,,0.5\n1,none,p,\n")
    table = read_table(file)
    assert table["image_id"].tolist() == ["01", "1"]
    assert table["label"].tolist() == ["NA", "none"]
    assert table["patient"].tolist() == ["", "p"]
    assert table["share"].isna().tolist() == [False, True]
    assert table["share"].sum() == 0.5


def test_a_new_array_has_its_space_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    array = new_array(tmp_path / "a.npy", (300, 100, 100))
    state = (tmp_path / "a.npy").stat()
    assert state.st_blocks * 512 >= state.st_size > array.nbytes
    assert not np.load(tmp_path / "a.npy").any()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        refused("b.npy: cannot be written: No space left on device"),
        atomic_path(tmp_path / "b.npy") as temporary,
    ):
        new_array(temporary, (3, 3))
    assert _names(tmp_path) == ["a.npy"]

    def unknown(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    assert new_array(tmp_path / "c.npy", (3, 3)).shape == (3, 3)
