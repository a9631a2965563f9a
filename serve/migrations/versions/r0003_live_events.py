"""What users do right now."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "live_event",
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("item_id", sa.String(length=200), nullable=False),
        sa.Column("behaviour", sa.String(length=20), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_live_event")),
        sa.UniqueConstraint(
            "user_id",
            "occurred_at",
            "item_id",
            "behaviour",
            name=op.f("uq_live_event_user_id_occurred_at_item_id_behaviour"),
        ),
    )
    op.create_index(op.f("ix_live_event_told_at"), "live_event", ["told_at"], unique=False)
