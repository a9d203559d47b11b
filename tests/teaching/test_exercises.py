"""Exercises: generated files are current, solutions are right, stubs are not, and checks say what is wrong."""

import ast
import json

import matplotlib
import matplotlib.pyplot as plt
import pytest

from manet_lib.params import UserError
from manet_lib.paths import project_root
from manet_lib.teaching.exercises import STUB, exercise_file, exercise_of, solutions, without_answer
from manet_lib.teaching.verdict import Verdict

SOLUTIONS = solutions()


@pytest.fixture(autouse=True)
def no_window():
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield
    plt.close("all")
    matplotlib.use(backend)


def cells_of(text, kind="code"):
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == kind]


def run(text):
    """Run the code cells of a notebook one after the other; returns the verdicts that its cells end in."""
    names, verdicts = {}, []
    for source in cells_of(text):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
            verdicts += [value] if isinstance(value, Verdict) else []
    return verdicts


def test_there_are_exercises_for_every_notebook_but_the_overview_and_it_links_them():
    notebooks = sorted((project_root() / "notebooks").glob("*.ipynb"))
    assert [path.name for path in SOLUTIONS] == [path.name for path in notebooks if path.name[:2] != "00"]
    for path in notebooks:
        section = "\n".join(cells_of(path.read_text(encoding="utf-8"), "markdown")).split("## Try it")
        if path.name[:2] != "00":
            assert f"](exercises/{path.name})" in section[1], path.name


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
class TestEveryNotebook:
    def test_its_exercises_are_current(self, path):
        assert exercise_file(path).read_text(encoding="utf-8") == exercise_of(path), "run `make exercises`"

    def test_its_exercises_hold_no_answer_and_no_output(self, path):
        text = exercise_file(path).read_text(encoding="utf-8")
        sources = "\n".join(cells_of(text))
        assert sources.count(STUB) == "\n".join(cells_of(path.read_text())).count("# solution\n") >= 3
        assert "# solution" not in sources
        assert "# end of solution" not in sources
        assert all(not cell.get("outputs") for cell in json.loads(text)["cells"])

    def test_solutions_are_right_and_touch_no_run(self, path, output):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("settings(", "RunPaths", "save_figure", "runs/", "figures/"))
        verdicts = run(text)
        assert not output.exists()
        assert [(one.right, one.why) for one in verdicts if not one] == []
        assert len(verdicts) == 3

    def test_stubs_are_not_right_and_are_told_what_to_do(self, path):
        verdicts = run(exercise_of(path))
        assert [one.right for one in verdicts] == [False] * 3
        for one in verdicts:
            assert "stops with" not in one.why
            assert "filled in" in one.why or "returns nothing" in one.why or "is empty" in one.why

    def test_three_exercises_are_graded_and_have_hints(self, path):
        heads = [text for text in cells_of(path.read_text(), "markdown") if text.startswith("## ")]
        assert [head.splitlines()[0].split("(")[-1] for head in heads] == [r"\*)", r"\*\*)", r"\*\*\*)"]
        assert all("*Hint:*" in head for head in heads)


def test_the_answer_is_replaced_where_it_is_indented():
    source = "def f(x):\n    '''Doc.'''\n    # solution\n    y = x\n    return y\n    # end of solution\n\n\nz = 1"
    assert without_answer(source) == f"def f(x):\n    '''Doc.'''\n    {STUB}\n\n\nz = 1"


@pytest.mark.parametrize("start", ["    # solution ", "\t# solution", "    # solution\t"])
def test_blanks_around_a_marker_do_not_matter(start):
    indent = start[: start.index("#")]
    source = f"def f(x):\n{start}\n    return secret\n    # end of solution \nz = 1"
    assert without_answer(source) == f"def f(x):\n{indent}{STUB}\nz = 1"


@pytest.mark.parametrize("source", ["# solution\nx = 1", "# end of solution", "# solution\n# solution\n"])
def test_markers_that_do_not_match_are_refused(source):
    with pytest.raises(UserError, match=r"one\.ipynb: .*end of solution"):
        without_answer(source, "one.ipynb")


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_pictures_of_solutions_say_what_they_show(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert outputs, "it is stored without its outputs"
    for output in outputs:
        if "image/png" in output.get("data", {}):
            assert output["metadata"]["image/png"]["alt"].strip()
