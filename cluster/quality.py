"""What the rows of a table must satisfy, as data, and the report of those that do not.

Every row that is read ends in exactly one of three places: kept, merged into another row, or quarantined. A quarantined
row counts once, and once under each rule that it breaks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from cluster.schema import EVENT_TYPES, SIGNALS, TABLES, Col

EARLIEST_ON: Final = date(1990, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleContext:
    """What rules need to know beside the row: the date of the load and the ids of the master tables, if given."""

    today: date
    item_ids: pl.Series | None = None
    location_ids: pl.Series | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row breaks the rule where ``fails`` is true; null counts as not failing."""

    name: str
    reason: str
    columns: tuple[str, ...]
    fails: Callable[[RuleContext], pl.Expr]


def _compare(column: str, name: str, reason: str, fails: pl.Expr) -> Rule:
    return Rule(name=name, reason=reason, columns=(column,), fails=lambda context: fails)


def _finite(column: str) -> Rule:
    return _compare(column, f"{column}_finite", f"{column} must be a finite number", pl.col(column).is_infinite())


def _non_negative(column: str) -> Rule:
    return _compare(column, f"{column}_not_negative", f"{column} must be >= 0", pl.col(column) < 0)


def _positive(column: str) -> Rule:
    return _compare(column, f"{column}_positive", f"{column} must be > 0", pl.col(column) <= 0)


def _one_of(column: str, known: tuple[str, ...]) -> Rule:
    reason = f"{column} must be one of {', '.join(known)}"
    return _compare(column, f"{column}_known", reason, ~pl.col(column).is_in(list(known)))


def _plausible(column: str) -> tuple[Rule, Rule]:
    """Dates neither before shops kept computers nor after the load (a day of grace covers time zones)."""
    day = pl.col(column).cast(pl.Date)
    return (
        _compare(column, f"{column}_plausible", f"{column} is before {EARLIEST_ON}", day < EARLIEST_ON),
        Rule(
            name=f"{column}_not_in_future",
            reason=f"{column} lies in the future; check the date format and the clock",
            columns=(column,),
            fails=lambda context: day > context.today + timedelta(days=1),
        ),
    )


def _known(column: str, table: str, ids_of: Callable[[RuleContext], pl.Series | None]) -> Rule:
    def fails(context: RuleContext) -> pl.Expr:
        ids = ids_of(context)
        return pl.lit(False) if ids is None else ~pl.col(column).is_in(ids.implode())

    return Rule(
        name=f"{column}_known",
        reason=f"{column} is not in the {table} table; add it there",
        columns=(column,),
        fails=fails,
    )


_KNOWN_ITEM: Final = _known(Col.ITEM_ID, "items", lambda context: context.item_ids)
_KNOWN_LOCATION: Final = _known(Col.LOCATION_ID, "locations", lambda context: context.location_ids)

_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "orders": (
        _KNOWN_ITEM,
        _KNOWN_LOCATION,
        *_plausible(Col.ORDERED_AT),
        _compare(Col.SOLD_QTY, "sold_qty_not_zero", "sold_qty must not be 0", pl.col(Col.SOLD_QTY) == 0),
        _non_negative(Col.UNIT_PRICE),
        Rule(
            name="amount_of_sale_not_negative",
            reason="amount must be >= 0 where sold_qty is > 0",
            columns=(Col.AMOUNT, Col.SOLD_QTY),
            fails=lambda context: (pl.col(Col.AMOUNT) < 0) & (pl.col(Col.SOLD_QTY) > 0),
        ),
    ),
    "events": (
        _KNOWN_ITEM,
        *_plausible(Col.OCCURRED_AT),
        _one_of(Col.EVENT_TYPE, EVENT_TYPES),
        _compare(
            Col.RATING, "rating_in_range", "rating must be in 1..5", (pl.col(Col.RATING) < 1) | (pl.col(Col.RATING) > 5)
        ),
    ),
    "locations": (_non_negative(Col.STORAGE_CAPACITY_QTY),),
    "stock": (
        _KNOWN_ITEM,
        _KNOWN_LOCATION,
        *_plausible(Col.SNAPSHOT_ON),
        _non_negative(Col.ON_HAND_QTY),
        _non_negative(Col.RESERVED_QTY),
        _non_negative(Col.BACKORDER_QTY),
    ),
    "open_orders": (_KNOWN_ITEM, _KNOWN_LOCATION, _positive(Col.OPEN_QTY)),
    "supply_terms": (
        _KNOWN_ITEM,
        _KNOWN_LOCATION,
        _non_negative(Col.LEAD_TIME_DAYS),
        _positive(Col.REVIEW_PERIOD_DAYS),
        _non_negative(Col.MIN_ORDER_QTY),
        _positive(Col.PACK_SIZE_QTY),
        _positive(Col.ORDER_CAP_QTY),
        _non_negative(Col.STORAGE_CAPACITY_QTY),
        _non_negative(Col.UNIT_COST),
        _non_negative(Col.HOLDING_COST),
        _non_negative(Col.LOST_SALE_COST),
        _non_negative(Col.FIXED_ORDER_COST),
    ),
    "promotions": (
        _KNOWN_ITEM,
        _KNOWN_LOCATION,
        Rule(
            name="end_not_before_start",
            reason="end_on must not be before start_on",
            columns=(Col.START_ON, Col.END_ON),
            fails=lambda context: pl.col(Col.END_ON) < pl.col(Col.START_ON),
        ),
        _compare(
            Col.INTENSITY,
            "intensity_in_range",
            "intensity must be in 0..1",
            (pl.col(Col.INTENSITY) < 0) | (pl.col(Col.INTENSITY) > 1),
        ),
    ),
    "market": (_one_of(Col.SIGNAL, SIGNALS),),
}


def rules_of(table: str) -> tuple[Rule, ...]:
    """Every rule of a table: no nulls where none may be, finite numbers, then its own."""
    schema = TABLES[table]
    required = tuple(
        _compare(name, f"{name}_given", f"{name} must not be empty", pl.col(name).is_null())
        for name in schema.names
        if not schema.field(name).nullable
    )
    numbers = tuple(_finite(column.name) for column in schema if str(column.type) == "double")
    return required + numbers + _RULES.get(table, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Row counts of one table; adds up over its chunks and stages."""

    rows_in: int = 0
    rows_kept: int = 0
    rows_merged: int = 0
    rows_quarantined: int = 0
    rows_flagged: int = 0
    broken: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        names = [*self.broken, *(name for name in other.broken if name not in self.broken)]
        return Tally(
            rows_in=self.rows_in + other.rows_in,
            rows_kept=self.rows_kept + other.rows_kept,
            rows_merged=self.rows_merged + other.rows_merged,
            rows_quarantined=self.rows_quarantined + other.rows_quarantined,
            rows_flagged=self.rows_flagged + other.rows_flagged,
            broken={name: self.broken.get(name, 0) + other.broken.get(name, 0) for name in names},
            reasons={**self.reasons, **other.reasons},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """Rows of a table that break one rule."""

    table: str
    rule: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCounts:
    """Where the rows of one table went; flagged rows are among the kept ones."""

    table: str
    rows_in: int
    rows_kept: int
    rows_merged: int
    rows_quarantined: int
    rows_flagged: int = 0

    def __post_init__(self) -> None:
        gone = self.rows_kept + self.rows_merged + self.rows_quarantined
        assert self.rows_in == gone, f"{self.table}: {self.rows_in} rows came in, {gone} are accounted for"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """Every table's counts, every broken rule, and what the load decided by itself."""

    tables: tuple[TableCounts, ...]
    rules: tuple[RuleCount, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "tables": [{name: getattr(counts, name) for name in TableCounts.__slots__} for counts in self.tables],
            "rules": [{name: getattr(count, name) for name in RuleCount.__slots__} for count in self.rules],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "QualityReport":
        """Inverse of :meth:`to_dict`."""
        return cls(
            tables=tuple(TableCounts(**counts) for counts in tree["tables"]),
            rules=tuple(RuleCount(**count) for count in tree["rules"]),
            notes=tuple(tree["notes"]),
        )


def make_report(tallies: Mapping[str, Tally], *, notes: tuple[str, ...] = ()) -> QualityReport:
    """Report of the whole load, worst rule of each table first."""
    tables = tuple(
        TableCounts(
            table=table,
            rows_in=tally.rows_in,
            rows_kept=tally.rows_kept,
            rows_merged=tally.rows_merged,
            rows_quarantined=tally.rows_quarantined,
            rows_flagged=tally.rows_flagged,
        )
        for table, tally in tallies.items()
    )
    rules = tuple(
        RuleCount(table=table, rule=rule, reason=tally.reasons[rule], rows=rows)
        for table, tally in tallies.items()
        for rule, rows in sorted(tally.broken.items(), key=lambda pair: -pair[1])
    )
    return QualityReport(tables=tables, rules=rules, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Rows that pass, and for those that do not: their position and which rules they break."""

    passed: pl.DataFrame
    broken: pl.DataFrame
    tally: Tally


def check_rows(
    frame: pl.DataFrame, *, table: str, context: RuleContext, unreadable: Mapping[str, pl.Series] | None = None
) -> Checked:
    """Split a table into rows that pass every rule and rows that do not.

    Parameters
    ----------
    frame
        Columns of the table's schema, and any others, which pass through.
    unreadable
        Column -> true where the source has a value that is not of the column's type. Such a cell breaks the rule
        ``<column>_type`` and not the one that asks for a value.

    Returns
    -------
    ``broken`` has ``position`` (row of ``frame``), ``rule`` and ``reason``, each joined by ``; `` where several break.
    """
    unreadable = unreadable or {}
    names, reasons, masks = [], {}, []
    for column, mask in unreadable.items():
        names.append(f"{column}_type")
        reasons[f"{column}_type"] = f"{column} cannot be read as {TABLES[table].field(column).type}"
        masks.append(mask.alias(f"{column}_type"))
    rules = rules_of(table)
    results = frame.select(rule.fails(context).fill_null(value=False).alias(rule.name) for rule in rules)
    for rule in rules:
        mask = results[rule.name]
        if rule.name.endswith("_given") and rule.columns[0] in unreadable:
            mask = mask & ~unreadable[rule.columns[0]]
        if mask.any():
            names.append(rule.name)
            reasons[rule.name] = rule.reason
            masks.append(mask)
    return _split(frame, names, reasons, masks)


def _split(frame: pl.DataFrame, names: list[str], reasons: dict[str, str], masks: list[pl.Series]) -> Checked:
    nothing = pl.DataFrame(schema={"position": pl.UInt32, "rule": pl.String, "reason": pl.String})
    if not masks:
        return Checked(passed=frame, broken=nothing, tally=Tally(rows_in=frame.height))
    flags = pl.DataFrame(masks)
    any_broken = flags.select(pl.any_horizontal(pl.all())).to_series()
    broken = (
        flags.with_row_index("position")
        .filter(any_broken)
        .select(
            "position",
            rule=pl.concat_str([pl.when(name).then(pl.lit(name)) for name in names], separator="; ", ignore_nulls=True),
            reason=pl.concat_str(
                [pl.when(name).then(pl.lit(reasons[name])) for name in names], separator="; ", ignore_nulls=True
            ),
        )
    )
    tally = Tally(
        rows_in=frame.height,
        rows_quarantined=broken.height,
        broken={name: int(flags[name].sum()) for name in names},
        reasons=reasons,
    )
    return Checked(passed=frame.filter(~any_broken), broken=broken, tally=tally)
