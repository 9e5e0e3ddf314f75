"""Clean up subscriptions at a shared DSS: otherwise each would be notified of the events of all later tests."""

from __future__ import annotations

import requests


def delete_subscriptions(url: str, headers: dict[str, str]) -> None:
    """Delete all subscriptions of a user.

    :param url: URL of the API
    :param headers: headers with the user's token
    """
    with requests.Session() as session:
        session.headers.update(headers)
        for replica in ("aws", "gcp"):
            for kind in ("jmespath", "elasticsearch"):
                query = {"replica": replica, "subscription_type": kind}
                response = session.get(f"{url}/subscriptions", params=query, timeout=30)
                for subscription in response.json()["subscriptions"]:
                    session.delete(f"{url}/subscriptions/{subscription['uuid']}", params=query, timeout=30)
