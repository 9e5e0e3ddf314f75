"""Subscriptions that tests make at a shared DSS: without an end, each would be notified of all that happens there."""

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
                found = session.get(f"{url}/subscriptions", params=query, timeout=30)
                for each in found.json()["subscriptions"]:
                    session.delete(f"{url}/subscriptions/{each['uuid']}", params=query, timeout=30)
