"""What an answer adds to the metrics of the business: fallbacks, lines, units, value."""

from serve.answers import PlanAnswer, UserRecommendations
from serve.watch.metrics import ANSWERS, FALLBACK_ANSWERS, ORDER_UNITS, ORDER_VALUE, PLAN_LINES, meter


def count_recommendations(answer: UserRecommendations) -> None:
    """Count users, and those who got popular items."""
    meter().add(ANSWERS, len(answer.user_ids), "recommendations")
    meter().add(FALLBACK_ANSWERS, int(answer.is_fallback_U.sum()), "recommendations")


def count_plan(answer: PlanAnswer) -> None:
    """Count lines, those of the default textbook rule, and what they propose to order."""
    totals = answer.plan.totals
    meter().add(ANSWERS, totals.num_lines, "order-plans")
    meter().add(FALLBACK_ANSWERS, int(answer.is_fallback_S.sum()), "order-plans")
    meter().add(PLAN_LINES, totals.num_orders, "ordered")
    meter().add(PLAN_LINES, totals.num_lines - totals.num_orders, "nothing")
    meter().add(ORDER_UNITS, totals.order_qty)
    meter().add(ORDER_VALUE, totals.order_value)
