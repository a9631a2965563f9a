"""The database goes away and comes back: reads go on from the last state, writes refuse clearly, nothing is lost."""

import asyncio

from databases import running_postgres
from serving_home import AFTER_ON, ITEMS, Home
from starlette.testclient import TestClient
from test_plan_routes import count, lines, make_plan, refused

from serve.ingress import make_api
from serve.layout import LocalReplicas
from serve.releases import serving_versions
from serve.routes.context import STALE_HEADER

SERIES = {"series": [{"item_id": ITEMS[0]}]}


def test_an_outage(home: Home) -> None:
    with running_postgres() as server:
        serve = home.settings.serve.model_copy(update={"database_url": server.new_schema()})
        settings = home.settings.model_copy(update={"serve": serve})
        replicas = LocalReplicas(settings)
        asyncio.run(replicas.reconfigure(serving_versions(settings)))
        with TestClient(make_api(replicas.services, settings=settings), raise_server_exceptions=False) as shop:
            count(shop, 2.0)
            run_id = make_plan(shop)
            listed = lines(shop, run_id)
            before = shop.post("/v1/order-plans", json=SERIES).json()
            line = f"/v1/plan-lines/{next(row['line_id'] for row in listed if row['order_qty'])}"

            server.stop()
            stale = shop.get(f"/v1/plan-runs/{run_id}/lines")
            assert (stale.status_code, stale.json()["lines"]) == (200, listed)
            assert stale.headers[STALE_HEADER].startswith("20")
            assert "nothing was written" in refused(shop.get("/v1/audit"), 503)
            assert "nothing was written" in refused(shop.post(f"{line}/approve", json={"version": 1}), 503)
            body = {"orders": [{"item_id": ITEMS[0], "sold_qty": 1.0}]}
            refused(shop.post("/v1/orders", json=body, headers={"idempotency-key": "batch"}), 503)
            refused(shop.post("/v1/plan-runs", json={}), 503)
            visit = {"user_id": "visitor", "events": [{"item_id": ITEMS[0]}]}
            refused(shop.post("/v1/events", json=visit, headers={"idempotency-key": "visit"}), 503)
            assert shop.get("/v1/recommendations", params={"user_id": "visitor"}).json()["model_version"] != "popular"
            during = shop.post("/v1/order-plans", json=SERIES).json()
            assert during["lines"] == before["lines"]
            assert any("The database does not answer" in note for note in during["notes"])
            assert shop.post("/v1/forecasts", json=SERIES).status_code == 200
            assert "as of the last state" in shop.get("/readyz").json()["checks"]["database"]

            server.start()
            again = shop.get(f"/v1/plan-runs/{run_id}/lines")
            assert STALE_HEADER not in again.headers
            assert again.json()["lines"] == listed
            assert shop.post(f"{line}/approve", json={"version": 1}).json()["state"] == "approved"
            taken = shop.post("/v1/orders", json=body, headers={"idempotency-key": "batch"}).json()
            assert (taken["num_rows"], taken["is_repeat"]) == (1, False)
            kept = shop.post("/v1/events", json=visit, headers={"idempotency-key": "visit"}).json()
            assert (kept["num_kept"], kept["is_repeat"]) == (1, False)
            after = shop.post("/v1/order-plans", json=SERIES).json()
            assert (after["as_of"], after["lines"][0]["on_hand_qty"]) == (AFTER_ON.isoformat(), 1)
            assert shop.get("/readyz").json()["checks"]["database"] == "answers"
