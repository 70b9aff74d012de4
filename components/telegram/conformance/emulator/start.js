// Starts telegram-test-api on the loopback: `node start.js [PORT]`, 0 or nothing for a free one. Prints the port once it
// listens, and runs until it is killed.
'use strict';

const net = require('node:net');
const TelegramServer = require('telegram-test-api');

const HOST = '127.0.0.1';

// The emulator takes port 0 for its own default, so a free port has to be found before it starts.
function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once('error', reject);
    probe.listen(0, HOST, () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

async function main() {
  const wanted = Number(process.argv[2] || 0);
  if (!Number.isInteger(wanted) || wanted < 0 || wanted > 65535) {
    throw new Error(`no port: ${process.argv[2]}`);
  }
  const port = wanted || (await freePort());
  const server = new TelegramServer({ port, host: HOST, storeTimeout: 3600 });
  await server.start();
  console.log(port);
}

main().catch((error) => {
  console.error(`the emulator can't start: ${error.message}`);
  process.exit(1);
});
