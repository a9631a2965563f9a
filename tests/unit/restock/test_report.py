import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from report_content import SUMMARY, make_content

from restock.report import write_report


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_the_report_stands_alone_and_shows_what_it_was_given(tmp_path):
    path = tmp_path / "out" / "report.html"
    write_report(make_content(), path)
    html = path.read_text()
    parser = Tags()
    parser.feed(html)
    assert parser.tags.count("svg") == 4
    assert not {"script", "link", "img"} & set(parser.tags)
    assert not re.search(r"""(src|href)=["']https?:""", html)
    for shown in ("PPO costs 10 % less.", "Unit cost is 70 % of the price.", "Six cover five days.", "0.500", "1,234"):
        assert shown in html
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_same_content_gives_the_same_file(tmp_path):
    write_report(make_content(), tmp_path / "a.html")
    write_report(make_content(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_figure_that_is_missing_is_an_error_not_a_blank(tmp_path):
    with pytest.raises(UndefinedError):
        write_report(make_content(summary={k: v for k, v in SUMMARY.items() if k != "rows"}), tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
