import numpy as np

from rl.mix import choose_mix


def _shop(num_categories: int, num_series: int, *, saving_G: np.ndarray, noise: float, seed: int):
    """Costs of a rule, and of a contender that saves a share of them in each category, with luck."""
    random = np.random.default_rng(seed)
    category_S = np.repeat(np.arange(num_categories).astype(str), num_series)
    rule_S = random.gamma(4.0, 25.0, size=len(category_S))
    luck_S = noise * random.normal(size=len(category_S)) * rule_S
    return category_S, rule_S, rule_S * (1 - np.repeat(saving_G, num_series)) + luck_S


def test_categories_that_differ_by_luck_alone_get_the_shops_cheapest():
    category_S, rule_S, learned_S = _shop(40, 5, saving_G=np.full(40, 0.02), noise=0.1, seed=1)
    mix = choose_mix({"rule": rule_S, "ppo": learned_S}, category_ids_S=category_S)
    by_itself = [
        learned_S[category_S == name].sum() < rule_S[category_S == name].sum() for name in np.unique(category_S)
    ]
    assert sum(by_itself) < 30  # luck alone would split them
    assert sum(name == "ppo" for name in mix.values()) > 35


def test_a_category_that_really_differs_keeps_its_own():
    saving_G = np.where(np.arange(40) < 30, 0.05, -0.3)
    category_S, rule_S, learned_S = _shop(40, 30, saving_G=saving_G, noise=0.1, seed=2)
    mix = choose_mix({"rule": rule_S, "ppo": learned_S}, category_ids_S=category_S)
    assert [mix[str(g)] for g in range(40)] == ["ppo"] * 30 + ["rule"] * 10


def test_the_mix_costs_less_later_than_choosing_each_category_by_itself():
    """On average over shops: what shrinking is for."""
    gain = []
    for seed in range(40):
        saving_G = np.random.default_rng(seed).normal(0.03, 0.03, size=50)
        category_S, rule_S, learned_S = _shop(50, 4, saving_G=saving_G, noise=0.2, seed=seed)
        mix = choose_mix({"rule": rule_S, "ppo": learned_S}, category_ids_S=category_S)
        mixed = np.array([mix[str(g)] == "ppo" for g in range(50)])
        alone = np.array([(learned_S - rule_S)[category_S == str(g)].sum() < 0 for g in range(50)])
        gain.append((saving_G * mixed).mean() - (saving_G * alone).mean())
    assert np.mean(gain) > 0.002


def test_one_category_gets_the_cheapest_and_equal_costs_the_first():
    same = np.array(["all"] * 3)
    assert choose_mix({"a": np.array([3.0, 3, 3]), "b": np.array([1.0, 2, 3])}, category_ids_S=same) == {"all": "b"}
    assert choose_mix({"a": np.ones(3), "b": np.ones(3)}, category_ids_S=same) == {"all": "a"}
    assert choose_mix({"a": np.zeros(3), "b": np.zeros(3)}, category_ids_S=same) == {"all": "a"}
