"""The order plan from stored models, on a tiny shop with drawn weights."""

import asyncio
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from serving_home import AFTER_ON, Home, make_home

from cluster.dataset import open_dataset
from cluster.errors import DataError
from forecasting.explain import driver_phrases, explain_forecast
from forecasting.predict import Forecaster
from restock.planning import PlanFiles, _take_job, plan_orders
from rl.orders import OrderPlan
from serve.answers import PlanAnswer, PlanQuestion
from serve.layout import LocalReplicas
from serve.releases import serving_versions

PHRASE = re.compile(r" \(([^()]* usual: [^()]*)\)")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("shop"))


def plan_of(home: Home, *, with_drivers: bool) -> OrderPlan:
    dataset = open_dataset(home.settings)
    return plan_orders(dataset, settings=home.settings, files=PlanFiles(), with_drivers=with_drivers)


def test_reasons_name_what_moves_demand_over_the_protection_interval(home: Home) -> None:
    plan = plan_of(home, with_drivers=True)
    assert plan.on_date == AFTER_ON
    dataset = open_dataset(home.settings)
    forecaster = Forecaster.load(home.store.load("forecaster").folder)
    for row, line in enumerate(plan.lines):
        view = dataset.panel(until=dataset.num_periods).take([row])
        attribution = explain_forecast(forecaster, view, periods=line.protection_days)
        (phrase,) = driver_phrases(attribution)
        assert PHRASE.findall(line.reason) == ([phrase] if phrase else [])
        assert attribution.forecast_S[0] == pytest.approx(line.forecast_qty, rel=1e-3)
    assert any(PHRASE.search(line.reason) for line in plan.lines)


def test_drivers_can_be_left_out_and_change_nothing_but_reasons(home: Home) -> None:
    without, told = (plan_of(home, with_drivers=with_drivers).table for with_drivers in (False, True))
    assert not any(PHRASE.search(reason) for reason in without["reason"].to_pylist())
    assert without.drop_columns("reason") == told.drop_columns("reason")
    assert [PHRASE.sub("", reason) for reason in told["reason"].to_pylist()] == without["reason"].to_pylist()


def test_parts_and_processes_change_no_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan_of(home, with_drivers=False)
    monkeypatch.setattr("restock.planning._PART_SERIES", 3)
    dataset = open_dataset(home.settings)
    parts, forked = (
        plan_orders(dataset, settings=home.settings, files=PlanFiles(), with_drivers=False, processes=processes)
        for processes in (1, 2)
    )
    assert forked.table.equals(parts.table)
    assert parts.notes == forked.notes == whole.notes
    assert parts.table["item_id"].equals(whole.table["item_id"])
    # Series predicted beside others differ in the last digit.
    for name in ("forecast_qty", "wish_qty", "money_at_risk"):
        assert parts.table[name].to_pylist() == pytest.approx(whole.table[name].to_pylist(), abs=1e-3)


def largest_exponential() -> float:
    return float(torch.zeros(1 << 20).exp().max())


def test_a_forked_process_does_not_wait_for_threads_of_its_parent() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert largest_exponential() == 1.0  # the parent's threads start here; a fork has none of them
        pool = ProcessPoolExecutor(1, mp_context=get_context("fork"), initializer=_take_job, initargs=(None,))
        answer = pool.submit(largest_exponential)
        try:
            assert answer.result(timeout=60) == 1.0
        finally:
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool.shutdown()
    finally:
        torch.set_num_threads(threads)


def test_the_service_answers_the_same_plan(home: Home) -> None:
    replicas = LocalReplicas(home.settings)
    question = PlanQuestion(series=None, limit=100, as_of=None, stock=None, open_orders=None)

    async def ask() -> PlanAnswer:
        await replicas.reconfigure(serving_versions(home.settings))
        return await replicas.services.planner.plan.remote(question)

    ours, theirs = plan_of(home, with_drivers=False).table, asyncio.run(ask()).plan.table
    assert theirs.equals(ours)


def test_a_planned_promotion_on_a_channel_without_a_past_is_refused(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "planned.csv"
    path.write_text("item_id,promotion_type,start_on,end_on\nitem-1,display,2024-05-01,2024-05-07\n")
    with pytest.raises(DataError, match="no such channel"):
        plan_orders(open_dataset(home.settings), settings=home.settings, files=PlanFiles(promotions=path))
