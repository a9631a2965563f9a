"""New items: what to expect of a series without history, or with its first 7 or 28 days, from similar series.

Three histories. ``cj`` (Complete Journey) and ``or`` (Online Retail): a fifth of the series is held out in turn and all
but the last 0, 7 or 28 days of its history is hidden. ``launches``: items of Online Retail that really were new, from
their own first sale on. Compared are the mean of all, of the category (of the price band where there are no
categories), and the prior from similar items; with history, the own mean so far and each prior combined with it.
Quantiles of each system are its point forecast times what such forecasts were wrong by at earlier origins.

Shapes: S new series, R known series, N all judged (series, origin) pairs, Q quantile levels.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.frame import make_parser, make_target, report
from benchmarks.new_item_cases import DATA, Case, Shop, load_shop, make_cases, price_bands
from forecasting.launch_curves import growth_S
from forecasting.new_items import Prior, make_prior

HISTORIES = (0, 7, 28)
BAND = "price band"
_LEVELS_Q = np.arange(1, 10) / 10
_RESAMPLES = 2_000
_SIMILAR = "similar items median"
_SIMILAR_MEAN = "similar items mean"
_OWN = "own mean + "
_GROWTH = " x launch growth"
_OFFSET = 0.5
"""Units over four weeks: keeps the logarithm of an empty month finite."""

Forecasts = dict[str, np.ndarray]


def main() -> int:
    """Judge every system on every history, and say what wins."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--dataset", choices=["cj", "or", "launches"], action="append")
    arguments = parser.parse_args()
    names = arguments.dataset or (["cj", "or"] if arguments.quick else ["cj", "or", "launches"])
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    for name in names:
        needed = "online_retail" if name == "launches" else f"{name}_daily"
        if not (DATA / f"{needed}.parquet").is_file():
            rows.append({"dataset": name, "skipped": f"{needed}.parquet is not in {DATA}"})
            continue
        shop = load_shop(name)
        for history in HISTORIES:
            judged = Judged(shop, name=name, history=history, seed=arguments.seed)
            rows += judged.rows()
            targets += judged.targets()
    report("new_items", rows, targets=targets, arguments=arguments)
    return 0


class Judged:
    """Forecasts of all systems for one history length, beside what happened."""

    def __init__(self, shop: Shop, *, name: str, history: int, seed: int) -> None:
        self.name, self.history, self.seed = name, history, seed
        self.category = next(iter(shop.groups), BAND)
        cases = list(make_cases(shop, name=name, history=history, seed=seed))
        forecasts = [make_forecasts(case, shop=shop, history=history) for case in cases]
        actuals = [case.actual_SH.sum(axis=1) for case in cases]
        settled = min(case.settled for case in cases)
        judged = [k for k, case in enumerate(cases) if case.origin >= settled]
        self.actual_N = np.concatenate([actuals[k] for k in judged])
        self.week_N = np.concatenate([cases[k].actual_SH[:, :7].sum(axis=1) for k in judged])
        self.series_N = np.concatenate([cases[k].series_S for k in judged])
        self.level_N = {system: np.concatenate([forecasts[k][system] for k in judged]) for system in forecasts[0]}
        self.quantile_NQ = {s: _quantiles(cases, forecasts, actuals, system=s) for s in forecasts[0]}

    def rows(self) -> list[dict[str, Any]]:
        """One row per system."""
        return [self._row(system) for system in self.level_N]

    def _row(self, system: str) -> dict[str, Any]:
        level_N, actual_N = self.level_N[system], self.actual_N
        total = actual_N.sum()
        pinball_NQ = (actual_N[:, None] - self.quantile_NQ[system]) * (
            _LEVELS_Q - (actual_N[:, None] < self.quantile_NQ[system])
        )
        difference, low, high = self.against(system, f"{self.category} mean")
        return {
            "dataset": self.name,
            "history_days": self.history,
            "system": system,
            "judged": len(actual_N),
            "wape_28": float(np.abs(28 * level_N - actual_N).sum() / total),
            "wape_7": float(np.abs(7 * level_N - self.week_N).sum() / self.week_N.sum()),
            "wql_28": float(2 * pinball_NQ.mean(axis=1).sum() / total),
            "bias_28": float(28 * level_N.sum() / total - 1),
            "log_error": float(np.sqrt(np.mean(np.log((28 * level_N + _OFFSET) / (actual_N + _OFFSET)) ** 2))),
            "against_category": difference,
            "low": low,
            "high": high,
        }

    def against(self, system: str, other: str) -> tuple[float, float, float]:
        """Difference of WAPE over 28 days with its 95 % interval: whole series are drawn, with all their origins."""
        error_N = {s: np.abs(28 * self.level_N[s] - self.actual_N) for s in (system, other)}
        _, series_N = np.unique(self.series_N, return_inverse=True)
        worse_S = np.bincount(series_N, error_N[system] - error_N[other])
        sold_S = np.bincount(series_N, self.actual_N)
        rng = np.random.default_rng(self.seed)
        drawn_BS = rng.multinomial(len(sold_S), np.full(len(sold_S), 1 / len(sold_S)), size=_RESAMPLES)
        low, high = np.quantile((drawn_BS @ worse_S) / (drawn_BS @ sold_S), [0.025, 0.975])
        return float(worse_S.sum() / sold_S.sum()), float(low), float(high)

    def targets(self) -> list[dict[str, Any]]:
        """Mean against mean and median against median, alone and combined with the own mean."""
        leads = ("", _OWN) if self.history else ("",)
        pairs = [
            (f"{lead}similar items {average}", f"{lead}{self.category} {average}")
            for lead in leads
            for average in ("mean", "median")
        ]
        if self.history:
            pairs.append((_OWN + _SIMILAR, "own mean"))
        if _OWN + _SIMILAR + _GROWTH in self.level_N:
            pairs.append((_OWN + _SIMILAR + _GROWTH, _OWN + _SIMILAR))
        return [
            make_target(
                f"{self.name}, {self.history} days: WAPE of '{a}' less that of '{b}', upper end of 95 %",
                value=self.against(a, b)[2],
                target=0.0,
                at_least=False,
            )
            for a, b in pairs
        ]


def make_forecasts(case: Case, *, shop: Shop, history: int) -> Forecasts:
    """Level that each system expects, units per day."""
    everything = (np.zeros(len(case.level_R)), np.zeros(len(case.series_S)))
    groups = {group: (label_S[case.known_R], label_S[case.series_S]) for group, label_S in shop.groups.items()}
    groups = groups or {BAND: price_bands(case)}
    priors = {
        f"{group} {word}": _grouped(case, *labels, average=average)
        for group, labels in ({"overall": everything} | groups).items()
        for word, average in (("mean", np.mean), ("median", np.median))
    }
    if shop.neighbours is not None:
        priors[f"{_SIMILAR}, without names"] = case.plain.prior(case.items)
    middle = case.similar.prior(case.items, neighbours=shop.neighbours)
    priors[_SIMILAR_MEAN] = replace(middle, level_S=case.similar.mean_factor * middle.level_S)
    priors[_SIMILAR] = middle
    out = {system: np.asarray(prior.level_S) for system, prior in priors.items()}
    if history:
        sold_S, category = case.sold_SA.sum(axis=1), next(iter(groups))
        out["own mean"] = sold_S / history
        for system in (f"{category} mean", f"{category} median", _SIMILAR_MEAN, _SIMILAR):
            out[_OWN + system] = priors[system].combined_level_S(sold_S=sold_S, periods=history)
        if shop.is_new:
            out[_OWN + _SIMILAR + _GROWTH] = out[_OWN + _SIMILAR] * _growth_S(case, history=history)
    return out


def _grouped(case: Case, known_R: np.ndarray, new_S: np.ndarray, *, average: Callable[..., Any]) -> Prior:
    """Average of the known series of the same group, of all where there are none, weighed as any other prior."""
    level_of = {group: average(case.level_R[known_R == group]) for group in np.unique(known_R).tolist()}
    least = case.similar.offset
    expected_R = np.array([level_of[group] for group in known_R.tolist()])
    return make_prior(
        np.array([level_of.get(group, average(case.level_R)) for group in new_S.tolist()], dtype=np.float32),
        dispersion=case.similar.dispersion,
        log_spread=float(np.std(np.log((case.level_R + least) / (expected_R + least)))),
        least_level=least,
    )


def _growth_S(case: Case, *, history: int) -> np.ndarray:
    prior = case.similar.left_out_prior
    launches = Prior(level_S=prior.level_S[case.launched_L], periods_S=prior.periods_S[case.launched_L])
    expected_L = launches.combined_level_S(sold_S=case.launch_LA.sum(axis=1), periods=history)
    return growth_S(case.sold_SA, case.launch_LA, expected_R=expected_L, next_level_R=case.next_level_L)


def _quantiles(cases: list[Case], forecasts: list[Forecasts], actuals: list[np.ndarray], *, system: str) -> np.ndarray:
    """Quantiles of demand over 28 days: the point forecast times what it was wrong by where that was known already.

    The errors are those at settled origins, of series that are not held out now.
    """
    out = []
    for current, forecast in zip(cases, forecasts, strict=True):
        earlier = [k for k, case in enumerate(cases) if case.settled <= current.origin]
        if not earlier:
            continue
        level_N, actual_N, series_N = (
            np.concatenate(parts)
            for parts in zip(*((forecasts[k][system], actuals[k], cases[k].series_S) for k in earlier), strict=True)
        )
        error_N = np.log((actual_N + _OFFSET) / (28 * level_N + _OFFSET))[~np.isin(series_N, current.series_S)]
        factor_Q = np.exp(np.quantile(error_N, _LEVELS_Q))
        out.append(np.maximum((28 * forecast[system][:, None] + _OFFSET) * factor_Q - _OFFSET, 0.0))
    return np.concatenate(out)


if __name__ == "__main__":
    sys.exit(main())
