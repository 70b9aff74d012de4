// What the channel says of itself, in an instance without any capability.

export function describe() {
  const server = { host: "{server}", port: null };
  return {
    name: "ntfy-chat",
    version: "0.1.0",
    summary: "A topic of ntfy as a conversation (JavaScript)",
    features: {},
    settings: [
      setting("server", "The ntfy server", "text", { fallback: "https://ntfy.sh" }),
      setting("topic", "The topic: whoever knows it can write to the agent", "text", { required: true }),
      setting("poll-seconds", "How long to wait between two polls", "number", { fallback: "5" }),
    ],
    secrets: [
      {
        name: "token",
        summary: "An access token, where the server wants one",
        required: false,
        hosts: ["{server}"],
        placements: { header: true },
        reveal: false,
      },
    ],
    endpoints: [
      { ...server, scheme: "https", reason: "the ntfy server" },
      { ...server, scheme: "http", reason: "a server on your own network" },
    ],
    webhook: null,
    deduplicatesForS: null,
    // ntfy keeps messages for twelve hours (docs.ntfy.sh/faq).
    replaysForS: 12 * 3600,
    singleReceiver: false,
    terminal: false,
    folder: undefined,
  };
}

function setting(key, summary, kind, { required = false, fallback = null } = {}) {
  return { key, summary, kind, required, default: fallback };
}
