"""What a backend tells of the account that is logged in."""

from collections.abc import Mapping
from typing import Any


def account_of(connection: Any) -> Mapping[str, Any]:
    """The answer of ``GET /me``; nothing where the backend does not have it."""
    if not connection.capabilities().supports_endpoint("/me"):
        return {}
    return dict(connection.describe_account())


def person_of(account: Mapping[str, Any]) -> str:
    """The account's name and id, as far as they are told."""
    name, user = account.get("name"), account.get("user_id")
    return f"{name} ({user})" if name and name != user else str(user or "a user who is not named")
