"""Drives the fake of Slack with slack_sdk, and exits non-zero where they disagree.

Usage: oracle.py ORIGIN BOT_TOKEN APP_TOKEN SIGNING_SECRET

A fake that only our own channel talks to proves nothing: here Slack's own library, which knows nothing of the fake,
posts, edits, uploads, runs into a limit, receives over Socket Mode, loses its connection in two ways, and checks the
signature of calls.
"""

import json
import sys
import threading
import time
import urllib.request

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse

ORIGIN, BOT_TOKEN, APP_TOKEN, SECRET = sys.argv[1:5]
CHANNEL, DIRECT = "C900", "D901"


def order(what, **fields):
    body = json.dumps({"do": what, **fields}).encode()
    request = urllib.request.Request(
        f"{ORIGIN}/control/do", data=body, method="POST", headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def state():
    with urllib.request.urlopen(f"{ORIGIN}/control/state", timeout=30) as answer:
        return json.load(answer)


def check(condition, words):
    if not condition:
        raise AssertionError(words)


def until(look, words, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"in vain: {words}")


def refused(word, call, **params):
    try:
        call(**params)
        check(False, f"{word} was to come")
    except SlackApiError as refusal:
        check(refusal.response["error"] == word, f"{word} was to come: {refusal}")


def web(client):
    me = client.auth_test()
    check(me["user_id"] == "U700" and me["bot_id"] == "B700", me)
    posted = client.chat_postMessage(channel=CHANNEL, text="hello")
    answer = client.chat_postMessage(channel=CHANNEL, text="in a thread", thread_ts=posted["ts"])
    check(answer["message"]["thread_ts"] == posted["ts"], answer)
    changed = client.chat_update(channel=CHANNEL, ts=posted["ts"], text="hello again")
    check(changed["text"] == "hello again", changed)
    client.reactions_add(channel=CHANNEL, timestamp=posted["ts"], name="thumbsup")
    client.chat_delete(channel=CHANNEL, ts=answer["ts"])
    file = client.files_upload_v2(channel=CHANNEL, content="buy milk", filename="notes.txt", thread_ts=posted["ts"])
    check(file["file"]["id"].startswith("F"), file)
    mark = {"event_type": "sluicegate_delivery", "event_payload": {"delivery_key": "dlv_1", "part": 0}}
    marked = client.chat_postMessage(channel=CHANNEL, text="marked", metadata=mark)
    client.chat_postMessage(channel=CHANNEL, text="marked below", thread_ts=marked["ts"], metadata=mark)
    client.chat_postMessage(channel=CHANNEL, text="after it")

    def listed(pages):
        return [(one["text"], one.get("metadata")) for page in pages for one in page["messages"]]

    fields = {"channel": CHANNEL, "oldest": posted["ts"], "include_all_metadata": True}
    newest_first = listed(client.conversations_history(limit=1, **fields))
    check(newest_first[:2] == [("after it", None), ("marked", mark)], newest_first)
    replies = listed(client.conversations_replies(ts=marked["ts"], limit=1, **fields))
    check(replies == [("marked", mark), ("marked below", mark)], replies)
    client.assistant_threads_setStatus(channel_id=DIRECT, thread_ts=posted["ts"], status="is thinking…")


def refusals(client):
    refused("channel_not_found", client.chat_postMessage, channel="C404", text="x")
    refused("no_text", client.chat_postMessage, channel=CHANNEL, text=" ")
    refused("msg_too_long", client.chat_postMessage, channel=CHANNEL, text="x" * 40_001)
    refused("message_not_found", client.chat_update, channel=CHANNEL, ts="1.2", text="x")
    refused("invalid_auth", WebClient(token="xoxb-wrong", base_url=f"{ORIGIN}/api/").auth_test)
    refused("not_allowed_token_type", WebClient(token=APP_TOKEN, base_url=f"{ORIGIN}/api/").auth_test)
    order("limit", method="chat.postMessage", channel=CHANNEL)
    started = time.monotonic()
    client.chat_postMessage(channel=CHANNEL, text="after a while")
    check(time.monotonic() - started >= 1, "the client waits as Retry-After says")


def sockets(client):
    heard, socket = [], SocketModeClient(app_token=APP_TOKEN, web_client=client)

    def listen(listening, request):
        listening.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        event = request.payload.get("event", {})
        if not event.get("bot_id"):
            heard.append(event)

    socket.socket_mode_request_listeners.append(listen)
    socket.connect()

    def said(text):
        return until(lambda: [event for event in heard if event.get("text") == text], f"the event of {text!r}")

    order("say", channel=DIRECT, fields={"text": "in private"})
    check(said("in private")[0]["channel_type"] == "im", heard)
    order("say", channel=CHANNEL, fields={"text": "<@U700> hello"})
    until(lambda: {event["type"] for event in heard} >= {"message", "app_mention"}, "a mention comes twice")
    file = order("file", name="list.txt", text="eggs")
    order("say", channel=DIRECT, fields={"text": "a file", "subtype": "file_share", "files": [file]})
    url = said("a file")[0]["files"][0]["url_private_download"]
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {BOT_TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        check(answer.read() == b"eggs", "the file is what was stored")
    for loss in ["refresh", "drop"]:
        order(loss)
        order("say", channel=DIRECT, fields={"text": f"during {loss}"})
        said(f"during {loss}")
    until(lambda: state()["unacknowledged"] == 0, "every event is acknowledged")
    socket.close()


def signatures():
    verifier, body, now = SignatureVerifier(SECRET), '{"type":"event_callback"}', int(time.time())
    headers = order("sign", body=body, timestamp=now)
    check(verifier.is_valid_request(body, headers), "the signature is Slack's")
    check(not verifier.is_valid_request(body + " ", headers), "of this body only")
    old = order("sign", body=body, timestamp=now - 301)
    check(not verifier.is_valid_request(body, old), "and of this time")


client = WebClient(token=BOT_TOKEN, base_url=f"{ORIGIN}/api/")
client.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=2))
for part in [lambda: web(client), lambda: refusals(client), lambda: sockets(client), signatures]:
    part()
check(state()["violations"] == [], state()["violations"])
print("fine", flush=True)
# The library's threads are of no more use.
threading.excepthook = lambda _: None
