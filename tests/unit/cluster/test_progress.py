import io

from rich.console import Console

from cluster.progress import stage, track


def test_away_from_a_terminal_a_stage_is_one_line():
    stream = io.StringIO()
    console = Console(file=stream)
    assert list(track([1, 2, 3], description="Counting", console=console)) == [1, 2, 3]
    with stage("Learning", total=2, console=console) as running:
        running.advance(note="loss 2")
        running.advance(note="loss 1")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Counting: 0.")
    assert lines[1].endswith("s  loss 1")


def test_on_a_terminal_it_draws_a_bar_and_leaves_the_line():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    list(track(range(5), description="Counting", console=console))
    assert "5/5" in stream.getvalue()
    assert "Counting: 0.0 s" in stream.getvalue()


def test_a_stage_that_fails_says_nothing_of_success():
    stream = io.StringIO()
    try:
        with stage("Failing", console=Console(file=stream)):
            raise ValueError
    except ValueError:
        pass
    assert stream.getvalue() == ""
