"""Two networks compared on the same images in the same trials: image by image, not by overlapping intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from manet_lib.evaluation.statistics import crossed_interval


@dataclass(frozen=True)
class Comparison:
    """A network beside another.

    Attributes:
        difference: accuracy of the first minus that of the second, in [-1, 1], over images and trials.
        low: lower bound of its 95% interval over patients and trials.
        high: upper bound.
        only_first: images that the first alone classifies correctly, of each trial.
        only_second: images that the second alone classifies correctly, of each trial.
        p_values: exact McNemar test of each trial, two-sided.
        trials_won: share of the trials in which the first is better; a tie counts half.
        false_claim: probability that the claim that the better of the two is better is wrong, from the first
            trial; see :func:`false_claim`.
    """

    difference: float
    low: float
    high: float
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]
    p_values: tuple[float, ...]
    trials_won: float
    false_claim: float

    @property
    def bounds(self) -> tuple[float, float, float]:
        """The difference and its interval."""
        return self.difference, self.low, self.high


def compare(
    first: NDArray[np.bool_], second: NDArray[np.bool_], patients: Sequence[object] | None = None
) -> Comparison:
    """Compare two networks in pairs.

    Args:
        first: which images the first network classifies correctly in each trial, bool (trials, images).
        second: the same of the second, of the same shape and in the same order.
        patients: of each image; images of a patient are drawn together.
    """
    only_first, only_second = (first & ~second).sum(axis=1).tolist(), (second & ~first).sum(axis=1).tolist()
    ahead = np.sign(np.subtract(only_first, only_second))
    return Comparison(
        *crossed_interval(first.astype(float) - second.astype(float), patients),
        tuple(only_first),
        tuple(only_second),
        tuple(map(mcnemar_p, only_first, only_second)),
        float((ahead + 1).mean() / 2),
        false_claim(only_first[0], only_second[0]),
    )


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test: how often discordant images lie so unevenly if both are equally good."""
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue)


def false_claim(only_first: int, only_second: int) -> float:
    """Probability that the network that looks better is not (Christodoulou et al., arXiv 2505.04720).

    Of the discordant images, an unknown share is the better network's. With a uniform prior its posterior is
    Beta(b + 1, c + 1) after b images of the better and c of the other, and the claim is false where the share is
    below one half.
    """
    better, other = max(only_first, only_second), min(only_first, only_second)
    return float(scipy.stats.beta.cdf(0.5, better + 1, other + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted by Holm: at 0.05 any false positive has a probability of at most 5%."""
    return [float(p) for p in multipletests(list(p_values), method="holm")[1]] if len(p_values) else []


def images_needed(difference: float, discordance: float, power: float = 0.8) -> int:
    """Test images that a McNemar test needs to see a difference (Connor, Biometrics 43, 1987).

    Args:
        difference: of the two accuracies, in (0, discordance].
        discordance: share of images that exactly one of the networks classifies correctly.
        power: probability of seeing it at the 5% level, two-sided.
    """
    chance, missed = scipy.stats.norm.ppf(0.975), scipy.stats.norm.ppf(power)
    spread = chance * np.sqrt(discordance) + missed * np.sqrt(discordance - difference**2)
    return int(np.ceil((spread / difference) ** 2))
