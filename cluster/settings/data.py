"""Settings of what history is read and how it is divided."""

import zoneinfo
from typing import Literal

from pydantic import Field, model_validator

from cluster.settings.section import Section


class TableSource(Section):
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


class DataSettings(Section):
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


class SplitSettings(Section):
    """Which days teach, choose and judge, counted back from the end of history (or from --until)."""

    test_days: int = Field(56, ge=1, description="held out from everything; the replay and the gate use it")
    policy_days: int = Field(
        112, ge=14, description="before the test: policies train and textbook rules are tuned on it"
    )
    validation_days: int = Field(28, ge=7, description="end of the policy days: chooses checkpoints")
