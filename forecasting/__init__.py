"""How much will sell: quantile forecasts of demand and their baselines."""
