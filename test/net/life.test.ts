/** Identity on disk, and a host's end. */
import { spawn } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { ArchipelagoError } from '../../src/base/index.ts';
import { loadOrCreateIdentity } from '../../src/net/index.ts';
import { connectAll, linkBetween, type Member, startMembers, stopAll, until } from './hosts.ts';

const NONE = new Uint8Array(0);
let directory = '';

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'net-'));
});

afterEach(async () => {
  await stopAll();
  await rm(directory, { recursive: true });
});

it('keeps one identity in a file that only its owner reads', async () => {
  const path = join(directory, 'deep', 'identity.key');
  const created = await loadOrCreateIdentity(path);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await loadOrCreateIdentity(path)).peerId).toBe(created.peerId);
  expect(created.peerId).toMatch(/^12D3KooW/);
  expect(await readdir(join(directory, 'deep'))).toEqual(['identity.key']);
});

it('gives processes that start at the same time the same identity', async () => {
  const path = join(directory, 'identity.key');
  const script = `
    const { loadOrCreateIdentity } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/net/identity.ts'))});
    console.log((await loadOrCreateIdentity(${JSON.stringify(path)})).peerId);`;
  const outputs = await Promise.all([run(script), run(script), run(script)]);
  expect(new Set(outputs.map(({ output }) => output)).size).toBe(1);
  expect(outputs[0]!.output.trim()).toBe((await loadOrCreateIdentity(path)).peerId);
});

it('refuses a key that others may read, and a damaged one', async () => {
  const path = join(directory, 'identity.key');
  await loadOrCreateIdentity(path);
  await chmod(path, 0o640);
  await expect(loadOrCreateIdentity(path)).rejects.toMatchObject({ code: 'forbidden', hint: `chmod 600 ${path}` });
  await chmod(path, 0o600);
  const bytes = await readFile(path);
  await writeFile(path, bytes.subarray(0, 20));
  await expect(loadOrCreateIdentity(path)).rejects.toMatchObject({ code: 'corrupt' });
});

it('fails what is outstanding when it stops, and is then quiet for ever', async () => {
  const [a, b] = (await startMembers(2)) as [Member, Member];
  b.host.handle('bulk', { message() {}, request() {} });
  await connectAll([a, b]);
  const link = linkBetween(a, b);
  const failures: ArchipelagoError[] = [];
  const completion = { replied: () => expect.unreachable(), failed: (error: ArchipelagoError) => void failures.push(error) };
  for (let i = 0; i < 10; i++) link.request(1, NONE, null, completion);
  await Promise.all([a.host.stop(), a.host.stop()]);
  expect(failures.map(({ code }) => code)).toEqual(Array(10).fill('timeout'));
  expect(link.connected || link.send(1, NONE)).toBe(false);
  await until('the other side knows', () => !linkBetween(b, a).connected);
  a.host.setPeers([{ peerId: b.host.peerId, name: 'b', addresses: b.host.addresses }]);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(link.connected).toBe(false);
});

it('leaves nothing behind that would keep a process alive', async () => {
  const hosts = JSON.stringify(join(import.meta.dirname, 'hosts.ts'));
  const { code, output } = await run(`
    const { connectAll, startMembers, stopAll, echo, linkBetween } = await import(${hosts});
    const members = await startMembers(2);
    for (const { host } of members) host.handle('bulk', echo);
    await connectAll(members);
    await linkBetween(members[0], members[1]).call(1, new Uint8Array(3), null, { timeoutMs: 5000 });
    const stranger = (await startMembers(1))[0];
    stranger.host.setPeers([{ peerId: members[0].host.peerId, name: 'x', addresses: members[0].host.addresses }]);
    await stopAll();
    console.log('stopped');
    const since = performance.now();
    // Timers of libp2p (its rate limiter, its address book) run out within a second of their start.
    process.on('exit', () => console.log(performance.now() - since < 2500 ? 'soon' : 'late'));`);
  expect({ code, output }).toEqual({ code: 0, output: 'stopped\nsoon\n' });
});

function run(script: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (piece) => {
      output += piece;
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}
