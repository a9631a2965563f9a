"""The demo calls the service as its settings ask: freely in development, with a token of its own elsewhere."""

from pathlib import Path

from cluster.config import load_settings
from restock.demo import call_headers
from serve.access.roles import Role
from serve.access.tokens import TokenBook
from serve.store.database import open_database


def test_where_tokens_are_asked_for_the_demo_makes_its_own_and_it_soon_expires(tmp_path: Path) -> None:
    settings = load_settings(overrides=[f'home="{tmp_path}"'])
    tokens = [call_headers(settings)["authorization"].removeprefix("Bearer ") for _ in range(2)]
    book = TokenBook(open_database(settings))
    for text in tokens:
        token = book.find(text)
        assert token is not None
        assert token.role is Role.SERVICE
        assert (token.expires_at - token.created_at).total_seconds() == 300


def test_the_shipped_demo_asks_for_none(tmp_path: Path) -> None:
    for name in ("demo", "demo-fast"):
        assert "authorization" not in call_headers(load_settings(name, overrides=[f'home="{tmp_path}"']))
    assert not list(tmp_path.iterdir())
