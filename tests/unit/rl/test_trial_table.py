"""The table of trials, on a terminal and off it."""

from io import StringIO

from rich.console import Console

from rl.train import TrialUpdate
from rl.trial_table import describe, show_trials

WAITING = [TrialUpdate(category=c, algorithm=a, state="waiting") for c in ("tea", "milk") for a in ("dqn", "ppo")]


def update(state, share, *, category="tea", algorithm="ppo", best_score=0.95):
    steps = int(share * 10_000)
    return TrialUpdate(
        category=category, algorithm=algorithm, state=state, share=share, steps=steps, best_score=best_score
    )


def shown(updates, *, is_terminal):
    console = Console(file=StringIO(), force_terminal=is_terminal, width=120)
    with show_trials("Train", console=console) as follow:
        for each in updates:
            follow(each)
    return console.file.getvalue()


def test_a_cell_says_what_is_known():
    assert describe(WAITING[0]) == "waiting"
    assert describe(update("running", 0.25)) == "running 25%, 2,500, 0.950"


def test_a_terminal_shows_a_row_per_category_and_a_column_per_algorithm():
    text = shown([*WAITING, update("running", 0.5), update("stopped", 0.5, category="milk")], is_terminal=True)
    rows = [line for line in text.splitlines() if "tea" in line or "milk" in line]
    assert "running 50%, 5,000, 0.950" in rows[-2]
    assert "stopped 50%, 5,000, 0.950" in rows[-1]
    assert rows[-1].count("waiting") == 1
    assert "1 of 4 trials done" in text


def test_elsewhere_a_line_marks_each_quarter_and_each_end():
    shares = [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9]
    text = shown(
        [*WAITING, *(update("running", share) for share in shares), update("finished", 1.0)], is_terminal=False
    )
    *lines, summary = text.splitlines()
    assert lines == [
        "tea ppo: running 0%, 0, 0.950",
        "tea ppo: running 30%, 3,000, 0.950",
        "tea ppo: running 60%, 6,000, 0.950",
        "tea ppo: running 90%, 9,000, 0.950",
        "tea ppo: finished 100%, 10,000, 0.950",
    ]
    assert summary.startswith("Train: 1 of 4 trials done, ")
    assert "\x1b" not in text
