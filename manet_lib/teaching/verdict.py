"""The verdict of a check on an answer: right or not yet, and why. A wrong answer never raises."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer of a check; true where the exercise is solved.

    Attributes:
        right: whether it is.
        why: one or two sentences.
    """

    right: bool
    why: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'Right' if self.right else 'Not yet'}: {self.why}"

    def _repr_markdown_(self) -> str:
        return f"**{'Right' if self.right else 'Not yet'}:** {self.why}"


class NotYet(Exception):
    """Says why an answer is not right; :func:`check` turns it into a verdict."""


def check(judge: Callable[..., str]) -> Callable[..., Verdict]:
    """Make a check of a function that returns why an answer is right, or raises :class:`NotYet`.

    Whatever else an answer raises, such as a student's function that stops, becomes a verdict as well.
    """

    @wraps(judge)
    def judged(*answers: Any) -> Verdict:
        if any(_untouched(answer) for answer in answers):
            return Verdict(False, "nothing is filled in yet: replace the `...` by your code.")
        try:
            return Verdict(True, judge(*answers))
        except NotYet as reason:
            return Verdict(False, str(reason))
        except Exception as error:
            text = " ".join(str(error).split())
            return Verdict(False, f"your answer stops with {type(error).__name__}: {text}")

    return judged


def _untouched(answer: object) -> bool:
    if isinstance(answer, list | tuple | set):
        return any(_untouched(part) for part in answer)
    return answer is ...


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a student's function returns; arrays, tensors and tables are copied, so that it cannot change them.

    Raises:
        NotYet: it is no function, or returns nothing.
    """
    if not callable(function):
        raise NotYet(f"a function is asked for, and this is of type {type(function).__name__}.")
    given = function(*(_copied(part) for part in arguments))
    if given is None or given is ...:
        name = getattr(function, "__name__", "it")
        raise NotYet(f"your function `{name}` returns nothing yet: end it with `return` and your result.")
    return given


def _copied(part: Any) -> Any:
    if isinstance(part, np.ndarray | pd.DataFrame):
        return part.copy()
    return part.clone() if isinstance(part, torch.Tensor) else part


def number(function: Callable[..., Any], *arguments: Any) -> float:
    """The finite number that a student's function returns.

    Raises:
        NotYet: see :func:`ask`; or it is not finite.
    """
    found = float(ask(function, *arguments))
    if not np.isfinite(found):
        name = getattr(function, "__name__", "it")
        raise NotYet(f"your function `{name}` gives {found}, which is not a finite number.")
    return found


def numbers(answer: Any, names: Sequence[str]) -> list[float]:
    """The numbers of an answer, one for each name.

    Raises:
        NotYet: there are more or fewer.
        ValueError: one is no number; :func:`check` makes a verdict of it, as of a TypeError.
    """
    values = list(np.asarray(answer, dtype=float).ravel())
    if len(values) != len(names):
        raise NotYet(f"{len(names)} numbers are asked for ({', '.join(names)}), and these are {len(values)}.")
    return [float(value) for value in values]


def picture(answer: Any, shape: tuple[int, ...], what: str, why: str = "") -> NDArray[Any]:
    """An answer as an array of a shape.

    Args:
        answer: array, tensor or nested list.
        shape: that is expected.
        what: the answer is called, such as `map`.
        why: it has this shape; ends the sentence.

    Raises:
        NotYet: it has another shape.
    """
    found = np.asarray(answer)
    if found.shape != shape:
        raise NotYet(f"the shape of your {what} is {found.shape}, and it should be {shape}{why}.")
    return found


def refuse(found: Any, wanted: Any, mistakes: Mapping[str, Any], say: str = "", tolerance: float = 1e-3) -> None:
    """Raise NotYet if an answer is what a mistake gives, by its reason, unless that is right as well."""
    for reason, value in mistakes.items():
        if close(found, value, tolerance) and not close(value, wanted, tolerance):
            raise NotYet(f"{say}{reason}.")


def close(one: Any, other: Any, tolerance: float = 1e-3) -> bool:
    """Whether numbers or arrays agree within rounding to the third digit."""
    return bool(np.allclose(one, other, rtol=0, atol=tolerance))
