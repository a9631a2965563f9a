"""Roles, and what each may do. A route says what it needs where it is defined; one that does not cannot be served.

====================  =======  ========  =========  ========
scope                 viewer   planner   operator   service
====================  =======  ========  =========  ========
ask                   yes      yes       yes        yes
read                  yes      yes       yes
tell                                     yes        yes
decide                         yes       yes
operate                                  yes
====================  =======  ========  =========  ========
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_MARK: Final = "restock_scope"


class Scope(StrEnum):
    """What a route lets its caller do."""

    OPEN = "open"
    """Nothing that concerns the shop: anybody may."""
    ASK = "ask"
    """Ask the models; nothing is stored."""
    READ = "read"
    """See what is stored and measured."""
    TELL = "tell"
    """Report what happened in the shop: events, orders, stock."""
    DECIDE = "decide"
    """Make plans, and approve, change or reject their lines."""
    OPERATE = "operate"
    """Change which models answer."""


class Role(StrEnum):
    """What a token's owner is."""

    VIEWER = "viewer"
    PLANNER = "planner"
    OPERATOR = "operator"
    SERVICE = "service"

    def may(self, scope: Scope) -> bool:
        """Whether this role has a scope."""
        return scope is Scope.OPEN or scope in _SCOPES[self]


_SCOPES: Final[Mapping[Role, frozenset[Scope]]] = {
    Role.VIEWER: frozenset({Scope.ASK, Scope.READ}),
    Role.PLANNER: frozenset({Scope.ASK, Scope.READ, Scope.DECIDE}),
    Role.OPERATOR: frozenset(Scope),
    Role.SERVICE: frozenset({Scope.ASK, Scope.TELL}),
}


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Say what a route lets its caller do: written between the route's decorator and its function."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, scope)
        return endpoint

    return mark


def scope_of(route: "APIRoute") -> Scope:
    """What a route needs."""
    scope = getattr(route.endpoint, _MARK, None)
    assert isinstance(scope, Scope), f"{route.path}: say what the route needs, with @needs(Scope...)"
    return scope


def roles_with(scope: Scope) -> tuple[Role, ...]:
    """Roles that have a scope."""
    return tuple(role for role in Role if role.may(scope))


def document_access(document: dict[str, Any], routes: "Iterable[APIRoute]") -> dict[str, Any]:
    """Write into an OpenAPI document which routes take a token, of which roles, and how they refuse."""
    document.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    refusals = {"401": "no token, or one that is not valid", "403": "the token's role may not do this"}
    for route in routes:
        scope = scope_of(route)
        for method in route.methods or ():
            operation = document["paths"][route.path][method.lower()]
            if scope is not Scope.OPEN:
                operation["security"] = [{"token": []}]
                operation["description"] += f"\n\nRoles: {', '.join(roles_with(scope))}."
                operation["responses"] |= {status: _refusal(text) for status, text in refusals.items()}
            operation["responses"]["429"] = _refusal("too many requests; Retry-After says when to come back")
    return document


def _refusal(description: str) -> dict[str, Any]:
    # As FastAPI writes it; document_problems then gives it the media type of problem documents.
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
