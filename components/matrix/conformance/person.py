"""People on a homeserver, through matrix-nio: reads one JSON command a line, answers each with one JSON line.

Besides the answers, every event that a person's client sees in a room goes out as {"seen": event, "room": id}, and
everyone who types as {"typing": [user ids], "room": id}. What matrix-nio can't read as what it says it is goes out as
{"bad": event}.

usage: person.py HOMESERVER SHARED_SECRET
"""

import asyncio
import hashlib
import hmac
import io
import json
import sys
import traceback

import aiohttp
from nio import (
    AsyncClient,
    AsyncClientConfig,
    BadEvent,
    Event,
    RoomMessageText,
    TypingNoticeEvent,
    UnknownBadEvent,
)

BASE, SECRET = sys.argv[1], sys.argv[2]
clients = {}
http = None


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def checked(answer):
    """nio returns errors instead of raising them."""
    if type(answer).__name__.endswith("Error"):
        raise RuntimeError(f"{type(answer).__name__}: {answer}")
    return answer


async def call(method, path, body=None, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.request(method, BASE + path, json=body, headers=headers) as answer:
        read = await answer.json()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {read}")
        return read


async def register(name, admin=False):
    """Makes an account by Synapse's shared secret, and returns its id and token."""
    path = "/_synapse/admin/v1/register"
    nonce = (await call("GET", path))["nonce"]
    password = f"password-of-{name}"
    signed = "\0".join([nonce, name, password, "admin" if admin else "notadmin"])
    mac = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha1).hexdigest()
    body = {"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac}
    made = await call("POST", path, body)
    return {"user": made["user_id"], "token": made["access_token"], "device": made["device_id"]}


async def join_as(name, admin=False):
    """Registers a person and follows what their client sees."""
    made = await register(name, admin)
    client = AsyncClient(BASE, made["user"], config=AsyncClientConfig(encryption_enabled=False))
    client.restore_login(made["user"], made["device"], made["token"])

    def seen(room, event):
        if isinstance(event, (BadEvent, UnknownBadEvent)):
            say({"bad": event.source, "room": room.room_id})
        is_text = event.source.get("content", {}).get("msgtype") == "m.text"
        if is_text and not isinstance(event, RoomMessageText):
            say({"bad": event.source, "room": room.room_id})
        say({"seen": event.source, "room": room.room_id})

    def typing(room, event):
        say({"typing": event.users, "room": room.room_id})

    client.add_event_callback(seen, (Event, BadEvent, UnknownBadEvent))
    client.add_ephemeral_callback(typing, TypingNoticeEvent)
    clients[name] = client
    asyncio.create_task(client.sync_forever(timeout=20000, loop_sleep_time=0))
    return made


async def room(who, invite=(), name=None, encrypted=False):
    state = []
    if encrypted:
        content = {"algorithm": "m.megolm.v1.aes-sha2"}
        state.append({"type": "m.room.encryption", "state_key": "", "content": content})
    answer = await clients[who].room_create(name=name, invite=list(invite), initial_state=state)
    return {"room": checked(answer).room_id}


async def send(who, room, content, type="m.room.message", transaction=None):
    client = clients[who]
    answer = await client.room_send(room, type, content, tx_id=transaction, ignore_unverified_devices=True)
    return {"event": checked(answer).event_id}


async def upload(who, name, media_type, hex):
    data = bytes.fromhex(hex)
    answer, _ = await clients[who].upload(
        lambda *_: io.BytesIO(data), content_type=media_type, filename=name, filesize=len(data)
    )
    return {"url": checked(answer).content_uri}


async def download(who, url):
    answer = checked(await clients[who].download(url))
    return {"hex": answer.body.hex(), "media_type": answer.content_type}


async def act(command):
    verb = command.pop("do")
    if verb == "register":
        return await register(**command)
    if verb == "person":
        return await join_as(**command)
    if verb == "room":
        return await room(**command)
    if verb == "send":
        return await send(**command)
    if verb == "upload":
        return await upload(**command)
    if verb == "download":
        return await download(**command)
    if verb == "redact":
        answer = await clients[command["who"]].room_redact(command["room"], command["event"])
        return {"event": checked(answer).event_id}
    if verb == "invite":
        checked(await clients[command["who"]].room_invite(command["room"], command["user"]))
        return {}
    if verb == "join":
        checked(await clients[command["who"]].join(command["room"]))
        return {}
    if verb == "kick":
        checked(await clients[command["who"]].room_kick(command["room"], command["user"]))
        return {}
    if verb == "call":
        token = clients[command["who"]].access_token if "who" in command else command.get("token")
        return await call(command["method"], command["path"], command.get("body"), token)
    raise RuntimeError(f"unknown command {verb}")


async def main():
    global http
    # Synapse is on the loopback; a proxy of the environment would be in the way.
    http = aiohttp.ClientSession(trust_env=False)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        number = command.pop("number")
        try:
            say({"number": number, "answer": await act(command)})
        except Exception:
            say({"number": number, "failed": traceback.format_exc()})
    # The other end is gone, and whoever still syncs with it.
    await http.close()
    for client in clients.values():
        await client.close()


asyncio.run(main())
