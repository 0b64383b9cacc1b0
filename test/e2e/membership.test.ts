/** Nodes join and leave a cluster that is at work; strangers, used tokens and removed nodes get nowhere. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { askAsGuest, ephemeralIdentity } from '../../src/net/index.ts';
import { systemClock } from '../../src/node/clock.ts';
import { decodeToken, encodeToken } from '../../src/node/joining.ts';
import { type Cluster, startCluster } from './support/cluster.ts';
import { stories } from './support/stories.ts';
import { eventually, sleep } from './support/wait.ts';

interface Members {
  readonly voters: readonly string[];
  readonly learners: readonly string[];
}

async function members(cluster: Cluster, via: string | null = null): Promise<string> {
  const { nodes } = await cluster.status(via);
  const named = (role: string) => nodes.filter((node) => node.role === role).map(({ name }) => name);
  return [named('voter').join(' '), named('learner').join(' ')].filter(Boolean).join(' + ');
}

const reach = (cluster: Cluster, wanted: string, via: string | null = null) =>
  eventually(`the members are ${wanted}`, async () => (await members(cluster, via)) === wanted);

async function invite(cluster: Cluster, ...options: readonly string[]): Promise<string> {
  return (await cluster.json<{ token: string }>('cluster', 'invite', ...options)).token;
}

/** Joins, and starts what does not run. */
async function joinAndUp(cluster: Cluster, name: string): Promise<void> {
  await cluster.json('cluster', 'join', await invite(cluster), '--name', name);
  await cluster.up();
}

async function refused(cluster: Cluster, token: string, name: string, code: string, message: RegExp): Promise<void> {
  const { error } = await cluster.cli(['cluster', 'join', token, '--name', name]);
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  expect(existsSync(join(cluster.directory, name, 'node.toml'))).toBe(false);
}

/** Creates volumes, one after another, until it is stopped. None may fail. */
function createVolumes(cluster: Cluster): { stop(): Promise<number> } {
  let stopped = false;
  const work = (async () => {
    let made = 0;
    for (; !stopped; made++) await cluster.json('volume', 'create', `load${made}`, '--size', '1M');
    return made;
  })();
  // Whoever stops it hears of its failure.
  work.catch(() => undefined);
  return {
    stop() {
      stopped = true;
      return work;
    },
  };
}

stories('three become four and five while volumes are made, and the leader leaves', async () => {
  const cluster = await startCluster();
  const load = createVolumes(cluster);
  await joinAndUp(cluster, 'n4');
  await reach(cluster, 'n1 n2 n3 + n4');
  await cluster.createVolume('here', '1M', 'n4');
  await joinAndUp(cluster, 'n5');
  await reach(cluster, 'n1 n2 n3 n4 n5');
  const made = await load.stop();
  for (const node of cluster.names) expect((await cluster.status(node)).volumes, node).toBe(made + 2);

  expect(await cluster.json('cluster', 'transfer-leader', 'n4')).toMatchObject({ to: 'n4' });
  expect((await cluster.status('n2')).leader).toBe('n4');
  // At the node itself, which leads and owns a volume.
  const left = await cluster.jsonVia<Members>('n4', 'cluster', 'remove', 'n4');
  expect(left).toMatchObject({ node: 'n4' });
  await eventually(
    'another leads three voters',
    async () => (await cluster.status('n1')).leader !== 'n4' && (await members(cluster, 'n1')).split(' + ')[0]!.split(' ').length === 3,
  );
  expect((await cluster.info('here', 'n1')).owner).toBeNull();
  await eventually('n4 has stopped', () => !existsSync(`/proc/${cluster.node('n4').pid}`));
  expect(readFileSync(join(cluster.directory, 'n4', 'node.log'), 'utf8')).toContain('stopping: node n4 was removed from the cluster');
  await cluster.createVolume('after', '1M', 'n5');
  expect(await cluster.cli(['cluster', 'remove', 'n4'], { via: 'n1' })).toMatchObject({ status: 3, error: { code: 'not-found' } });
});

stories('a dead node is replaced, and cannot disturb when it is started again', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '1M', 'n1');
  await cluster.kill('n1');
  await eventually('the others have a leader', async () => /n[23]/.test((await cluster.status('n2')).leader ?? ''));
  const via = (await cluster.status('n2')).leader as string;
  const other = via === 'n2' ? 'n3' : 'n2';
  const token = (await cluster.jsonVia<{ token: string }>(via, 'cluster', 'invite')).token;
  await cluster.json('cluster', 'join', token, '--name', 'n4');
  const daemon = startByHand(cluster, 'n4');
  await reach(cluster, 'n1 n2 n3 + n4', via);
  await eventually('n4 has started', async () => (await cluster.status(via)).nodes.find(({ name }) => name === 'n4')?.lease === true);

  // Its lease is over by now, and with it all that it owned.
  await cluster.jsonVia(via, 'cluster', 'remove', 'n1');
  await reach(cluster, 'n2 n3 n4', via);
  expect((await cluster.info('disk', via)).owner).toBeNull();
  await cluster.jsonVia(via, 'volume', 'migrate', 'disk', '--to', other);

  // It believes to be a voter still, with the log of then.
  const { term } = await cluster.status(via);
  const removed = startByHand(cluster, 'n1');
  expect(await removed.ended).toBe(1);
  expect(readFileSync(join(cluster.directory, 'n1', 'removed'), 'utf8')).toContain('node n1 was removed from the cluster');
  expect(await cluster.status(via)).toMatchObject({ term, leader: via });
  const again = startByHand(cluster, 'n1');
  expect([await again.ended, again.output()]).toEqual([1, expect.stringContaining('join as a new node under another name')]);
  // `up` goes on with those that are left.
  daemon.kill();
  await daemon.ended;
  await cluster.up();
  expect(cluster.names).toEqual(['n2', 'n3', 'n4']);
  // Neither its name nor its identity is taken again.
  rmSync(join(cluster.directory, 'n1'), { recursive: true });
  const elsewhere = mkdtempSync(join(tmpdir(), 'e2e-join-'));
  onTestFinished(() => rmSync(elsewhere, { recursive: true, force: true }));
  const named = await cluster.cli(['cluster', 'join', await invite(cluster), '--name', 'n1', '--data', elsewhere]);
  expect(named.error).toMatchObject({ code: 'removed', message: expect.stringContaining('its name is not used again') });
});

stories('a token is good once, in time, whole, and for its own cluster; without one a stranger is denied', async () => {
  const cluster = await startCluster({ nodes: 1 });
  const [node] = cluster.nodes;
  // Nobody has invited anyone: the connection ends before a word.
  const stranger = await ephemeralIdentity();
  const question = Buffer.from(JSON.stringify({ ask: 'standing', cluster: 'any' }));
  const asked = { peerId: node!.peerId, addresses: [node!.listen], question, timeoutMs: 10_000 };
  await expect(askAsGuest(stranger, 'control', asked, systemClock)).rejects.toMatchObject({ code: 'forbidden', hint: null });

  const short = await invite(cluster, '--expires', '1s');
  await sleep(1_100);
  await refused(cluster, short, 'n2', 'forbidden', /was used, or has expired/);

  const token = await invite(cluster);
  await refused(cluster, token.slice(0, -3), 'n2', 'invalid-argument', /damaged/);
  expect((await cluster.cli(['cluster', 'join', token, '--name', 'n1'])).error).toMatchObject({ code: 'exists' });
  const content = decodeToken(token);
  await refused(cluster, encodeToken({ ...content, secret: 'guessed' }), 'n2', 'forbidden', /was used, or has expired/);
  const foreign = { ...content, cluster: 'f'.repeat(32) };
  await refused(cluster, encodeToken(foreign), 'n2', 'conflict', /belongs to cluster/);
  const elsewhere = mkdtempSync(join(tmpdir(), 'e2e-join-'));
  onTestFinished(() => rmSync(elsewhere, { recursive: true, force: true }));
  const stray = encodeToken({ ...foreign, store: { kind: 'rados', cephConf: '/x', client: 'x', mapsPool: 'x', blocksPool: 'x', cacheBytes: 0 } });
  const lost = await cluster.cli(['cluster', 'join', stray, '--name', 'n2', '--data', elsewhere]);
  expect(lost.error).toMatchObject({ code: 'forbidden', message: expect.stringContaining('node of another cluster') });
  const impostor = { ...content, members: [{ ...content.members[0]!, peerId: stranger.peerId }] };
  const nowhere = await cluster.cli(['cluster', 'join', encodeToken(impostor), '--name', 'n2'], { timeoutMs: 5_000 });
  // It tries again for a while, and has told nobody the secret.
  expect(nowhere.status).not.toBe(0);

  const joined = await cluster.json<{ peerId: string; config: string }>('cluster', 'join', token, '--name', 'n2');
  // As if it had died before it could write down that it was let in. The door is closed by now, and the token used.
  const archipelago = join(cluster.directory, 'archipelago.json');
  writeFileSync(archipelago, readFileSync(archipelago, 'utf8').replace('"n2"', ''));
  rmSync(joined.config);
  expect(await cluster.json('cluster', 'join', token, '--name', 'n2')).toMatchObject({ peerId: joined.peerId, members: ['n1', 'n2'] });
  expect((await cluster.cli(['cluster', 'join', token, '--name', 'n2'])).error).toMatchObject({ code: 'exists' });
  await refused(cluster, token, 'n3', 'forbidden', /was used, or has expired/);
  expect(await members(cluster), 'a member that was never started').toBe('n1 + n2');
  expect((await cluster.status()).nodes.map(({ up }) => up)).toEqual([true, false]);
  expect((await cluster.cli(['cluster', 'transfer-leader', 'n2'])).error).toMatchObject({ code: 'conflict' });
  expect((await cluster.cli(['cluster', 'transfer-leader', 'n7'])).error).toMatchObject({ code: 'not-found' });
  await cluster.json('cluster', 'remove', 'n2');
  expect(await members(cluster)).toBe('n1');
  expect((await cluster.cli(['cluster', 'remove', 'n1'])).error).toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('the last one'),
  });
});

interface ByHand {
  readonly ended: Promise<number | null>;
  output(): string;
  kill(): void;
}

/** `node start`, as a service manager does it. Ends with the test. */
function startByHand(cluster: Cluster, name: string): ByHand {
  const launcher = join(import.meta.dirname, '../../bin/archipelago.js');
  const child = spawn(process.execPath, [launcher, 'node', 'start', '--config', join(cluster.directory, name, 'node.toml')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      output += String(text);
    });
  }
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  onTestFinished(() => void child.kill('SIGKILL'));
  return { ended, output: () => output, kill: () => child.kill('SIGTERM') };
}
