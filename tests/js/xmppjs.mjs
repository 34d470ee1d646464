// @xmpp/client driven by a test: options as JSON in the first argument, commands as JSON lines on standard input,
// everything that happens as JSON lines on standard output.
import readline from 'node:readline';
import { client } from '@xmpp/client';
import parse from '@xmpp/xml/lib/parse.js';
import WebSocket from 'ws';

globalThis.WebSocket = WebSocket;

const xmpp = client(JSON.parse(process.argv[2]));
const say = (kind, value) => console.log(JSON.stringify({ kind, value: String(value ?? '') }));

xmpp.streamManagement.requestAckDebounce = 50;
xmpp.streamManagement.requestAckInterval = 500;
xmpp.reconnect.delay = 200;
xmpp.on('online', (address) => say('online', address));
xmpp.on('stanza', (stanza) => say('stanza', stanza));
xmpp.on('error', (error) => say('error', error));
xmpp.on('disconnect', () => say('disconnect'));
xmpp.on('offline', () => say('offline'));
xmpp.streamManagement.on('resumed', () => say('resumed', xmpp.streamManagement.id));
xmpp.streamManagement.on('fail', (stanza) => say('unacknowledged', stanza));
xmpp.streamManagement.on('ack', (stanza) => say('acknowledged', stanza));

const commands = {
  send: (text) => xmpp.send(parse(text)),
  // Cut the connection as a broken network does: without closing the stream.
  cut: () => {
    let socket = xmpp.socket;
    while (!socket.terminate && !socket.destroy) socket = socket.socket;
    (socket.terminate ?? socket.destroy).call(socket);
  },
  stop: () => xmpp.stop().then(() => process.exit(0)),
};
readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { command, value } = JSON.parse(line);
  try {
    await commands[command](value);
  } catch (error) {
    say('error', error);
  }
});
process.stdin.on('end', () => process.exit(0));
xmpp.start().catch((error) => say('error', error));
