"""Mattermost's posts as inbound messages. Pure: nothing here calls the gateway."""

from wit_world.imports.types import Conversation, ConversationKind, EventKind, InboundMessage, Sender


def is_for_agent(post: dict, me: dict) -> bool:
    """Says whether a person wrote it: not the bot itself, no other program, and nothing that the server says."""
    props = post.get("props") or {}
    by_program = props.get("from_bot") == "true" or props.get("from_webhook") == "true"
    is_gone = bool(post.get("delete_at"))
    return not (by_program or is_gone or post.get("type") or post.get("user_id") == me["id"])


def inbound(post: dict, me: dict, room: dict) -> InboundMessage:
    edited_at = post.get("edit_at") or 0
    return InboundMessage(
        kind=EventKind.EDIT if edited_at else EventKind.MESSAGE,
        # An edit is an event of its own.
        id=f"{post['id']}@{edited_at}" if edited_at else post["id"],
        conversation=Conversation(
            id=post["channel_id"],
            thread=post.get("root_id") or None,
            kind=ConversationKind.DIRECT if room["is_direct"] else ConversationKind.GROUP,
            title=room["title"] or None,
        ),
        sender=Sender(id=post["user_id"], name=None, bot=False),
        text=post["message"],
        attachments=[],
        in_reply_to=post["id"] if edited_at else None,
        value=None,
        sent_at_ms=edited_at or post.get("create_at"),
        # Among several people the agent is meant where its name is.
        addressed=room["is_direct"] or f"@{me['username']}" in post["message"].lower(),
        extra=[],
    )
