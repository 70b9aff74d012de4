"""Drives the fake Bot API with python-telegram-bot and aiogram, and exits non-zero where they disagree with it.

Usage: oracle.py URL TOKEN [ptb|aiogram]...

A fake that only our own channel talks to proves nothing: here the platform's mainstream client libraries, which know
nothing of the fake, poll it, send, edit, upload, download and run into its limits.
"""

import asyncio
import io
import json
import logging
import sys
import urllib.error
import urllib.parse
import urllib.request

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001"
    "e221bc330000000049454e44ae426082"
)


class Control:
    """The tests' side of the fake, over HTTP."""

    def __init__(self, base):
        self.base = base

    def _get(self, path, **query):
        with urllib.request.urlopen(f"{self.base}/control/{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return json.load(answer)

    def do(self, order, **fields):
        body = json.dumps({"do": order, **fields}).encode()
        request = urllib.request.Request(f"{self.base}/control/do", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["result"]

    def fail(self, method, answer, count=1, accepted=False):
        self.do("fail", method=method, count=count, fault={"accepted": accepted, "answer": answer})

    def calls(self, method):
        return self._get("calls", method=method)

    def messages(self, chat):
        return self._get("messages", chat=chat)

    def state(self):
        return self._get("state")


def same(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r}, wanted {wanted!r}")
    print(f"ok  {what}")


async def refusal(what, awaitable, kind, words):
    try:
        await awaitable
    except kind as error:
        if words.lower() not in str(error).lower():
            raise AssertionError(f"{what}: {error!r} does not say {words!r}") from error
        print(f"ok  {what}: {error}")
        return error
    raise AssertionError(f"{what}: nothing was refused")


async def python_telegram_bot(base, token, control):
    import telegram
    from telegram import InlineKeyboardButton, InlineKeyboardMarkup, ReplyParameters, Update
    from telegram import error as failure
    from telegram.ext import Application, CallbackQueryHandler, MessageHandler, MessageReactionHandler, filters

    chat, user = 4101, 4101
    inbox = asyncio.Queue()
    application = (
        Application.builder().token(token).base_url(f"{base}/bot").base_file_url(f"{base}/file/bot").build()
    )

    async def keep(update, _context):
        await inbox.put(update)

    application.add_handler(CallbackQueryHandler(keep))
    application.add_handler(MessageReactionHandler(keep))
    application.add_handler(MessageHandler(filters.ALL, keep))

    async def next_update():
        return await asyncio.wait_for(inbox.get(), 20)

    async with application:
        bot = application.bot
        same("ptb getMe", ((await bot.get_me()).is_bot, str(bot.id)), (True, token.split(":")[0]))
        await application.start()
        await application.updater.start_polling(
            timeout=5, poll_interval=0, bootstrap_retries=0, allowed_updates=Update.ALL_TYPES
        )

        control.do("say", chat=chat, user=user, text="/start hello @somebody 😀")
        update = await next_update()
        same("ptb text", (update.message.text, update.message.chat.type), ("/start hello @somebody 😀", "private"))
        entities = update.message.parse_entities()
        same("ptb entities", sorted(entities.values()), ["/start", "@somebody"])

        keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="yes")]])
        answer = await bot.send_message(
            chat,
            "<b>bold</b> &amp; <a href='https://example.org/'>link</a>",
            parse_mode="HTML",
            reply_parameters=ReplyParameters(update.message.message_id),
            reply_markup=keyboard,
        )
        same("ptb answer", answer.text, "bold & link")
        same("ptb answer entities", [entity.type for entity in answer.entities], ["bold", "text_link"])
        same("ptb answered message", answer.reply_to_message.message_id, update.message.message_id)

        control.do("press", chat=chat, user=user, message_id=answer.message_id, data="yes")
        query = (await next_update()).callback_query
        same("ptb pressed button", (query.data, query.message.message_id), ("yes", answer.message_id))
        same("ptb answered query", await query.answer(), True)
        await refusal("ptb query twice", query.answer(), failure.BadRequest, "query is too old")

        edited = await bot.edit_message_text("second", chat, answer.message_id)
        same("ptb edit", (edited.text, edited.edit_date is not None), ("second", True))
        await refusal(
            "ptb same edit", bot.edit_message_text("second", chat, answer.message_id), failure.BadRequest, "not modified"
        )
        await refusal("ptb edit of nothing", bot.edit_message_text("x", chat, 999_999), failure.BadRequest, "not found")

        same("ptb 4096", len((await bot.send_message(chat, "x" * 4096)).text), 4096)
        await refusal("ptb 4097", bot.send_message(chat, "x" * 4097), failure.BadRequest, "message is too long")
        await refusal("ptb 2049 emoji", bot.send_message(chat, "😀" * 2049), failure.BadRequest, "message is too long")
        html = "<b>" + "x" * 4096 + "</b>"
        same("ptb 4096 parsed", len((await bot.send_message(chat, html, parse_mode="HTML")).text), 4096)
        await refusal(
            "ptb bad tag", bot.send_message(chat, "<h1>x</h1>", parse_mode="HTML"), failure.BadRequest, "can't parse entities"
        )
        await refusal("ptb empty", bot.send_message(chat, "   "), failure.BadRequest, "text is empty")
        await refusal("ptb unknown chat", bot.send_message(31_337, "x"), failure.BadRequest, "chat not found")

        control.fail("sendMessage", {"api": {"code": 429, "description": "Too Many Requests: retry after 3", "retry_after": 3}})
        limited = await refusal("ptb 429", bot.send_message(chat, "x"), failure.RetryAfter, "retry in 3 seconds")
        wait = limited.retry_after
        same("ptb retry_after", int(wait if isinstance(wait, int) else wait.total_seconds()), 3)
        control.fail("sendMessage", {"gateway": 502})
        await refusal("ptb 502", bot.send_message(chat, "x"), failure.NetworkError, "bad gateway")
        before = len(control.messages(chat))
        control.fail("sendMessage", "close", accepted=True)
        await refusal("ptb lost answer", bot.send_message(chat, "ambiguous"), failure.NetworkError, "")
        same("ptb lost answer was sent", len(control.messages(chat)), before + 1)
        control.fail("sendMessage", "hang")
        await refusal("ptb no answer", bot.send_message(chat, "x", read_timeout=0.3), failure.TimedOut, "timed out")

        document = await bot.send_document(chat, io.BytesIO(b"report"), filename="report.txt", caption="here")
        same("ptb document", (document.document.file_name, document.caption), ("report.txt", "here"))
        upload = control.calls("sendDocument")[-1]["files"][0]
        same("ptb upload", (upload["file_name"], upload["text"]), ("report.txt", "report"))
        photo = await bot.send_photo(chat, io.BytesIO(PNG), filename="dot.png")
        same("ptb photo", len(photo.photo), 1)
        await refusal(
            "ptb no photo", bot.send_photo(chat, io.BytesIO(b"text"), filename="a.png"), failure.BadRequest, "image_process"
        )
        file_id = control.do("file", name="notes.txt", text="from a person")
        fields = {
            "caption": "look",
            "document": {"file_id": file_id, "file_unique_id": "u1", "file_name": "notes.txt", "file_size": 13},
        }
        control.do("message", chat=chat, user=user, fields=fields)
        update = await next_update()
        content = await (await update.message.document.get_file()).download_as_bytearray()
        same("ptb download", (update.message.caption, bytes(content)), ("look", b"from a person"))

        same("ptb typing", await bot.send_chat_action(chat, "typing"), True)
        same("ptb reaction", await bot.set_message_reaction(chat, answer.message_id, "👍"), True)
        await refusal(
            "ptb odd reaction", bot.set_message_reaction(chat, answer.message_id, "🧇"), failure.BadRequest, "reaction_invalid"
        )
        control.do("react", chat=chat, user=user, message_id=answer.message_id, emoji="🔥")
        reaction = (await next_update()).message_reaction
        same("ptb reacted", reaction.new_reaction[0].emoji, "🔥")
        control.do("edit", chat=chat, message_id=update.message.message_id, text="changed")
        same("ptb edited", (await next_update()).edited_message.text, "changed")

        forum = -1001000004101
        control.do("forum", chat=forum, topics=[77])
        message = await bot.send_message(forum, "in a topic", message_thread_id=77)
        same("ptb topic", (message.message_thread_id, message.is_topic_message), (77, True))
        await refusal(
            "ptb no topic", bot.send_message(forum, "x", message_thread_id=78), failure.BadRequest, "thread not found"
        )

        same("ptb delete", await bot.delete_message(chat, answer.message_id), True)
        await refusal("ptb delete twice", bot.delete_message(chat, answer.message_id), failure.BadRequest, "not found")

        control.do("chat", chat=chat, state="blocked")
        await refusal("ptb blocked", bot.send_message(chat, "x"), failure.Forbidden, "blocked by the user")
        control.do("chat", chat=chat, state={"migrated-to": -100777})
        moved = await refusal("ptb migrated", bot.send_message(chat, "x"), failure.ChatMigrated, "migrated")
        same("ptb migrated to", moved.new_chat_id, -100777)
        control.do("chat", chat=chat, state="open")

        await application.updater.stop()
        # Whichever of the two calls is the older one is ended by the newer one.
        async with telegram.Bot(token, f"{base}/bot") as one, telegram.Bot(token, f"{base}/bot") as two:
            polls = await asyncio.gather(one.get_updates(timeout=1), two.get_updates(timeout=1), return_exceptions=True)
        conflicts = [poll for poll in polls if isinstance(poll, failure.Conflict)]
        same("ptb two pollers", (len(conflicts), list(polls).count(())), (1, 1))
        same("ptb conflict", "terminated by other getUpdates request" in str(conflicts[0]), True)

        same("ptb setWebhook", await bot.set_webhook("https://example.org/hook", secret_token="s-3_cret"), True)
        same("ptb webhook info", (await bot.get_webhook_info()).url, "https://example.org/hook")
        await refusal("ptb poll with webhook", bot.get_updates(), failure.Conflict, "webhook is active")
        same("ptb deleteWebhook", await bot.delete_webhook(), True)
        await refusal("ptb http webhook", bot.set_webhook("http://example.org/"), failure.BadRequest, "HTTPS URL")
        await application.stop()

    stranger = telegram.Bot("1:wrong", base_url=f"{base}/bot")
    await refusal("ptb wrong token", stranger.get_me(), failure.InvalidToken, "")


async def aiogram(base, token, control):
    from aiogram import Bot, Dispatcher
    from aiogram import exceptions as failure
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer
    from aiogram.types import BufferedInputFile, ReplyParameters

    chat, user = 4202, 4202
    inbox = asyncio.Queue()
    session = AiohttpSession(api=TelegramAPIServer.from_base(base))
    async with Bot(token, session=session) as bot:
        dispatcher = Dispatcher()

        @dispatcher.message()
        async def keep(message):
            await inbox.put(message)

        same("aiogram getMe", (await bot.get_me()).is_bot, True)
        polling = asyncio.create_task(dispatcher.start_polling(bot, polling_timeout=5, handle_signals=False))
        control.do("say", chat=chat, user=user, text="hello")
        message = await asyncio.wait_for(inbox.get(), 20)
        same("aiogram text", message.text, "hello")
        answer = await bot.send_message(
            chat, "<i>hi</i>", parse_mode="HTML", reply_parameters=ReplyParameters(message_id=message.message_id)
        )
        same("aiogram answer", (answer.text, answer.reply_to_message.message_id), ("hi", message.message_id))
        edited = await bot.edit_message_text("two", chat_id=chat, message_id=answer.message_id)
        same("aiogram edit", edited.text, "two")
        await refusal("aiogram too long", bot.send_message(chat, "x" * 4097), failure.TelegramBadRequest, "too long")
        control.fail("sendMessage", {"api": {"code": 429, "description": "Too Many Requests: retry after 2", "retry_after": 2}})
        limited = await refusal("aiogram 429", bot.send_message(chat, "x"), failure.TelegramRetryAfter, "retry after 2")
        same("aiogram retry_after", limited.retry_after, 2)
        document = await bot.send_document(chat, BufferedInputFile(b"data", "data.bin"))
        same("aiogram document", document.document.file_name, "data.bin")
        file_id = control.do("file", name="a.txt", text="bytes")
        same("aiogram download", (await bot.download(file_id)).read(), b"bytes")
        control.do("chat", chat=chat, state="kicked")
        await refusal("aiogram kicked", bot.send_message(chat, "x"), failure.TelegramForbiddenError, "kicked")
        control.do("chat", chat=chat, state="open")
        await dispatcher.stop_polling()
        await polling


ORACLES = {"ptb": python_telegram_bot, "aiogram": aiogram}


def main(arguments):
    if len(arguments) < 2 or any(name not in ORACLES for name in arguments[2:]):
        print(__doc__, file=sys.stderr)
        return 2
    base, token, *names = arguments
    control = Control(base)
    # The libraries log each ordered failure with its trace; what counts is what they raise.
    logging.disable(logging.CRITICAL)
    for name in names or ORACLES:
        asyncio.run(asyncio.wait_for(ORACLES[name](base, token, control), 120))
    same("violations", control.state()["violations"], [])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
