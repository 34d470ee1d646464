// stanza driven by a test: see xmppjs.mjs. A command calls a method of the client: {"command": "ping", "value": [...]}.
const readline = require('node:readline');
const { createClient } = require('stanza');

const client = createClient(JSON.parse(process.argv[2]));
const say = (kind, value) => console.log(JSON.stringify({ kind, value: typeof value === 'string' ? value : JSON.stringify(value ?? null) }));

client.on('session:started', () => say('online', client.jid));
client.on('stream:management:resumed', () => say('resumed', ''));
client.on('--transport-disconnected', () => say('disconnect', ''));
client.on('message', (message) => say('message', message));
client.on('carbon:received', (message) => say('carbon', message));
client.on('carbon:sent', (message) => say('carbon', message));
client.on('presence', (presence) => say('presence', presence));
client.on('pubsub:event', (message) => say('event', message));
client.on('block', (list) => say('block', list));
client.on('stream:error', (error) => say('error', error));
client.on('auth:failed', () => say('error', 'auth:failed'));
readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { command, value } = JSON.parse(line);
  if (command === 'cut') { client.transport.socket.terminate(); return; }
  try {
    const result = await client[command](...JSON.parse(value || '[]'));
    say(`${command}:done`, JSON.stringify(result ?? null));
  } catch (error) {
    say(`${command}:failed`, error?.error ?? String(error));
  }
});
process.stdin.on('end', () => process.exit(0));
client.connect();
