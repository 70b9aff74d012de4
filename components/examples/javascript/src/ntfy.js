// Calls of ntfy, and what its refusals mean.

import http from "sluicegate:channel/http@0.1.0";
import secrets from "sluicegate:channel/secrets@0.1.0";
import settings from "sluicegate:channel/settings@0.1.0";

import { utf8 } from "./text.js";

// Where a server that limits the rate does not say how long.
const RATE_LIMIT_WAIT_MS = 10000;

// Asks the server and returns its text. Throws a `delivery-error`.
export function ask(method, path, body) {
  const headers = [];
  // The value never comes here: the gateway puts it in.
  if (secrets.available("token")) headers.push(["Authorization", "Bearer {{token}}"]);
  let content = { tag: "empty" };
  if (body !== undefined) {
    headers.push(["Content-Type", "application/json"]);
    // What a person wrote can never become a placeholder.
    content = { tag: "bytes", val: utf8.encode(JSON.stringify(body).replaceAll("{{", "{\\u007b")) };
  }
  const url = settings.get("server").replace(/\/+$/, "") + path;
  let response;
  try {
    response = http.send({ method, url, headers, body: content, timeoutMs: null });
  } catch (failure) {
    throw fromHttp(failure.payload ?? failure);
  }
  const text = utf8.decode(response.body);
  if (response.status >= 200 && response.status < 300) return text;
  throw fromStatus(response, text);
}

// Nothing left the gateway, unless it says that the request was interrupted.
function fromHttp(error) {
  const words = `${error.tag}: ${error.val ?? ""}`;
  if (error.tag === "interrupted") return { tag: "ambiguous", val: words };
  if (error.tag === "invalid" || error.tag === "too-large") return { tag: "rejected", val: words };
  return { tag: "unavailable", val: words };
}

// docs.ntfy.sh/publish, section "Limitations", and the server's own codes.
function fromStatus(response, text) {
  const words = `ntfy answered ${response.status}: ${text.slice(0, 200)}`;
  switch (response.status) {
    case 401:
      return { tag: "unauthorized", val: words };
    case 403:
      return { tag: "no-such-conversation", val: words };
    case 429: {
      const asked = response.headers.find(([name]) => name.toLowerCase() === "retry-after");
      const retryAfterMs = Number(asked?.[1]) * 1000 || RATE_LIMIT_WAIT_MS;
      return { tag: "rate-limited", val: { retryAfterMs, scope: "channel" } };
    }
    case 500:
    case 502:
    case 504:
      return { tag: "ambiguous", val: words };
    case 503:
      return { tag: "unavailable", val: words };
    default:
      return { tag: "rejected", val: words };
  }
}

// What was thrown, as a `delivery-error`; a fault of this program's own is one that trying again may mend.
export function asDeliveryError(failure) {
  const error = failure?.payload ?? failure;
  return error?.tag ? error : { tag: "unavailable", val: String(failure) };
}

export function asWords(error) {
  return typeof error.val === "string" ? error.val : error.tag;
}
