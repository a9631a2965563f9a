"""Settings of forecaster, recommender and policies."""

from typing import Literal

from pydantic import Field

from cluster.settings.section import Section

Precision = Literal["float32", "bfloat16"]
_PRECISION = "what the network computes in while it trains; bfloat16 for GPUs that have it"


class ForecastSettings(Section):
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


class RecommenderSettings(Section):
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
    loss: Literal["softmax", "gbce"] = Field(
        "softmax", description="of the sequence model: sampled softmax, or generalised binary cross-entropy (gSASRec)"
    )
    gbce_calibration: float = Field(
        0.75, ge=0, le=1, description="gbce: 0 is plain binary cross-entropy, 1 gives calibrated shares"
    )
    num_negatives: int = Field(512, ge=1, description="items sampled per batch for the loss")
    min_item_users: int = Field(10, ge=1, description="items that fewer users dealt with are not recommended")
    members: tuple[
        Literal[
            "frequency",
            "habits",
            "neighbours",
            "transitions",
            "transitions-2",
            "sessions",
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
    validation_users: int = Field(10_000, ge=1, description="users that weights are chosen on, at most")
    privacy_epsilon: float | None = Field(
        None, gt=0, description="train the sequence model so that users keep this differential privacy (extra privacy)"
    )
    privacy_clip: float = Field(1.0, gt=0, description="longest gradient of one user, with privacy_epsilon")
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


class RuleSettings(Section):
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


class AssumptionSettings(Section):
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


class PolicySettings(Section):
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
    budget_steps_dqn: int = Field(1_200_000, ge=1_000, description="series-periods simulated per trial")
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
    replay_capacity: int = Field(400_000, ge=1_000, description="DQN: transitions kept")
    replay_ratio: float = Field(2.0, gt=0, description="DQN: transitions learned from per transition simulated")
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
