"""Drives the fake of Discord with discord.py, and exits non-zero where they disagree.

Usage: oracle.py ORIGIN TOKEN

A fake that only our own channel talks to proves nothing: here the platform's mainstream client, which knows nothing of
the fake, logs in, receives, answers, edits, uploads, runs into a limit, and loses its connection in three ways.
"""

import asyncio
import io
import json
import sys
import urllib.request

import discord
import discord.gateway
import discord.http
import yarl

ORIGIN, TOKEN = sys.argv[1], sys.argv[2]
CHANNEL, DIRECT, THREAD = 900, 901, 950

discord.http.Route.BASE = f"{ORIGIN}/api/v10"
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(ORIGIN.replace("http", "ws") + "/gw")


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


class Client(discord.Client):
    def __init__(self):
        intents = discord.Intents.default()
        intents.message_content = True
        super().__init__(intents=intents, allowed_mentions=discord.AllowedMentions.none())
        self.heard, self.edited, self.resumed = asyncio.Queue(), asyncio.Queue(), asyncio.Event()
        self.up = asyncio.Event()

    async def on_ready(self):
        self.up.set()

    async def on_resumed(self):
        self.resumed.set()

    async def on_message(self, message):
        if message.author.id != self.user.id:
            await self.heard.put(message)

    async def on_message_edit(self, before, after):
        if after.author.id != self.user.id:
            await self.edited.put(after)


def check(condition, words):
    if not condition:
        raise AssertionError(words)


async def within(awaitable, words, seconds=20):
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except asyncio.TimeoutError:
        raise AssertionError(f"in vain: {words}") from None


async def messages(client):
    order("say", channel=str(CHANNEL), fields={"content": "hello"})
    heard = await within(client.heard.get(), "a message in the channel")
    check(heard.content == "hello" and heard.guild.id == 800 and heard.author.name == "ada", heard)
    sent = await heard.reply("hi", nonce="n-1", mention_author=False)
    check(sent.content == "hi" and sent.reference.message_id == heard.id, sent)
    again = await heard.channel.send("hi", nonce="n-1")
    check(again.id == sent.id, "an enforced nonce returns the first message")
    await sent.edit(content="hi there")
    async with heard.channel.typing():
        pass
    await sent.add_reaction("\N{THUMBS UP SIGN}")
    order("edit", id=str(heard.id), text="hello again")
    edited = await within(client.edited.get(), "an edit")
    check(edited.content == "hello again", edited)
    await sent.delete()
    try:
        await sent.delete()
        check(False, "what is gone can't be deleted")
    except discord.NotFound as refusal:
        check(refusal.code == 10008, refusal)


async def places_and_files(client):
    order("say", channel=str(DIRECT), fields={"content": "in private"})
    heard = await within(client.heard.get(), "a direct message")
    check(isinstance(heard.channel, discord.DMChannel), heard.channel)
    file = order("file", name="notes.txt", text="buy milk")
    order("say", channel=str(THREAD), fields={"content": "a file", "attachments": [file]})
    heard = await within(client.heard.get(), "a message in the thread")
    check(isinstance(heard.channel, discord.Thread) and heard.channel.parent_id == CHANNEL, heard.channel)
    check(await heard.attachments[0].read() == b"buy milk", "the file is what was stored")
    sent = await heard.channel.send("and one back", file=discord.File(io.BytesIO(b"done"), "list.txt"))
    check([file.filename for file in sent.attachments] == ["list.txt"], sent.attachments)


async def refusals(client):
    channel = client.get_channel(CHANNEL)
    order("too-many", method="POST", path=f"/channels/{CHANNEL}/messages", seconds=0.3)
    sent = await within(channel.send("after a while"), "a message after a 429")
    check(sent.content == "after a while", sent)
    order("fail", method="POST", path=f"/channels/{CHANNEL}/messages", status=502)
    await within(channel.send("after a failure"), "a message after a 502")
    for bad, code in [("x" * 2001, 50035), ("", 50006)]:
        try:
            await channel.send(bad)
            check(False, f"{len(bad)} characters were taken")
        except discord.HTTPException as refusal:
            check(refusal.code == code, refusal)
    # More than a bucket holds: the client waits as the headers say, and none is refused.
    await within(asyncio.gather(*(channel.send(str(n)) for n in range(8))), "eight messages")


async def connections(client):
    for loss in ["reconnect", "drop"]:
        client.resumed.clear()
        order(loss)
        order("say", channel=str(CHANNEL), fields={"content": f"during {loss}"})
        await within(client.resumed.wait(), f"a resumed session after {loss}")
        heard = await within(client.heard.get(), f"what was said during {loss}")
        check(heard.content == f"during {loss}", heard)
    client.up.clear()
    order("invalidate")
    await within(client.up.wait(), "a new session", 40)


async def main():
    client = Client()
    running = asyncio.create_task(client.start(TOKEN))
    ready = asyncio.create_task(client.up.wait())
    await within(asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED), "the client is up")
    if running.done():
        running.result()
    for part in [messages, places_and_files, refusals, connections]:
        await part(client)
        print(f"{part.__name__}: fine", flush=True)
    seen = state()
    check(seen["violations"] == [], seen["violations"])
    check((seen["identified"], seen["resumed"]) == (2, 2), seen)
    await client.close()


asyncio.run(main())
