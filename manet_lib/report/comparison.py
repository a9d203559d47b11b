"""Networks beside each other, in pairs: of a run, and of the paper's own Table 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
from statsmodels.stats.power import TTestPower

from manet_lib.evaluation.paired import compare, films_needed, holm
from manet_lib.evaluation.statistics import student_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.tables import late_jumps, logs, model_title, published, right_by_trial, trained_models


def shown_p(p: float) -> str:
    """A probability as it is printed, with three decimals: ``0.004``, and ``<0.001`` rather than ``0.000``."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def paired_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Each model with attention beside the plain one, on the same films in the same trials.

    p values are those of exact McNemar tests, one for each trial, adjusted by Holm over all rows and trials.
    """
    done = trained_models(params, paths)
    rows: list[dict[str, Any]] = []
    p_values: list[float] = []
    for model in params.models:
        base, _, attention = model.partition("_")
        trials = [trial for name, trial in done if name == model and (base, trial) in done]
        if not attention or not trials:
            continue
        first, patients = right_by_trial(params, paths, model, trials)
        second, _ = right_by_trial(params, paths, base, trials)
        found = compare(first, second, patients)
        p_values += found.p_values
        counts = zip(found.only_first, found.only_second, strict=True)
        rows.append(
            {
                "Model": model_title(model),
                "Less plain (points)": f"{100 * found.difference:+.1f}",
                "95% interval": f"{100 * found.low:+.1f} to {100 * found.high:+.1f}",
                "Films right with it alone, without it alone": "; ".join(f"{b}, {c}" for b, c in counts),
                "p": len(found.p_values),
                "Trials won": f"{found.trials_won * len(trials):g} of {len(trials)}",
                "False claim": shown_p(found.false_claim) if len(trials) == 1 else "–",  # it is of one trial
            }
        )
    adjusted = iter(holm(p_values))
    for row in rows:
        row["p"] = "; ".join(shown_p(next(adjusted)) for _ in range(row["p"]))
    columns = ["Model", "Less plain (points)", "95% interval", "Films right with it alone, without it alone", "p"]
    return pd.DataFrame(rows, columns=[*columns, "Trials won", "False claim"])


def stability_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """How much validation jumps from epoch to epoch over the last quarter of training, by model.

    Standard deviation of the differences between one epoch and the next, averaged over trials.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    for (model, _), log in logs(params, paths).items():
        rows.setdefault(model, []).append(late_jumps(log))
    table = [(model_title(model), len(values), *np.mean(values, axis=0)) for model, values in rows.items()]
    columns = ["Model", "Trials", "Accuracy (points)", "Loss"]
    return pd.DataFrame(table, columns=columns).round(3)


def printed_gains_of_the_paper() -> pd.DataFrame:
    """The paper's Table 2 in pairs: gain of MA in each of its three trials, and Student's 95% interval."""
    printed = published("table2_test_accuracy").set_index("model")[["trial1", "trial2", "trial3"]].astype(float)
    rows = []
    for model in [name for name in printed.index if name.endswith("_ma")]:
        gains = (printed.loc[model] - printed.loc[model.partition("_")[0]]).to_numpy()
        mean, half = student_interval(gains)
        row = {"Network": model_title(model.partition("_")[0])}
        row |= {f"Trial {number}": f"{gain:+.2f}" for number, gain in enumerate(gains, start=1)}
        rows.append(row | {"Gain of MA": f"{mean:+.2f} ± {half:.2f}", "mean": mean})
    return pd.DataFrame(rows)


def needed_to_see_the_papers_gains(discordance: float = 0.05, power: float = 0.8) -> pd.DataFrame:
    """How much it takes to see each gain of the paper's Table 2, were it true.

    Args:
        discordance: share of the films that one of the two networks alone classifies rightly; the paper does not
            print it.
        power: probability of seeing the gain at the 5% level, two-sided.

    Returns:
        Columns Network, Gain (points), Test films (McNemar's test, one training each), Trials (paired t test).
    """
    rows = []
    for row in printed_gains_of_the_paper().to_dict("records"):
        trials = [float(row[f"Trial {number}"]) for number in (1, 2, 3)]
        effect = row["mean"] / np.std(trials, ddof=1)
        count = TTestPower().solve_power(effect_size=effect, power=power, alpha=0.05)
        films = films_needed(row["mean"] / 100, discordance, power)
        rows.append((row["Network"], f"{row['mean']:.2f}", f"{films:,}", f"{int(np.ceil(count))}"))
    return pd.DataFrame(rows, columns=["Network", "Gain (points)", "Test films", "Trials"])


def what_the_paper_shows() -> list[str]:
    """What its printed trials can carry, recomputed: a test over networks, and the least p of three trials."""
    printed = printed_gains_of_the_paper()
    means, bounds = printed["mean"].to_numpy(), [cell.split(" ± ") for cell in printed["Gain of MA"]]
    test, told = scipy.stats.ttest_1samp(means, 0.0), sum(abs(float(mean)) > float(half) for mean, half in bounds)
    least = 2 / scipy.special.comb(6, 3)
    return [
        f"the gain of MA is told from 0 by its three trials in {told} of {len(means)} networks",
        f"over the {len(means)} networks, MA gains {means.mean():.2f} points on average "
        f"(t = {test.statistic:.2f}, p = {shown_p(test.pvalue)}, {test.df:.0f} degrees of freedom)",
        f"three trials against three: no two-sided permutation test can give a p below {least:.2f}",
    ]
