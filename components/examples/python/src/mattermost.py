"""Calls of Mattermost's API (api.mattermost.com), and what its refusals mean."""

import json

from componentize_py_types import Err
from wit_world.imports import http, settings
from wit_world.imports.types import (
    DeliveryError_Ambiguous,
    DeliveryError_NoSuchConversation,
    DeliveryError_RateLimited,
    DeliveryError_Rejected,
    DeliveryError_Unauthorized,
    DeliveryError_Unavailable,
    RateLimit,
    WaitScope,
)

# Where a server that limits the rate does not say how long.
RATE_LIMIT_WAIT_S = 5
WORDS_MAX = 200


def ask(method: str, path: str, body=None) -> dict:
    """Asks the server and returns its JSON. Raises a delivery error."""
    # The value never comes here: the gateway puts it in.
    headers = [("Authorization", "Bearer {{token}}")]
    content = http.Body_Empty()
    if body is not None:
        headers.append(("Content-Type", "application/json"))
        # What a person wrote can never become a placeholder.
        text = json.dumps(body, ensure_ascii=False).replace("{{", "{\\u007b")
        content = http.Body_Bytes(text.encode("utf-8", "replace"))
    url = (settings.get("server") or "").rstrip("/") + "/api/v4" + path
    try:
        response = http.send(http.Request(method, url, headers, content, None))
    except Err as failure:
        raise Err(from_http(failure.value))
    if 200 <= response.status < 300:
        try:
            return dict(json.loads(response.body))
        except (ValueError, TypeError) as why:
            # It arrived, and what the server made of it is lost.
            raise Err(DeliveryError_Ambiguous(f"the answer can't be read: {why}"))
    raise Err(from_status(response))


def escaped(piece: str) -> str:
    """Escapes a piece of a URL's path."""
    plain = "-._~"
    return "".join(c if c.isascii() and c.isalnum() or c in plain else percent(c) for c in piece)


def percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))


def from_http(error):
    """Nothing left the gateway, unless it says that the request was interrupted."""
    words = f"{type(error).__name__}: {getattr(error, 'value', '')}"
    match error:
        case http.HttpError_Interrupted():
            return DeliveryError_Ambiguous(words)
        case http.HttpError_Invalid() | http.HttpError_TooLarge():
            return DeliveryError_Rejected(words)
        case _:
            return DeliveryError_Unavailable(words)


def from_status(response):
    words = f"Mattermost answered {response.status}: {said(response.body)}"
    match response.status:
        case 401:
            return DeliveryError_Unauthorized(words)
        case 403 | 404:
            return DeliveryError_NoSuchConversation(words)
        case 429:
            # Seconds until the limit is lifted (api.mattermost.com, section "Rate limiting").
            named = [value for name, value in response.headers if name.lower() == "x-ratelimit-reset"]
            seconds = int(named[0]) if named and named[0].isdigit() else RATE_LIMIT_WAIT_S
            return DeliveryError_RateLimited(RateLimit(max(seconds, 1) * 1000, WaitScope.CHANNEL))
        case 503:
            return DeliveryError_Unavailable(words)
        case status if status >= 500:
            return DeliveryError_Ambiguous(words)
        case _:
            return DeliveryError_Rejected(words)


def said(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:WORDS_MAX]
    except (ValueError, KeyError, TypeError):
        return "without words"
