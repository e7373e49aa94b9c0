import io

from rich.console import Console

from lorascope.zoo.factory.progress import BuildProgress


def shown(**options):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with BuildProgress(10, 2, console=console, **options) as bar:
        bar.advance(3, diverged=1)
        bar.advance(0, failed=2)
    return text.getvalue(), bar


def test_it_tells_what_is_done_the_rate_and_the_trouble():
    text, bar = shown(shown=True)
    assert "5/10" in text
    assert "a minute" in text
    assert "2 failed, 1 diverged" in text
    assert (bar.failures, bar.diverged) == (2, 1)


def test_it_can_be_silent():
    text, bar = shown(shown=False)
    assert "5/10" not in text
    assert bar.failures == 2
