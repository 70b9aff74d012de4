// A topic of ntfy (ntfy.sh, or a server of your own) as a conversation: what is published there is said to the agent, and
// the agent's answers are published there too.
//
// The exports are the contract's interfaces by name. Where the contract has a `result`, a function returns the good value
// and throws the bad one.

import clock from "sluicegate:channel/clock@0.1.0";
import inbox from "sluicegate:channel/inbox@0.1.0";
import log from "sluicegate:channel/log@0.1.0";
import progress from "sluicegate:channel/progress@0.1.0";
import settings from "sluicegate:channel/settings@0.1.0";
import state from "sluicegate:channel/state@0.1.0";

import { describe } from "./description.js";
import { ask, asDeliveryError, asWords } from "./ntfy.js";
import { split, utf8 } from "./text.js";

// ntfy takes 4,096 bytes, and makes a file of what is longer (docs.ntfy.sh/publish).
const MESSAGE_BYTES_MAX = 4000;
// What marks the agent's messages: they come back with the next poll, and must not be answered.
const OWN_TAG = "robot";
// Ids of our own messages that are kept, for a server that drops tags: more than a poll brings.
const OWN_IDS_MAX = 200;
const OWN_IDS_KEY = "own-ids";
const BACKOFF_MS = { first: 1000, longest: 60000 };

export const descriptor = { describe };

export const listener = {
  // Returns when the gateway shuts the channel down: every import that waits then says so.
  run() {
    const pauseMs = 1000 * Number(settings.get("poll-seconds"));
    let backoffMs = BACKOFF_MS.first;
    for (;;) {
      let waitMs = pauseMs;
      try {
        if (!poll()) return;
        backoffMs = BACKOFF_MS.first;
      } catch (failure) {
        const error = asDeliveryError(failure);
        // Asking again would get the same answer: the gateway pauses the channel until the operator has acted.
        if (error.tag === "unauthorized") throw { tag: "refused", val: asWords(error) };
        waitMs = error.tag === "rate-limited" ? error.val.retryAfterMs : backoffMs;
        backoffMs = Math.min(backoffMs * 2, BACKOFF_MS.longest);
        log.write("warn", `polling failed, the next try comes in ${waitMs} ms: ${asWords(error)}`);
      }
      if (!clock.sleepMs(waitMs)) return;
    }
  },
};

// Fetches and stores what is new. False when the channel is being shut down.
function poll() {
  const topic = settings.get("topic");
  const stored = inbox.cursor();
  // Without a cursor this is the first poll ever: what is older than it is not for the agent.
  const since = stored ?? String(Math.floor(clock.nowMs() / 1000));
  const lines = ask("GET", `/${encodeURIComponent(topic)}/json?poll=1&since=${encodeURIComponent(since)}`).split("\n");
  const events = lines.filter((line) => line.trim() !== "").map(parsed).filter((event) => event?.event === "message" && event.id);
  const own = new Set(ownIds());
  const messages = events
    .filter((event) => !own.has(event.id) && ![event.tags].flat().includes(OWN_TAG))
    .map((event) => inbound(topic, event));
  const cursor = events.length > 0 ? events[events.length - 1].id : since;
  return cursor === stored || publish(messages, cursor);
}

// A line that is no JSON must not hide the others.
function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    log.write("error", "a line of ntfy's answer is skipped, it can't be read");
    return null;
  }
}

function inbound(topic, event) {
  const file = event.attachment;
  const word = (value) => (typeof value === "string" ? value : null);
  return {
    kind: "message",
    id: String(event.id),
    conversation: { id: topic, thread: null, kind: "direct", title: null },
    // ntfy does not know who publishes: whoever knows the topic speaks for it.
    sender: { id: topic, name: word(event.title), bot: false },
    text: word(event.message) ?? "",
    attachments: word(file?.url)
      ? [{ name: word(file.name), mediaType: word(file.type) ?? "application/octet-stream", source: { tag: "url", val: file.url } }]
      : [],
    inReplyTo: null,
    value: null,
    sentAtMs: Number.isSafeInteger(event.time) ? event.time * 1000 : null,
    addressed: true,
    extra: [],
  };
}

// Stores messages with the cursor. While the gateway is full it waits as long as it is told.
function publish(messages, cursor) {
  for (;;) {
    try {
      inbox.publish(messages, cursor);
      return true;
    } catch (failure) {
      const error = failure.payload ?? failure;
      if (error.tag === "shutting-down") return false;
      if (error.tag === "invalid") throw { tag: "rejected", val: error.val };
      if (!clock.sleepMs(error.val)) return false;
    }
  }
}

export const delivery = {
  deliver(message) {
    if (message.action.tag !== "send") throw { tag: "rejected", val: "ntfy can only send" };
    const links = message.attachments.map((file) => file.source.tag === "url" ? `\n${file.source.val}` : "");
    const parts = split(message.text + links.join(""), MESSAGE_BYTES_MAX);
    if (parts.length === 0) throw { tag: "rejected", val: "there is nothing to send" };
    const sent = new Map(message.alreadySent.map((part) => [part.index, part.messageId]));
    parts.forEach((text, index) => {
      if (sent.has(index)) return;
      const body = { topic: message.conversation.id, message: text, markdown: true, tags: [OWN_TAG] };
      const id = String(JSON.parse(ask("POST", "/", body)).id);
      progress.sent(message.deliveryKey, index, id);
      sent.set(index, id);
      keepOwnId(id);
    });
    return { messageIds: [...sent.keys()].sort((a, b) => a - b).map((index) => sent.get(index)), confirmation: "complete" };
  },
};

function ownIds() {
  const stored = state.get(OWN_IDS_KEY);
  return stored ? JSON.parse(utf8.decode(stored)) : [];
}

// Calls run side by side in instances of their own, so what changes meanwhile is read again.
function keepOwnId(id) {
  for (;;) {
    const stored = state.get(OWN_IDS_KEY);
    const ids = [...(stored ? JSON.parse(utf8.decode(stored)) : []), id].slice(-OWN_IDS_MAX);
    if (state.swap(OWN_IDS_KEY, stored, utf8.encode(JSON.stringify(ids)))) return;
  }
}
