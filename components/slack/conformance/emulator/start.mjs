// Starts the emulator of Slack's Web API on a free port of the loopback, and says which.
import { createServer } from "node:net";
import { createEmulator } from "emulate";

const free = await new Promise((found) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => found(port));
  });
});
await createEmulator({
  service: "slack",
  port: free,
  host: "127.0.0.1",
  seed: {
    slack: {
      team: { name: "Crew", domain: "crew" },
      users: [{ name: "sluice", real_name: "Sluice", email: "sluice@example.org" }, { name: "ada", real_name: "Ada", email: "ada@example.org" }],
      channels: [{ name: "general", topic: "" }],
    },
    tokens: { "xoxb-emulated": { login: "sluice", scopes: ["chat:write", "channels:history", "channels:read"] } },
  },
});
console.log(free);
