"""The settings tree. Loaded once at the entry point and passed down as an argument.

Precedence: ``--set a.b=1`` > file > defaults. The environment gives addresses and secrets only, where a setting refers
to a variable by name (``sql_url = "${SHOP_DB}"``). ``configs/*.toml`` beside this module differ in numbers only.
"""

import ipaddress
import json
import re
import tomllib
import zoneinfo
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.errors import ConfigError

CONFIG_FOLDER = Path(__file__).parent / "configs"
Precision = Literal["float32", "bfloat16"]
_PRECISION = "what the network computes in while it trains; bfloat16 for GPUs that have it"


class _Section(BaseModel):
    """Base of every section: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RuntimeSettings(_Section):
    """Where Ray runs and what it may use."""

    address: str = Field("local", description="'local' starts Ray here; 'auto' or an address joins a running cluster")
    num_cpus: int | None = Field(None, ge=1, description="CPUs that a local Ray offers; default: all of this machine")
    num_gpus: int | None = Field(None, ge=0, description="GPUs that a local Ray offers; default: what Ray detects")
    object_store_mb: int = Field(400, ge=100, description="shared memory of a local Ray")
    auth: Literal["disabled", "token"] = Field(
        "disabled", description="'token' where Ray listens beyond this machine: every call then carries RAY_AUTH_TOKEN"
    )


class TableSource(_Section):
    """Where one table comes from and how its columns are called there."""

    uri: str | None = Field(None, description="CSV or Parquet: a path, a glob or any fsspec URI")
    sql_url: str | None = Field(None, description="SQLAlchemy URL; ${NAME} is replaced by that environment variable")
    query: str | None = Field(None, description="SQL query or table name, with sql_url")
    columns: dict[str, str] = Field(default_factory=dict, description="our column name -> the shop's column name")
    constants: dict[str, str | float] = Field(
        default_factory=dict, description="our column name -> one value for all rows"
    )
    delimiter: str = Field(",", min_length=1, max_length=1, description="between the fields of a CSV")
    datetime_format: str | None = Field(None, description="strptime form of dates written as text; default ISO 8601")
    timezone: str | None = Field(None, description="zone of times without an offset; default data.timezone")

    @model_validator(mode="after")
    def _one_place(self) -> "TableSource":
        if (self.uri is None) == (self.sql_url is None):
            raise ValueError("give either uri or sql_url")
        if (self.sql_url is None) != (self.query is None):
            raise ValueError("sql_url and query go together")
        return self


class DataSettings(_Section):
    """What history is read, how it is cleaned and which series are planned."""

    name: str = Field("shop", pattern=r"^[A-Za-z0-9_.-]+$", description="name of the dataset in the home folder")
    sample: Literal["complete-journey"] | None = Field(None, description="read the public sample instead of tables")
    tables: dict[str, TableSource] = Field(default_factory=dict, description="table name -> source")
    timezone: str = Field("UTC", description="the shop's time zone: its midnight begins a day")
    frequency: Literal["D", "W"] = Field("D", description="one period is a day or a week")
    num_shards: int = Field(8, ge=1, description="Parquet files that history is split into, by series")
    max_quarantine_share: float = Field(0.2, ge=0, le=1, description="more quarantined rows than this stop the load")
    identical_lines: Literal["repeat", "sum"] = Field(
        "repeat", description="equal lines of one order: one line sent twice (keep one), or units scanned singly (add)"
    )
    not_stocked: tuple[str, ...] = Field(
        (), description="items or categories sold but not stocked (postage, fuel): kept as orders, no series"
    )
    outlier_iqr: float = Field(
        20.0, gt=0, description="order lines above their item's upper quartile by this many IQRs are flagged"
    )
    notice_periods: int = Field(28, ge=0, description="periods ahead that promotions are announced if no date is given")
    user_ids: Literal["hashed", "plain"] = Field(
        "hashed", description="what stands for a customer in all that is stored: a keyed hash, or the shop's own id"
    )
    holidays: str = Field("US", description="country of public holidays when the market table has none; '' for none")
    max_series: int | None = Field(
        None, ge=1, description="plan the series that sold most on training periods; default all"
    )
    normalisation: Literal["standard", "min-max"] = Field("standard", description="how features are scaled")

    @model_validator(mode="after")
    def _known_zone(self) -> "DataSettings":
        zones = zoneinfo.available_timezones()
        for zone in (self.timezone, *(source.timezone for source in self.tables.values())):
            if zone is not None and zone not in zones:
                raise ValueError(f"no such time zone: {zone}; give a name such as Europe/London or UTC")
        return self


class SplitSettings(_Section):
    """Which days teach, choose and judge, counted back from the end of history (or from --until)."""

    test_days: int = Field(56, ge=1, description="held out from everything; the replay and the gate use it")
    policy_days: int = Field(
        112, ge=14, description="before the test: policies train and textbook rules are tuned on it"
    )
    validation_days: int = Field(28, ge=7, description="end of the policy days: chooses checkpoints")


class ForecastSettings(_Section):
    """The demand forecaster."""

    horizon: int | None = Field(None, ge=2, description="periods ahead; default: 28 days, or 8 weeks")
    context: int | None = Field(
        None, ge=8, description="periods of history that the model reads; default: 56 days, or 26 weeks"
    )
    levels: tuple[float, ...] = Field((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99))
    serve: Literal["blend", "network"] = Field(
        "blend", description="what is published: network, trees (if LightGBM is installed) and rules, or the network"
    )
    encoder: Literal["lags", "lstm", "lstm-attention"] = Field(
        "lags", description="what reads history: a layer over the last 28 periods, an LSTM, or an LSTM and attention"
    )
    hidden: int = Field(64, ge=4, multiple_of=4, description="width of every layer")
    epochs: int = Field(7, ge=1, description="learning passes of a first fit; one finishing pass follows")
    refit_epochs: int = Field(2, ge=1, description="learning passes of a warm-start refit")
    patience: int = Field(6, ge=0, description="learning passes without a better validation loss before stopping")
    windows_per_series: int = Field(64, ge=1, description="training windows drawn per series and pass")
    batch_size: int = Field(256, ge=1, description="windows per step and worker")
    least_steps: int = Field(
        60, ge=1, description="steps per pass at least: the windows of few series are drawn more often"
    )
    learning_rate: float = Field(2e-3, gt=0)
    tree_rows: int = Field(100_000, ge=1_000, description="pairs of origin and target that trees learn from, per kind")
    num_workers: int = Field(1, ge=1, description="Ray Train workers")
    threads_per_worker: int = Field(1, ge=1, description="CPU threads that torch uses in a worker")
    use_gpu: bool = Field(False, description="one GPU for each worker")
    precision: Precision = Field("float32", description=_PRECISION)


class RecommenderSettings(_Section):
    """The recommender."""

    model: Literal["transformer", "gru", "cnn", "mlp"] = Field("transformer", description="body of the sequence model")
    hidden: int = Field(64, ge=4, multiple_of=2, description="width of the sequence model")
    dropout: float = Field(0.2, ge=0, lt=1)
    max_sequence: int = Field(50, ge=2, description="most recent events that the sequence model reads per user")
    windows_per_user: int = Field(8, ge=1, description="training windows of max_sequence events per user, latest first")
    targets_per_event: int = Field(4, ge=1, description="items of the next basket drawn as targets of each event")
    epochs: int = Field(4, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    num_negatives: int = Field(512, ge=1, description="items sampled per batch for the softmax")
    min_item_users: int = Field(10, ge=1, description="items that fewer users dealt with are not recommended")
    members: tuple[
        Literal[
            "frequency",
            "habits",
            "neighbours",
            "transitions",
            "transitions-2",
            "tifu",
            "ease",
            "als",
            "bpr",
            "sequence",
        ],
        ...,
    ] = Field(
        ("frequency", "habits", "neighbours", "transitions", "tifu", "sequence"),
        description="models that the blend may draw on, beside popularity; validation says how much of each",
    )
    validation: Literal["next-basket", "next-days", "last-basket"] = Field(
        "next-basket",
        description="what chooses weights: the first basket of the last days, all of them, or each user's last basket",
    )
    validation_days: int = Field(28, ge=1, description="last days of history, for next-basket and next-days")
    validation_users: int = Field(2_000, ge=1, description="users that weights are chosen on, at most")
    index: Literal["exact", "approximate"] = Field(
        "exact",
        description="how the sequence model finds items; approximate (extra index) is for 100,000 items and more",
    )
    popular_days: float = Field(28.0, gt=0, description="'popular lately' means in these last days")
    num_neighbours: int = Field(100, ge=1, description="neighbours kept per item")
    num_workers: int = Field(1, ge=1, description="Ray Train workers")
    threads_per_worker: int = Field(1, ge=1, description="CPU threads that torch uses in a worker")
    use_gpu: bool = Field(False, description="one GPU for each worker")
    precision: Precision = Field("float32", description=_PRECISION)


class RuleSettings(_Section):
    """What the recommender may show."""

    min_repeat_rate: float = Field(
        0.1, ge=0, le=1, description="items bought already are shown again from this learned repeat rate on"
    )
    diversity: float = Field(
        0.05, ge=0, lt=1, description="each item of a category takes this share off the scores of its others"
    )
    max_seller_share: float = Field(
        1.0, gt=0, le=1, description="most of one answer that one supplier or brand may fill"
    )
    new_item_weight: float = Field(
        0.0, ge=0, le=1, description="new items score this share of what items described like them do; 0: not shown"
    )
    new_item_days: int = Field(
        28, ge=1, description="new: first sold in these last days, or on the shelf and never sold"
    )
    overstock_weight: float = Field(0.0, ge=0, description="a fully overstocked item's score grows by this share")
    overstock_weeks: float = Field(8.0, gt=0, description="stock beyond these weeks of sales is too much; twice, fully")


class AssumptionSettings(_Section):
    """What is assumed where the shop gives no supplier terms, costs or stock. Every report says 'assumed'."""

    unit_cost_share: float = Field(0.7, gt=0, lt=1, description="unit cost over price")
    holding_share_per_day: float = Field(
        0.01, gt=0, description="holding cost per day over unit cost: capital, space, waste"
    )
    lost_sale_share: float = Field(1.0, gt=0, description="cost of a lost sale over unit margin")
    fixed_order_cost: float = Field(0.25, ge=0, description="per order line: picking, receiving, booking")
    lead_time_days: tuple[int, ...] = Field((2, 3, 4, 5), description="one per category, dealt out in id order")
    lead_time_jitter_days: int = Field(1, ge=0, description="a delivery is this many days early or late at most")
    review_period_days: int = Field(1, ge=1)
    pack_sizes: tuple[int, ...] = Field((1, 6, 12, 24), description="the largest pack within pack_cover_days is taken")
    pack_cover_days: float = Field(3.0, gt=0, description="days of mean demand that one pack may cover at most")
    capacity_days: float = Field(60.0, gt=0, description="storage per series, in days of mean demand")


class PolicySettings(_Section):
    """Learned replenishment policies."""

    algorithms: tuple[Literal["dqn", "ppo", "direct"], ...] = ("dqn", "ppo", "direct")
    max_categories: int = Field(6, ge=1, description="categories that get learned policies, by cost at stake")
    min_category_series: int = Field(5, ge=1, description="a smaller category keeps its textbook rule")
    reward: Literal["cost", "tiered"] = Field(
        "cost", description="money saved, or the teaching example's pay for ordering at low stock (docs/garments.md)"
    )
    demand: Literal["replay", "bootstrap", "forecast"] = Field(
        "replay", description="what policies learn from beside history: nothing, history reordered, or forecast draws"
    )
    demand_copies: int = Field(
        3, ge=1, description="drawn copies of the learning window beside history; not with demand = replay"
    )
    hidden: int = Field(64, ge=4, description="width of the two hidden layers")
    num_rows: int = Field(512, ge=1, description="simulated series stepped at once by a runner")
    rollout_periods: int = Field(32, ge=2, description="periods of a block, at most the policy periods")
    restart_share: float = Field(
        0.25, ge=0, le=1, description="rows that begin anew, with another stock, at each block"
    )
    budget_steps_ppo: int = Field(1_500_000, ge=1_000, description="series-periods simulated per trial")
    budget_steps_dqn: int = Field(600_000, ge=1_000, description="series-periods simulated per trial")
    budget_steps_direct: int = Field(2_000_000, ge=1_000, description="series-periods simulated per trial")
    learning_rate_ppo: float = Field(3e-3, gt=0, description="at the start; falls to a twentieth")
    learning_rate_dqn: float = Field(1e-3, gt=0, description="at the start; falls to a twentieth")
    learning_rate_direct: float = Field(5e-3, gt=0, description="at the start; falls to a twentieth")
    unroll_periods: int = Field(60, ge=4, description="direct: periods that a gradient looks through at once")
    gamma: float = Field(0.96, gt=0, lt=1, description="discount per period")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="PPO: bias against variance of the advantages")
    entropy: float = Field(0.02, ge=0, description="PPO: weight of the entropy bonus at the start; falls to 0")
    num_epochs: int = Field(2, ge=1, description="PPO: passes over each batch")
    minibatch_size: int = Field(1_024, ge=32)
    epsilon: float = Field(0.02, ge=0, le=1, description="DQN: share of uniformly random actions")
    temperature: float = Field(0.05, gt=0, description="DQN: of Boltzmann exploration at the start; falls to a tenth")
    replay_capacity: int = Field(200_000, ge=1_000, description="DQN: transitions kept")
    replay_ratio: float = Field(4.0, gt=0, description="DQN: transitions learned from per transition simulated")
    imitation_steps: int = Field(300, ge=0, description="updates towards the tuned textbook rule before learning")
    evaluations: int = Field(20, ge=1, description="times that a trial measures its validation cost")
    patience: int = Field(12, ge=1, description="evaluations without a new best that end a trial")
    stop_share: float = Field(
        0.5, gt=0, le=1, description="share of its budget from which a trial far behind the rule is stopped"
    )
    stop_margin: float = Field(0.03, ge=0, description="far: its best cost is above the textbook rule's by this share")
    num_env_runners: int = Field(0, ge=0, description="processes that simulate for a trial; 0: the trial itself")
    cpus_per_trial: float = Field(1.0, gt=0, description="a fraction lets trials share a core")
    gpus_per_trial: float = Field(0.0, ge=0, description="of DQN and PPO; a fraction lets trials share a card")
    bootstrap_samples: int = Field(2_000, ge=100, description="resamples of series behind each interval")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the interval that the gate asks to be clear of zero")


DeploymentName = Literal["ingress", "planner", "forecaster", "recommender", "policy"]


class AutoscalingSettings(_Section):
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


class ServeSettings(_Section):
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


class PlanSettings(_Section):
    """The stored order plan: what planners are pointed to, and how it is computed."""

    budget: float | None = Field(None, gt=0, description="money for one plan's orders; lines beyond it are marked")
    overstock_days: float = Field(60.0, gt=0, description="stock for more days than this marks a line as overstock")
    new_item_days: int = Field(28, ge=1, description="an item whose first sale is less old than this is marked as new")
    chunk_series: int = Field(500, ge=1, description="series planned and stored at a time; progress is told in these")
    lease_s: float = Field(60.0, ge=1, description="a run whose worker is silent for so long is taken over by another")


class TrackingSettings(_Section):
    """Who else is told of models."""

    mlflow_url: str | None = Field(
        None, description="MLflow server that is told of every promoted model, e.g. http://mlflow:5000; extra 'mlflow'"
    )


class Settings(_Section):
    """The whole tree, stored in every Manifest."""

    home: Path = Field(Path(".restock"), description="folder of datasets, models and reports")
    seed: int = Field(0, ge=0, description="one seed for every random draw")
    runtime: RuntimeSettings = RuntimeSettings()
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    forecast: ForecastSettings = ForecastSettings()
    recommender: RecommenderSettings = RecommenderSettings()
    rules: RuleSettings = RuleSettings()
    assumptions: AssumptionSettings = AssumptionSettings()
    policy: PolicySettings = PolicySettings()
    plan: PlanSettings = PlanSettings()
    serve: ServeSettings = ServeSettings()
    tracking: TrackingSettings = TrackingSettings()

    @property
    def horizon(self) -> int:
        """Periods that forecasts look ahead."""
        return self.forecast.horizon or (28 if self.data.frequency == "D" else 8)

    @property
    def context(self) -> int:
        """Periods of history that the forecaster reads."""
        return self.forecast.context or (56 if self.data.frequency == "D" else 26)

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.split.validation_days >= self.split.policy_days:
            raise ValueError("split.validation_days must be less than split.policy_days")
        return self


def load_settings(config: str | Path | None = None, *, overrides: Sequence[str] = ()) -> Settings:
    """Read a TOML file (a path, or the name of one in ``cluster/configs``) and apply ``a.b=value`` overrides.

    Raises
    ------
    ConfigError
        If the file is missing or not TOML, or a key or value is wrong; the message names the key.
    """
    tree = _read_toml(config) if config is not None else {}
    for override in overrides:
        _apply(tree, override)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
        where = f"{config}: " if config is not None else ""
        raise ConfigError(f"{where}{'; '.join(lines)}; see docs/configuration.md for every key") from error


def _read_toml(config: str | Path) -> dict[str, Any]:
    path = Path(config)
    named = CONFIG_FOLDER / f"{config}.toml"
    if not path.is_file() and named.is_file():
        path = named
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in CONFIG_FOLDER.glob("*.toml")))
        raise ConfigError(
            f"{config}: cannot be read ({error.strerror}); give a TOML file or one of: {known}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config}: not valid TOML ({error}); mend that line") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as section.key=value")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    *sections, leaf = key.strip().split(".")
    for section in sections:
        branch = tree.setdefault(section, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"--set {override}: '{section}' is a value, not a section")
        tree = branch
    tree[leaf] = value
