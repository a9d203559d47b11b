"""Tables of studies against their records, computed another way."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from manet_lib.report.studies import study_table
from manet_lib.studies.analysis import compared, with_records
from manet_lib.studies.plan import load_study
from manet_lib.studies.training_records import Record, probabilities_of


def test_conditions_stand_in_the_order_of_the_study_file():
    table = study_table("external")
    assert list(dict.fromkeys(table["Condition"])) == list(load_study("external").conditions)


def by_pair(arm: str, condition: str) -> list[Record]:
    runs = compared(*with_records("external"))
    own = [one for one in runs if (one["arm"], one["condition"]) == (arm, condition)]
    return sorted(own, key=lambda one: one["pair"])


@pytest.mark.parametrize(
    ("condition", "test"), [("Shenzhen to Montgomery", "outside"), ("Montgomery to Shenzhen", "as trained")]
)
def test_the_interval_over_images_too_adds_their_variance_to_that_of_the_training_runs(condition, test):
    """The variance over images by a bootstrap with the training runs fixed; Satterthwaite's degrees of freedom."""
    arms = ("whole MA", "whole plain")
    runs = list(zip(*(by_pair(arm, condition) for arm in arms), strict=True))
    scores = np.array([[probabilities_of(one, test)[:, 1] for one in pair] for pair in runs])
    tb = np.array(runs[0][0]["tests"][test]["label"]) == runs[0][0]["classes"][1]

    def differences(images):
        return np.array([[roc_auc_score(tb[images], one[images]) for one in pair] for pair in scores]) @ np.array(
            [100, -100]
        )

    rng, all_images = np.random.default_rng(0), np.arange(len(tb))
    drawn = [differences(rng.choice(all_images, len(tb))).mean() for _ in range(150)]
    found = differences(all_images)
    of_images, of_runs = np.var(drawn, ddof=1), found.var(ddof=1) / len(found)
    freedom = (of_images + of_runs) ** 2 / (of_images**2 / (len(tb) - 1) + of_runs**2 / (len(found) - 1))
    half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(of_images + of_runs)
    table = study_table("external", (test,))
    row = table[(table["Condition"] == condition) & (table["Contrast"] == " − ".join(arms))].iloc[0]
    low, high = (float(one) for one in row["95% interval over images, too"].split(" to "))
    assert (low + high) / 2 == pytest.approx(found.mean(), abs=0.1)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)
