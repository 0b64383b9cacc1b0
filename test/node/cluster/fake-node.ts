/**
 * A daemon as `up` sees one: takes `node start --config FILE`, answers what `up` asks on the admin socket, and ends at SIGTERM. It imports
 * nothing, because the tests start many. Files beside its node.toml make it misbehave: `refuse` (ends at once, with that text in its log),
 * `leave` (was removed from its cluster), `no-leader`, `stubborn` (ignores SIGTERM), `child` (leaves a process behind that ends by itself a moment later).
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, dirname, join } from 'node:path';

const home = dirname(process.argv.at(-1)!);
const wants = (what: string) => existsSync(join(home, what));

if (wants('leave')) {
  writeFileSync(join(home, 'removed'), '');
  process.exit(1);
}
if (wants('refuse')) {
  process.stdout.write(`${readFileSync(join(home, 'refuse'), 'utf8')}\n`);
  process.exit(1);
}
process.stdout.write(`node ${basename(home)} starts\n`);

const volumes: object[] = [];
const server = createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += String(chunk);
  if (request.method === 'POST') volumes.push(JSON.parse(body));
  const cluster = { leader: wants('no-leader') ? null : 'n1', quorum: true };
  response.end(JSON.stringify(request.url === '/v1/cluster' ? cluster : volumes));
});
server.listen(join(home, 'admin.sock'));
if (wants('child')) spawn(process.execPath, ['-e', 'setTimeout(() => {}, 3000)'], { stdio: 'ignore' });
process.on('SIGTERM', () => {
  if (!wants('stubborn')) server.close(() => process.exit(0)).closeAllConnections();
});
