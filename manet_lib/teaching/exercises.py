"""Exercises from their solutions: ``python -m manet_lib.teaching.exercises`` writes ``notebooks/exercises/``.

A solution is a notebook in ``notebooks/solutions/``. In its code cells the lines from ``# solution`` to
``# end of solution`` are the answer; in the exercise one line that invites to write it stands in their place.
"""

import json
import re
from pathlib import Path
from typing import Any

from manet_lib.params import UserError
from manet_lib.paths import project_root
from manet_lib.workflow.records import write_text

START, END = "# solution", "# end of solution"
STUB = "...  # your code"
_ANSWER = re.compile(rf"^([ \t]*){START}[ \t]*\n.*?^[ \t]*{END}[ \t]*$", re.MULTILINE | re.DOTALL)


def solutions() -> list[Path]:
    """All solutions, in the order of the notebooks that they belong to."""
    return sorted((project_root() / "notebooks" / "solutions").glob("*.ipynb"))


def exercise_file(solution: Path) -> Path:
    """Where the exercise of a solution is written."""
    return solution.parents[1] / "exercises" / solution.name


def without_answer(source: str, name: str = "cell") -> str:
    """The code of a cell with its answer taken out.

    Args:
        source: of the cell.
        name: of the notebook, for the error.

    Raises:
        UserError: the two markers do not alternate.
    """
    marks = [line.strip() for line in source.splitlines() if line.strip() in (START, END)]
    if marks != [START, END] * (len(marks) // 2):
        raise UserError(f"{name}: each {START!r} needs one {END!r} after it")
    return _ANSWER.sub(rf"\1{STUB}", source)


def exercise_of(solution: Path) -> str:
    """The text of the notebook that a student gets: no answers and no outputs.

    Raises:
        UserError: the markers of a cell do not alternate.
    """
    notebook: dict[str, Any] = json.loads(solution.read_text(encoding="utf-8"))
    title = notebook["cells"][0]["source"]
    title[0] = title[0].replace("# Solutions", "# Exercises")
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = without_answer("".join(cell["source"]), solution.name)
            cell["source"] = source.splitlines(keepends=True)
            cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].pop("execution", None)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for solution in solutions():
        write_text(exercise_file(solution), exercise_of(solution))
    print(f"{len(solutions())} notebooks in notebooks/exercises/")
