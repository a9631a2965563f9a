"""Rows of Recall@k and NDCG@k for every model and baseline of a recommender, on one holdout."""

from typing import Any

from recsys.holdout import Holdout
from recsys.metrics import ranking_metrics
from recsys.predict import Recommender


def evaluate(recommender: Recommender, holdout: Holdout, *, protocol: str, k: int = 10) -> list[dict[str, Any]]:
    """One row per model and one for the blend that is served, over all items and the same users.

    Parameters
    ----------
    holdout
        History that the models may read and the items to find; its item rows are the recommender's.
    protocol
        What was hidden, in words; copied into each row.

    Returns
    -------
    Rows ``{"model", "protocol", "num_users", "recall_at_10", "ndcg_at_10", "weight", "served"}`` for JSON, in the order
    of the blend's models; the blend comes last.
    """
    rows = []
    for name, item_VK in recommender.rank(holdout, k=k).items():
        found = ranking_metrics(item_VK, target_N=holdout.target_N, offset_U1=holdout.offset_V1, k=k)
        rows.append(
            {
                "model": name,
                "protocol": protocol,
                "num_users": len(holdout),
                f"recall_at_{k}": found["recall"],
                f"ndcg_at_{k}": found["ndcg"],
                "weight": recommender.blend.weights.get(name),
                "served": name == "blend",
            }
        )
    return rows
