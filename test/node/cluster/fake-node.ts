/**
 * A daemon as `up` sees one: takes `node start --config FILE`, answers on the admin socket from memory, and ends at SIGTERM. Files beside its
 * node.toml make it misbehave: `refuse` (ends at once, with that text in its log), `no-leader`, `stubborn` (ignores SIGTERM), `child` (leaves a
 * process behind that ignores its end for a moment).
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLog } from '../../../src/base/index.ts';
import { startHttpServer } from '../../../src/gateway/index.ts';
import { loadConfig } from '../../../src/node/config.ts';
import { memoryAdmin } from '../../gateway/http/memory-admin.ts';

const config = loadConfig(process.argv.at(-1)!);
const wants = (what: string) => existsSync(join(config.dataDirectory, what));

if (wants('refuse')) {
  process.stdout.write(`${readFileSync(join(config.dataDirectory, 'refuse'), 'utf8')}\n`);
  process.exit(1);
}
process.stdout.write(`node ${config.name} starts\n`);
const admin = memoryAdmin(config.bootstrap!.members.map(({ name }) => name));
if (wants('no-leader')) admin.cluster.leader = null;
const server = await startHttpServer({
  service: admin,
  socketPath: config.http.socket,
  tcp: null,
  metrics: { contentType: 'text/plain', metrics: async () => '' },
  isReady: () => true,
  log: silentLog,
  version: '0.0.0',
});
if (wants('child')) spawn(process.execPath, ['-e', 'setTimeout(() => {}, 700)'], { stdio: 'ignore' });
process.on('SIGTERM', () => {
  if (!wants('stubborn')) void server.close().then(() => process.exit(0));
});
