"""Settings of the HTTP service and of stored plans."""

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cluster.settings.section import Section

DeploymentName = Literal["ingress", "planner", "forecaster", "recommender", "policy"]


class AutoscalingSettings(Section):
    """How many replicas one deployment has, by its load."""

    min_replicas: int = Field(1, ge=1, description="kept also without load")
    max_replicas: int = Field(2, ge=1, description="not exceeded under any load")
    target_ongoing_requests: float = Field(4.0, gt=0, description="requests at a time that one replica should have")
    upscale_delay_s: float = Field(5.0, ge=0, description="load above the target for so long adds replicas")
    downscale_delay_s: float = Field(300.0, ge=0, description="load below the target for so long takes replicas away")

    @model_validator(mode="after")
    def _range(self) -> "AutoscalingSettings":
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self


class ServeSettings(Section):
    """The HTTP service."""

    layout: Literal["composed", "fused"] = Field(
        "composed", description="each model its own deployment, or all models in the process that takes requests"
    )
    proxy: Literal["python", "haproxy"] = Field(
        "python",
        description="what takes connections: Serve's own on serve.host, or HAProxy (extra 'haproxy') on every address",
    )
    host: str = Field("127.0.0.1", description="address that HTTP binds to")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free port")
    access: Literal["tokens", "development"] = Field(
        "tokens", description="who may call: owners of a token, or anybody on this machine (needs a loopback host)"
    )
    token_cache_s: float = Field(5.0, gt=0, le=60, description="a revoked token stops to work within these seconds")
    token_grace_s: float = Field(
        300.0, ge=0, description="database down: tokens that it confirmed in these last seconds still count"
    )
    rate_per_s: float = Field(
        200.0, ge=0, description="requests per second of one token (or address) to one ingress replica; 0: no limit"
    )
    burst: int = Field(400, ge=1, description="requests that it may send at once")
    cors_origins: tuple[str, ...] = Field(
        (), description="origins whose pages may call, such as https://shop.example; none: no page of another origin"
    )
    request_timeout_s: float = Field(30.0, gt=0, le=600, description="an answer that takes longer is a 504")
    max_body_bytes: int = Field(4_000_000, ge=1_000, description="a longer request body is a 413")
    max_series_per_request: int = Field(1_000, ge=1, description="series in one forecast or order plan")
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of SQLite or PostgreSQL; default: restock.db in home; ${NAME} as in sql_url"
    )
    database_timeout_s: float = Field(10.0, gt=0, description="longest wait for other writers of the database")
    num_replicas: int = Field(1, ge=1, description="replicas of each deployment; two survive the loss of one")
    autoscaling: dict[Literal["ingress", "planner", "forecaster", "recommender", "policy"], AutoscalingSettings] = (
        Field(
            {},
            description="deployment -> min_replicas, max_replicas, target_ongoing_requests, upscale_delay_s and "
            "downscale_delay_s, in place of num_replicas",
        )
    )
    num_cpus_per_replica: float = Field(0.25, ge=0, description="CPUs that Ray reserves for each replica")
    gpus_per_replica: dict[Literal["forecaster", "recommender"], Annotated[float, Field(gt=0, le=1)]] = Field(
        {}, description="deployment -> share of a card for each of its replicas, whose network then answers from it"
    )
    max_ongoing_requests: int = Field(32, ge=1, description="requests that one replica works on at a time")
    patience_s: float = Field(
        5.0,
        gt=0,
        description="a model that takes longer is answered for: stored forecasts, popular items, textbook rule",
    )
    follow_s: float = Field(
        5.0, ge=0, description="seconds between looks whether champions have moved; they are then released. 0: never"
    )
    stored_series: int = Field(
        20_000,
        ge=0,
        description="a shop with more series than this stores no forecasts for when the forecaster is down",
    )
    session_users: int = Field(100_000, ge=1, description="users whose live events are kept; the idlest makes room")
    session_events: int = Field(20, ge=1, description="latest live events kept of each user")
    session_items: int = Field(1_000_000, ge=1, description="different items that live events may name")
    session_ttl_s: int = Field(
        1_800, ge=1, description="seconds without an event after which live events are forgotten"
    )

    batch_users: int = Field(
        32, ge=1, description="users whose waiting requests are recommended to in one go; 1: each request by itself"
    )
    event_days: int = Field(7, ge=1, description="days that live events are kept in the database")

    @model_validator(mode="after")
    def _safe_access(self) -> "ServeSettings":
        if self.access == "development" and not _is_loopback(self.host):
            raise ValueError(
                f"access = development lets anybody in, so that host must be a loopback address (it is {self.host}); "
                "use access = tokens"
            )
        if self.access == "development" and self.proxy == "haproxy":
            raise ValueError("access = development needs proxy = python: HAProxy binds to every address")
        for origin in self.cors_origins:
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise ValueError(
                    f"cors_origins: {origin!r} is not an origin; write scheme and host, without a path or *"
                )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class PlanSettings(Section):
    """The stored order plan: what planners are pointed to, and how it is computed."""

    budget: float | None = Field(None, gt=0, description="money for one plan's orders; lines beyond it are marked")
    overstock_days: float = Field(60.0, gt=0, description="stock for more days than this marks a line as overstock")
    new_item_days: int = Field(28, ge=1, description="an item whose first sale is less old than this is marked as new")
    chunk_series: int = Field(500, ge=1, description="series planned and stored at a time; progress is told in these")
    lease_s: float = Field(60.0, ge=1, description="a run whose worker is silent for so long is taken over by another")
