"""The settings tree. Loaded once at the entry point and passed down as an argument.

Precedence: ``--set a.b=1`` > file > defaults. The environment gives addresses and secrets only, where a setting refers
to a variable by name (``sql_url = "${SHOP_DB}"``). ``configs/*.toml`` beside this module differ in numbers only.
"""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from cluster.errors import ConfigError
from cluster.settings.data import DataSettings, SplitSettings
from cluster.settings.models import (
    AssumptionSettings,
    ForecastSettings,
    PolicySettings,
    RecommenderSettings,
    RuleSettings,
)
from cluster.settings.section import Section
from cluster.settings.service import PlanSettings, ServeSettings

CONFIG_FOLDER = Path(__file__).parent / "configs"


class RuntimeSettings(Section):
    """Where Ray runs and what it may use."""

    address: str = Field("local", description="'local' starts Ray here; 'auto' or an address joins a running cluster")
    num_cpus: int | None = Field(None, ge=1, description="CPUs that a local Ray offers; default: all of this machine")
    num_gpus: int | None = Field(None, ge=0, description="GPUs that a local Ray offers; default: what Ray detects")
    object_store_mb: int = Field(400, ge=100, description="shared memory of a local Ray")
    auth: Literal["disabled", "token"] = Field(
        "disabled", description="'token' where Ray listens beyond this machine: every call then carries RAY_AUTH_TOKEN"
    )


class StorageSettings(Section):
    """Where datasets, models and checkpoints are kept beyond the home folder."""

    url: str | None = Field(
        None,
        pattern=r"^s3://[^/?#]+(/[^?#]*)?$",
        description="bucket and prefix of an S3-compatible store (extra 's3'); default: home alone, on a shared volume",
    )
    endpoint: str | None = Field(
        None, pattern=r"^https?://", description="server of the store, e.g. http://minio:9000; default: Amazon's"
    )

    @model_validator(mode="after")
    def _endpoint_of_something(self) -> "StorageSettings":
        if self.endpoint is not None and self.url is None:
            raise ValueError("endpoint says where storage.url is: set storage.url too")
        return self


class TrackingSettings(Section):
    """Who else is told of models."""

    mlflow_url: str | None = Field(
        None, description="MLflow server that is told of every promoted model, e.g. http://mlflow:5000; extra 'mlflow'"
    )
    wandb_project: str | None = Field(
        None,
        pattern=r"^[^/\\#?%:]+$",
        description="Weights & Biases project that is told of every promoted model; extra 'wandb', WANDB_API_KEY",
    )


class Settings(Section):
    """The whole tree, stored in every Manifest."""

    home: Path = Field(Path(".restock"), description="folder of datasets, models and reports")
    seed: int = Field(0, ge=0, description="one seed for every random draw")
    runtime: RuntimeSettings = RuntimeSettings()
    storage: StorageSettings = StorageSettings()
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
