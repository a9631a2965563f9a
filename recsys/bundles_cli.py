"""``restock bundles``; the root mounts this function as a command."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import typer
from rich.console import Console
from rich.table import Table

from cluster.config import load_settings
from cluster.dataset import Dataset, open_dataset
from cluster.errors import ConfigError, DataError
from cluster.options import ConfigOption, JsonOption, SetOption, UntilOption, day_of

if TYPE_CHECKING:
    from recsys.bundles import Bundles, Campaign

_SHOWN = 20


def suggest(
    channel: Annotated[
        str | None, typer.Option("--channel", help="Channel of the campaign; default: the most used.")
    ] = None,
    start: Annotated[str | None, typer.Option("--start", help="First day, YYYY-MM-DD; default: after history.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="Duration.")] = 7,
    reach: Annotated[
        float | None, typer.Option("--reach", min=0, max=1, help="Share of the audience; default: as usual there.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Bundles at most.")] = _SHOWN,
    out: Annotated[Path, typer.Option("--out", help="Bundles to write, .csv or .parquet.")] = Path("bundles.csv"),
    promotions: Annotated[
        Path | None, typer.Option("--promotions", help="Also write the campaign, for 'restock plan --promotions'.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suggest bundles for a promotion, with the extra units that past promotions let expect."""
    from recsys.bundle_offer import plan_campaign, suggest_from_dataset  # here: polars and SciPy take time to import

    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    until_on = _until_on(dataset, day_of(until, option="--until"))
    start_on = day_of(start, option="--start") or until_on
    campaign = plan_campaign(
        dataset,
        until_on=until_on,
        channel=channel,
        start_on=start_on,
        end_on=start_on + timedelta(days=days - 1),
        reach=reach,
    )
    bundles = suggest_from_dataset(dataset, campaign=campaign, until_on=until_on, limit=limit, seed=settings.seed)
    _write(bundles.to_table(), out)
    if promotions is not None:
        _write(bundles.to_promotions(campaign, announced_on=until_on), promotions)
    _tell(bundles, campaign=campaign, out=out, as_json=as_json)


def _until_on(dataset: Dataset, day: date | None) -> date:
    return dataset.calendar.date_on(dataset.period_until(day))


def _write(table: pa.Table, path: Path) -> None:
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{path}: write to a .csv or a .parquet file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            pa.csv.write_csv(table, path)
        else:
            pa.parquet.write_table(table, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _tell(bundles: "Bundles", *, campaign: "Campaign", out: Path, as_json: bool) -> None:
    rows = bundles.to_table().to_pylist()
    if as_json:
        facts = {"channel": campaign.channel, "reach": campaign.reach, "start_on": campaign.start_on}
        print(json.dumps({**facts, "end_on": campaign.end_on, "bundles": rows}, default=str))
        return
    title = f"{campaign.channel}, {campaign.start_on} to {campaign.end_on}, reach {campaign.reach:.2f}"
    table = Table("item", "with", "kind", title=title)
    for heading in ("baskets", "by chance", "lift", "price", "extra units", "80 % interval"):
        table.add_column(heading, justify="right")
    for row in rows[:_SHOWN]:
        table.add_row(
            row["item_id"],
            row["other_item_id"],
            row["kind"],
            f"{row['baskets']:,}",
            f"{row['expected_baskets']:,.1f}",
            f"{row['lift']:.1f}",
            f"{row['price']:.2f}",
            f"{row['extra_units']:,.0f}",
            f"{row['extra_units_low']:,.0f} to {row['extra_units_high']:,.0f}",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(rows)} bundles: {out}", markup=False, soft_wrap=True)
