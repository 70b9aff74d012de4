"""A bot account of Mattermost as a channel: its channels are polled, and the agent's answers are posted there.

The classes are the contract's interfaces by name. Where the contract has a `result`, a method returns the good value and
raises `Err` with the bad one.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.descriptor import (
    Description,
    Endpoint,
    Features,
    Placement,
    Scheme,
    Secret,
    Setting,
    SettingKind,
)
from wit_world.exports.listener import ListenerError_Refused
from wit_world.imports import clock, inbox, log, progress, settings, state
from wit_world.imports.inbox import PublishError_Busy, PublishError_ShuttingDown
from wit_world.imports.types import (
    Action_Send,
    Confirmation,
    DeliveryError_NoSuchConversation,
    DeliveryError_RateLimited,
    DeliveryError_Rejected,
    DeliveryError_Unauthorized,
    OutboundMessage,
    Receipt,
)

import mattermost
from mapping import inbound, is_for_agent
from splitting import split

# The longest message, characters (api.mattermost.com, "message_max"; older servers take less and say so).
MESSAGE_CHARACTERS_MAX = 16_383
BACKOFF_MS = (1_000, 60_000)
ME_KEY = "me"


class Descriptor(exports.Descriptor):
    def describe(self) -> Description:
        def text(key: str, summary: str, kind=SettingKind.TEXT, required=False, default=None) -> Setting:
            return Setting(key, summary, kind, required, default)

        return Description(
            name="mattermost",
            version="0.1.0",
            summary="A bot account of Mattermost, by polling (Python)",
            features=Features.THREADS | Features.GROUP_CONVERSATIONS,
            settings=[
                text("server", "The server, such as https://chat.example.org", required=True),
                text(
                    "channels",
                    "The ids of the channels that it reads",
                    SettingKind.LIST_OF_TEXT,
                    required=True,
                ),
                text("poll-seconds", "How long to wait between two polls", SettingKind.NUMBER, default="3"),
            ],
            secrets=[
                Secret(
                    name="token",
                    summary="The bot account's access token",
                    required=True,
                    hosts=["{server}"],
                    placements=Placement.HEADER,
                    reveal=False,
                )
            ],
            endpoints=[
                Endpoint(Scheme.HTTPS, "{server}", None, "the Mattermost server"),
                Endpoint(Scheme.HTTP, "{server}", None, "a server on your own network"),
            ],
            webhook=None,
            deduplicates_for_s=None,
            # Posts stay where they are; a year is longer than anyone leaves a gateway off.
            replays_for_s=365 * 24 * 3600,
            single_receiver=False,
            terminal=False,
            folder=None,
        )


class Listener(exports.Listener):
    def run(self) -> None:
        """Returns when the gateway shuts the channel down: every import that waits then says so."""
        pause_ms = 1000 * int(settings.get("poll-seconds") or "3")
        backoff_ms = BACKOFF_MS[0]
        while True:
            wait_ms = pause_ms
            try:
                if not poll():
                    return
                backoff_ms = BACKOFF_MS[0]
            except Err as failure:
                error = failure.value
                if isinstance(error, DeliveryError_Unauthorized):
                    # Asking again would get the same answer: the gateway pauses the channel until the operator has acted.
                    raise Err(ListenerError_Refused(error.value))
                if isinstance(error, DeliveryError_RateLimited):
                    wait_ms = error.value.retry_after_ms
                else:
                    wait_ms = backoff_ms
                    backoff_ms = min(backoff_ms * 2, BACKOFF_MS[1])
                words = f"polling failed, the next try comes in {wait_ms} ms: {error}"
                log.write(log.Level.WARN, words)
            if not clock.sleep_ms(wait_ms):
                return


class Delivery(exports.Delivery):
    def deliver(self, message: OutboundMessage) -> Receipt:
        if not isinstance(message.action, Action_Send):
            raise Err(DeliveryError_Rejected("this channel can only send"))
        parts = split(message.text, MESSAGE_CHARACTERS_MAX)
        if not parts:
            raise Err(DeliveryError_Rejected("there is nothing to send"))
        sent = {part.index: part.message_id for part in message.already_sent}
        for index, text in enumerate(parts):
            if index in sent:
                continue
            post = {
                "channel_id": message.conversation.id,
                "message": text,
                "root_id": message.conversation.thread or "",
            }
            made = mattermost.ask("POST", "/posts", post)
            sent[index] = str(made.get("id"))
            progress.sent(message.delivery_key, index, sent[index])
        return Receipt([sent[index] for index in sorted(sent)], Confirmation.COMPLETE)


def poll() -> bool:
    """Fetches and stores what is new. False when the channel is being shut down."""
    me = own_account()
    stored = inbox.cursor()
    since = json.loads(stored) if stored else {}
    messages = []
    for channel in json.loads(settings.get("channels") or "[]"):
        # Where a channel was never read, what was posted before is not for the agent.
        after = since.setdefault(channel, clock.now_ms())
        try:
            room = about(channel)
            found = mattermost.ask("GET", f"/channels/{mattermost.escaped(channel)}/posts?since={after}")
        except Err as failure:
            if not isinstance(failure.value, DeliveryError_NoSuchConversation):
                raise
            # The bot may have been removed from one channel; the others go on.
            log.write(log.Level.WARN, f"the channel {channel} is not read: {failure.value.value}")
            continue
        posts = sorted(readable(found), key=lambda post: post["update_at"])
        for post in posts:
            # Posts of the same millisecond may still come; those that were read fall out by their ids.
            since[channel] = max(since[channel], post["update_at"] - 1)
            try:
                if is_for_agent(post, me):
                    messages.append(inbound(post, me, room))
            except (KeyError, TypeError, AttributeError) as why:
                # One post that can't be read must not hide the others.
                log.write(log.Level.ERROR, f"a post is skipped, it can't be read: {why!r}")
    cursor = json.dumps(since, sort_keys=True)
    return cursor == stored or publish(messages, cursor)


def readable(found: dict) -> list[dict]:
    """Returns what looks like a post: a dictionary that says when it changed."""
    posts = found.get("posts")
    posts = posts.values() if isinstance(posts, dict) else []
    return [post for post in posts if isinstance(post, dict) and isinstance(post.get("update_at"), int)]


def about(channel: str) -> dict:
    """Returns a channel's type and name, asked for once and kept."""
    key = f"channel/{channel}"
    kept = state.get(key)
    if kept is not None:
        return json.loads(kept)
    found = mattermost.ask("GET", f"/channels/{mattermost.escaped(channel)}")
    room = {"is_direct": found.get("type") == "D", "title": str(found.get("display_name") or "")}
    state.set(key, json.dumps(room).encode())
    return room


def publish(messages, cursor: str) -> bool:
    """Stores messages with the cursor. While the gateway is full it waits as long as it is told."""
    while True:
        try:
            inbox.publish(messages, cursor)
            return True
        except Err as failure:
            if isinstance(failure.value, PublishError_ShuttingDown):
                return False
            if not isinstance(failure.value, PublishError_Busy):
                raise Err(DeliveryError_Rejected(failure.value.value))
            if not clock.sleep_ms(failure.value.value):
                return False


def own_account() -> dict:
    """Returns the bot's id and name, asked for once and kept: the next instance knows them too."""
    kept = state.get(ME_KEY)
    if kept is not None:
        return json.loads(kept)
    found = mattermost.ask("GET", "/users/me")
    me = {"id": str(found.get("id")), "username": str(found.get("username"))}
    state.set(ME_KEY, json.dumps(me).encode())
    return me
