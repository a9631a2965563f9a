"""What users do right now: their last events, kept for a while, in memory that cannot grow.

A pure store: the clock is an argument. Users are kept as keyed hashes, items and times in arrays that grow in steps up
to the most users; whoever was idle longest makes room for a new one.

Shapes: S slots of users, L events kept per user.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recsys.interactions import BEHAVIOURS

_FIRST_SLOTS: Final = 1_024
_CODE_OF: Final = {name: code for code, name in enumerate(BEHAVIOURS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvent:
    """One event since training.

    Parameters
    ----------
    behaviour
        One of :data:`~recsys.interactions.BEHAVIOURS`.
    at_s
        Seconds since 1970; None for 'just now'.
    """

    item_id: str
    behaviour: str = "view"
    at_s: int | None = None

    def __post_init__(self) -> None:
        if self.behaviour not in _CODE_OF:
            raise ValueError(f"behaviour must be one of {', '.join(BEHAVIOURS)}, got {self.behaviour!r}")

    @property
    def code(self) -> int:
        """Position of the behaviour in :data:`~recsys.interactions.BEHAVIOURS`."""
        return _CODE_OF[self.behaviour]


class SessionStore:
    """Last events of the users who were active last.

    Parameters
    ----------
    max_users
        Users kept; the one idle longest is forgotten for a new one.
    max_items
        Different items that can be told apart; an event of one more is not kept.
    events_per_user
        Latest events kept of each, by their time.
    ttl_s
        Seconds after the last arrival at which a user's events are forgotten; an older event is not kept at all.
    """

    def __init__(self, *, max_users: int, max_items: int, events_per_user: int = 20, ttl_s: int = 1_800) -> None:
        if min(max_users, max_items, events_per_user, ttl_s) < 1:
            raise ValueError("max_users, max_items, events_per_user and ttl_s must be at least 1")
        self.max_users, self.max_items, self.ttl_s = max_users, max_items, ttl_s
        self._key = secrets.token_bytes(16)
        # In order of the last arrival, as dictionaries are: the first user is the one idle longest.
        self._slot_of: dict[int, int] = {}
        self._row_of: dict[str, int] = {}
        self._item_ids: list[str] = []
        self._free: list[int] = []
        slots = min(max_users, _FIRST_SLOTS)
        self._item_SL = np.full((slots, events_per_user), -1, dtype=np.int32)
        self._time_SL = np.zeros((slots, events_per_user), dtype=np.int64)
        self._code_SL = np.zeros((slots, events_per_user), dtype=np.int8)
        self._seen_S = np.zeros(slots, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def num_bytes(self) -> int:
        """Bytes of the arrays; the dictionary of users takes about 130 more per user."""
        return sum(array.nbytes for array in (self._item_SL, self._time_SL, self._code_SL, self._seen_S))

    def add(self, user_id: str, event: LiveEvent, *, now_s: int) -> bool:
        """Keep an event; False if it was told before, lies further back than what is kept, or names one item too many.

        An event from the future is one of now (clocks differ); one that arrives late is put where its time belongs.
        """
        at_s = now_s if event.at_s is None else min(event.at_s, now_s)
        if at_s <= now_s - self.ttl_s:
            return False
        item = self._row(event.item_id)
        if item < 0:
            return False
        slot = self._slot(user_id, now_s=now_s)
        kept = self._kept(slot)
        told = (self._item_SL[slot, kept] == item) & (self._time_SL[slot, kept] == at_s)
        if (told & (self._code_SL[slot, kept] == event.code)).any():
            return False
        return self._put(slot, int(np.count_nonzero(kept)), item=item, at_s=at_s, code=event.code)

    def events(self, user_id: str, *, now_s: int) -> tuple[LiveEvent, ...]:
        """Events of a user, oldest first; none after they expired. Asking does not prolong a session."""
        slot = self._slot_of.get(self._hash(user_id))
        if slot is None or self._seen_S[slot] <= now_s - self.ttl_s:
            return ()
        return tuple(self._read(slot))

    def expire(self, *, now_s: int) -> int:
        """Forget everybody whose session is over; how many they were."""
        over = []
        for user, slot in self._slot_of.items():
            if self._seen_S[slot] > now_s - self.ttl_s:
                break
            over.append(user)
        for user in over:
            self._forget(user)
        return len(over)

    def forget(self, user_id: str) -> bool:
        """Forget one user now; whether there was anything to forget."""
        user = self._hash(user_id)
        if user not in self._slot_of:
            return False
        self._forget(user)
        return True

    def _hash(self, user_id: str) -> int:
        return int.from_bytes(blake2b(user_id.encode(), digest_size=8, key=self._key).digest())

    def _row(self, item_id: str) -> int:
        row = self._row_of.get(item_id)
        if row is None:
            if len(self._item_ids) >= self.max_items:
                return -1
            row = self._row_of[item_id] = len(self._item_ids)
            self._item_ids.append(item_id)
        return row

    def _slot(self, user_id: str, *, now_s: int) -> int:
        """Slot of a user, who is from now on the one active last; emptied if the session before is over."""
        user = self._hash(user_id)
        slot = self._slot_of.pop(user, None)
        if slot is None:
            self.expire(now_s=now_s)
            if len(self._slot_of) >= self.max_users:
                self._forget(next(iter(self._slot_of)))
            slot = self._free.pop() if self._free else len(self._slot_of)
            self._grow(slot + 1)
        elif self._seen_S[slot] <= now_s - self.ttl_s:
            self._item_SL[slot] = -1
        self._slot_of[user] = slot
        # A clock that goes back must not end sessions early, nor spoil the order of the dictionary.
        self._seen_S[slot] = max(now_s, int(self._seen_S[slot]))
        return slot

    def _grow(self, wanted: int) -> None:
        slots = len(self._seen_S)
        if wanted <= slots:
            return
        more = min(max(2 * slots, wanted), self.max_users) - slots
        for name, fill in (("_item_SL", -1), ("_time_SL", 0), ("_code_SL", 0), ("_seen_S", 0)):
            array: npt.NDArray[Any] = getattr(self, name)
            added = np.full((more, *array.shape[1:]), fill, dtype=array.dtype)
            setattr(self, name, np.concatenate([array, added]))

    def _kept(self, slot: int) -> npt.NDArray[np.bool_]:
        return self._item_SL[slot] >= 0

    def _put(self, slot: int, count: int, *, item: int, at_s: int, code: int) -> bool:
        """Insert by time, behind events of the same time; the oldest gives way if the row is full."""
        place = int(np.searchsorted(self._time_SL[slot, :count], at_s, side="right"))
        full = count == self._item_SL.shape[1]
        for array, value in ((self._item_SL, item), (self._time_SL, at_s), (self._code_SL, code)):
            row = array[slot]
            if full and place:
                row[: place - 1] = row[1:place].copy()
                row[place - 1] = value
            elif not full:
                row[place + 1 : count + 1] = row[place:count].copy()
                row[place] = value
        return place > 0 or not full

    def _read(self, slot: int) -> Iterator[LiveEvent]:
        count = int(np.count_nonzero(self._kept(slot)))
        columns: Sequence[list[int]] = [
            array[slot, :count].tolist() for array in (self._item_SL, self._time_SL, self._code_SL)
        ]
        for item, at_s, code in zip(*columns, strict=True):
            yield LiveEvent(item_id=self._item_ids[item], behaviour=BEHAVIOURS[code], at_s=at_s)

    def _forget(self, user: int) -> None:
        slot = self._slot_of.pop(user)
        self._item_SL[slot] = -1
        self._seen_S[slot] = 0
        self._free.append(slot)
