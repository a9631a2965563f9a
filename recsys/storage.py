"""A recommender as files: JSON for parameters, safetensors for what was learned, Parquet for histories.

::

    recommender.json            format, weights, parameters and facts, and the SHA-256 of every other file
    <model>.safetensors         arrays of one model
    items.parquet               item ids, in row order
    histories.parquet           one row per user, list columns in time order
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cluster.errors import ArtifactError
from recsys.interactions import Interactions
from recsys.models.blend import Blend
from recsys.models.ease import EaseModel
from recsys.models.factors import AlsModel, BprModel
from recsys.models.frequency import PersonalFrequency
from recsys.models.habits import HabitModel
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.models.protocol import RecommenderModel
from recsys.models.sequence import SequenceModel
from recsys.models.session_neighbours import SessionNeighbours
from recsys.models.tifu import TifuKnn
from recsys.models.transitions import TransitionModel

FORMAT: Final = 2
_INDEX: Final = "recommender.json"
_ITEMS: Final = "items.parquet"
_HISTORIES: Final = "histories.parquet"
_KINDS: Final[dict[str, type[RecommenderModel]]] = {
    model.kind: model
    for model in (
        Popularity,
        PersonalFrequency,
        NeighbourModel,
        TransitionModel,
        SessionNeighbours,
        TifuKnn,
        HabitModel,
        EaseModel,
        AlsModel,
        BprModel,
        SequenceModel,
    )
}
_EVENT_COLUMNS: Final = {"item": "item_E", "behaviour": "behaviour_E", "basket": "basket_E", "time": "time_E"}


def write_recommender(folder: Path, *, histories: Interactions, blend: Blend, facts: dict[str, Any]) -> None:
    """Write all files; the index comes last, so that a folder without it is known to be incomplete."""
    _write_interactions(folder, histories)
    models = {}
    for name, model in blend.models.items():
        arrays = {key: np.ascontiguousarray(values) for key, values in model.arrays().items()}
        save_file(arrays, folder / f"{name}.safetensors")
        models[name] = {"kind": model.kind, "config": model.to_config()}
    files = [_ITEMS, _HISTORIES, *(f"{name}.safetensors" for name in models)]
    index = {
        "format": FORMAT,
        "models": models,
        "weights": dict(blend.weights),
        "seen_allowed": blend.seen_allowed,
        "facts": facts,
        "sha256": {name: _sha256(folder / name) for name in files},
    }
    (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n")


def read_recommender(folder: Path) -> tuple[Interactions, Blend, dict[str, Any]]:
    """Histories, blend and facts as they were written.

    Raises
    ------
    ArtifactError
        If a file is missing, changed or of another format.
    """
    index = _read_index(folder)
    for name, digest in index["sha256"].items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise ArtifactError(
                f"{folder / name} is missing or was changed after it was written; train the recommender again"
            )
    try:
        models = {name: _read_model(folder, name=name, entry=entry) for name, entry in index["models"].items()}
        histories = _read_interactions(folder)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError, pa.ArrowException) as error:
        raise ArtifactError(f"{folder} cannot be read as a recommender ({error}); train it again") from error
    return histories, Blend(models=models, weights=index["weights"], seen_allowed=index["seen_allowed"]), index["facts"]


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / _INDEX
    try:
        index = json.loads(path.read_text())
        written = index["format"]
        complete = index.keys() >= {"models", "weights", "seen_allowed", "facts", "sha256"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is missing or damaged ({error}); train the recommender again") from error
    if written != FORMAT or not complete:
        raise ArtifactError(f"{path} has format {written}, this version reads {FORMAT}; train the recommender again")
    return dict(index)


def _read_model(folder: Path, *, name: str, entry: dict[str, Any]) -> RecommenderModel:
    return _KINDS[entry["kind"]].from_config(entry["config"], arrays=load_file(folder / f"{name}.safetensors"))


def _write_interactions(folder: Path, interactions: Interactions) -> None:
    pq.write_table(pa.table({"item_id": interactions.item_ids_I}), folder / _ITEMS)
    offset = pa.array(interactions.offset_U1.astype(np.int32))
    columns: dict[str, Any] = {"user_id": interactions.user_ids_U, "now": interactions.now_U}
    for name, attribute in _EVENT_COLUMNS.items():
        columns[name] = pa.ListArray.from_arrays(offset, pa.array(getattr(interactions, attribute)))
    pq.write_table(pa.table(columns), folder / _HISTORIES)


def _read_interactions(folder: Path) -> Interactions:
    table = pq.read_table(folder / _HISTORIES)
    lists = {name: table.column(name).combine_chunks() for name in _EVENT_COLUMNS}
    length_U = lists["item"].value_lengths().to_numpy()
    events = {attribute: lists[name].flatten().to_numpy() for name, attribute in _EVENT_COLUMNS.items()}
    return Interactions(
        user_ids_U=_text(table.column("user_id")),
        item_ids_I=_text(pq.read_table(folder / _ITEMS).column("item_id")),
        offset_U1=np.concatenate([[0], np.cumsum(length_U)]).astype(np.int64),
        now_U=table.column("now").to_numpy(),
        **events,
    )


def _text(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.str_]]:
    return np.asarray(column.to_pylist(), dtype=str)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
