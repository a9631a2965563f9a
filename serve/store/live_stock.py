"""Which items are on the shelf now, as changes since the last look: for those who show items to customers."""

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.store.tables import Batch, Movement, Stock

_COUNTS = ("stock", "dataset")
_ITEMS_AT_A_TIME = 400


class StockReader:
    """Reads whether items are free to sell: at first those of the whole book, then of what has changed."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._num_counts = 0
        self._last_move = 0

    def read(self, session: Session) -> dict[str, bool]:
        """Items whose stock may have changed, and whether units on hand are left that are not reserved.

        An item that a count does not name any more is not there. Items that were never counted are not spoken of.
        """
        # The marks first: what comes in after them is read again at the next look.
        num_counts = session.scalar(select(func.count()).where(Batch.kind.in_(_COUNTS))) or 0
        last_move = session.scalar(select(func.max(Movement.movement_id))) or 0
        if num_counts != self._num_counts:
            found = dict.fromkeys(self._known, False) | _free(session, None)
        elif last_move != self._last_move:
            moved = select(Movement.item_id).where(Movement.movement_id > self._last_move).distinct()
            found = _free(session, session.scalars(moved).all())
        else:
            return {}
        self._num_counts, self._last_move = num_counts, last_move
        self._known |= found.keys()
        return found


def _free(session: Session, item_ids: Collection[str] | None) -> dict[str, bool]:
    units = func.sum(Stock.on_hand_qty - Stock.reserved_qty)
    statement = select(Stock.item_id, units).group_by(Stock.item_id)
    if item_ids is None:
        return {item_id: free > 0 for item_id, free in session.execute(statement)}
    items = sorted(item_ids)
    # SQLite takes a limited number of variables.
    parts = (items[start : start + _ITEMS_AT_A_TIME] for start in range(0, len(items), _ITEMS_AT_A_TIME))
    return {
        item_id: free > 0
        for part in parts
        for item_id, free in session.execute(statement.where(Stock.item_id.in_(part)))
    }
