"""Plans and their runs, orders, stock, batches, and an audit that the database itself keeps append-only."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_REFUSAL = "the audit is append-only"
_SQLITE = """
CREATE TRIGGER audit_entry_no_{verb} BEFORE {VERB} ON audit_entry
BEGIN SELECT RAISE(ABORT, '{refusal}'); END
"""
_POSTGRESQL = f"""
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$;
CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
"""


def upgrade() -> None:
    """Make the tables and the triggers."""
    _make_tables()
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRESQL)
        return
    for verb in ("update", "delete"):
        op.execute(_SQLITE.format(verb=verb, VERB=verb.upper(), refusal=_REFUSAL))


def _make_tables() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("audit_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("subject_id", sa.String(length=200), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit_entry")),
    )
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject", "subject_id"], unique=False)
    op.create_table(
        "batch",
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("batch_key", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_from", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("kind", "batch_key", name=op.f("pk_batch")),
    )
    op.create_table(
        "movement",
        sa.Column("movement_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("item_id", sa.String(length=200), nullable=False),
        sa.Column("location_id", sa.String(length=200), nullable=False),
        sa.Column("moved_on", sa.Date(), nullable=False),
        sa.Column("change_qty", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("movement_id", name=op.f("pk_movement")),
    )
    op.create_index(op.f("ix_movement_moved_on"), "movement", ["moved_on"], unique=False)
    op.create_index("ix_movement_series", "movement", ["item_id", "location_id", "moved_on"], unique=False)
    op.create_table(
        "plan_run",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("on_date", sa.Date(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("num_series", sa.Integer(), nullable=False),
        sa.Column("num_planned", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("counted_on", sa.Date(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_plan_run_state")
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_plan_run")),
        sa.UniqueConstraint("digest", name=op.f("uq_plan_run_digest")),
    )
    op.create_index(op.f("ix_plan_run_created_at"), "plan_run", ["created_at"], unique=False)
    op.create_index(op.f("ix_plan_run_on_date"), "plan_run", ["on_date"], unique=False)
    op.create_index(op.f("ix_plan_run_state"), "plan_run", ["state"], unique=False)
    op.create_table(
        "series_record",
        sa.Column("item_id", sa.String(length=200), nullable=False),
        sa.Column("location_id", sa.String(length=200), nullable=False),
        sa.Column("num_decisions", sa.Integer(), nullable=False),
        sa.Column("snoozed_until", sa.Date(), nullable=True),
        sa.PrimaryKeyConstraint("item_id", "location_id", name=op.f("pk_series_record")),
    )
    op.create_table(
        "stock",
        sa.Column("item_id", sa.String(length=200), nullable=False),
        sa.Column("location_id", sa.String(length=200), nullable=False),
        sa.Column("on_hand_qty", sa.Double(), nullable=False),
        sa.Column("reserved_qty", sa.Double(), nullable=False),
        sa.Column("backorder_qty", sa.Double(), nullable=False),
        sa.Column("counted_on", sa.Date(), nullable=False),
        sa.CheckConstraint(
            "on_hand_qty >= 0 AND reserved_qty >= 0 AND backorder_qty >= 0", name=op.f("ck_stock_quantities")
        ),
        sa.PrimaryKeyConstraint("item_id", "location_id", name=op.f("pk_stock")),
    )
    op.create_index(op.f("ix_stock_counted_on"), "stock", ["counted_on"], unique=False)
    op.create_table(
        "export",
        sa.Column("export_id", sa.String(length=200), nullable=False),
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("num_lines", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["plan_run.run_id"], name=op.f("fk_export_run_id")),
        sa.PrimaryKeyConstraint("export_id", name=op.f("pk_export")),
    )
    op.create_index(op.f("ix_export_run_id"), "export", ["run_id"], unique=False)
    op.create_table(
        "run_input",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("series", sa.LargeBinary(), nullable=False),
        sa.Column("stock", sa.LargeBinary(), nullable=True),
        sa.Column("open_orders", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["plan_run.run_id"], name=op.f("fk_run_input_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_input")),
    )
    op.create_table(
        "plan_line",
        sa.Column("line_id", sa.String(length=200), nullable=False),
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("item_id", sa.String(length=200), nullable=False),
        sa.Column("location_id", sa.String(length=200), nullable=False),
        sa.Column("category_id", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("proposed_qty", sa.Double(), nullable=False),
        sa.Column("order_qty", sa.Double(), nullable=False),
        sa.Column("unit_cost", sa.Double(), nullable=False),
        sa.Column("order_value", sa.Double(), nullable=False),
        sa.Column("money_at_risk", sa.Double(), nullable=False),
        sa.Column("arrives_on", sa.Date(), nullable=False),
        sa.Column("is_stockout_risk", sa.Boolean(), nullable=False),
        sa.Column("is_overstock", sa.Boolean(), nullable=False),
        sa.Column("is_new_item", sa.Boolean(), nullable=False),
        sa.Column("is_over_budget", sa.Boolean(), nullable=False),
        sa.Column("decisions_seen", sa.Integer(), nullable=False),
        sa.Column("snoozed_until", sa.Date(), nullable=True),
        sa.Column("export_id", sa.String(length=200), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.CheckConstraint(
            "state IN ('proposed', 'snoozed', 'rejected', 'approved', 'exported')", name=op.f("ck_plan_line_state")
        ),
        sa.CheckConstraint("order_qty >= 0", name=op.f("ck_plan_line_order_qty")),
        sa.ForeignKeyConstraint(["export_id"], ["export.export_id"], name=op.f("fk_plan_line_export_id")),
        sa.ForeignKeyConstraint(["run_id"], ["plan_run.run_id"], name=op.f("fk_plan_line_run_id")),
        sa.PrimaryKeyConstraint("line_id", name=op.f("pk_plan_line")),
        sa.UniqueConstraint("run_id", "item_id", "location_id", name=op.f("uq_plan_line_run_id_item_id_location_id")),
    )
    op.create_index("ix_plan_line_by_risk", "plan_line", ["run_id", "money_at_risk", "position"], unique=False)
    op.create_index("ix_plan_line_by_state", "plan_line", ["run_id", "state"], unique=False)
    op.create_index(op.f("ix_plan_line_export_id"), "plan_line", ["export_id"], unique=False)
    op.create_table(
        "ledger_entry",
        sa.Column("line_id", sa.String(length=200), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("change_qty", sa.Double(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["plan_line.line_id"], name=op.f("fk_ledger_entry_line_id")),
        sa.PrimaryKeyConstraint("line_id", "step", name=op.f("pk_ledger_entry")),
    )
    op.create_table(
        "open_order",
        sa.Column("open_order_id", sa.String(length=200), nullable=False),
        sa.Column("line_id", sa.String(length=200), nullable=True),
        sa.Column("item_id", sa.String(length=200), nullable=False),
        sa.Column("location_id", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("open_qty", sa.Double(), nullable=False),
        sa.Column("received_qty", sa.Double(), nullable=False),
        sa.Column("expected_on", sa.Date(), nullable=False),
        sa.CheckConstraint("state IN ('open', 'received', 'cancelled')", name=op.f("ck_open_order_state")),
        sa.CheckConstraint("open_qty >= 0", name=op.f("ck_open_order_open_qty")),
        sa.ForeignKeyConstraint(["line_id"], ["plan_line.line_id"], name=op.f("fk_open_order_line_id")),
        sa.PrimaryKeyConstraint("open_order_id", name=op.f("pk_open_order")),
        sa.UniqueConstraint("line_id", name=op.f("uq_open_order_line_id")),
    )
    op.create_index("ix_open_order_series", "open_order", ["item_id", "location_id"], unique=False)
    op.create_index(op.f("ix_open_order_state"), "open_order", ["state"], unique=False)
