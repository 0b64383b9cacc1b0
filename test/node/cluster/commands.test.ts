/** `archipelago up` and `down` as people type them: real CLI processes, with daemons that only pretend to be nodes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ClusterFile } from '../../../src/node/cluster/layout.ts';
import { groupMembers, identityOf, readPidFile } from '../../../src/node/cluster/processes.ts';
import { cli } from '../../gateway/cli/run.ts';

const LAUNCHER = join(import.meta.dirname, 'fake-archipelago.ts');

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'arch-cmd-'));
});
afterEach(() => {
  for (const name of ['n1', 'n2', 'n3']) {
    const identity = readPidFile(join(data(), name, 'node.pid'));
    for (const pid of identity === null ? [] : groupMembers(identity)) process.kill(pid, 'SIGKILL');
  }
  rmSync(directory, { recursive: true });
});

const data = () => join(directory, 'archipelago-data');
const run = (line: string) => cli(line.split(' '), { cwd: directory, launcher: LAUNCHER });
const clusterFile = () => join(data(), 'cluster.json');
const pids = () => (JSON.parse(readFileSync(clusterFile(), 'utf8')) as ClusterFile).nodes.map(({ pid }) => pid);
const isAlive = (pid: number) => identityOf(pid) !== null;

/** Resolves when it has said that the cluster is up. */
async function foreground() {
  const child = spawn(process.execPath, [LAUNCHER, 'up'], { cwd: directory });
  const said = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      said[stream] += text;
    });
  }
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  await vi.waitFor(() => expect(said.stdout).toContain('Ctrl-C stops it'), { timeout: 20_000 });
  return { child, said, ended };
}

describe('up --detach', () => {
  it('returns, says what to type next, and down stops it', async () => {
    const { status, stdout, stderr } = await run('up --detach');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^3 nodes are up in archipelago-data, store file, leader n1\.\nMade the volume 'first' of 10G\.\n/);
    expect(stdout).toContain('npx archipelago cluster status');
    expect(stdout).not.toContain('ARCHIPELAGO_SOCKET');
    const again = await run('up --detach --json');
    expect([again.status, again.json.error.code]).toEqual([4, 'already-running']);
    expect((await run('up --detach --nodes 5')).status).toBe(2);
    const running = pids();
    expect(running.every(isAlive)).toBe(true);
    const stopped = await run('down --json');
    expect([stopped.status, stopped.json]).toEqual([0, { stopped: running.map((pid, index) => ({ name: `n${index + 1}`, pid, killed: false })) }]);
    expect(running.some(isAlive)).toBe(false);
  });

  it('prints cluster.json with --json, and names the socket where the directory is not the usual one', async () => {
    const asJson = await run('up --detach --nodes 1 --json');
    expect([asJson.status, asJson.stderr, asJson.json]).toEqual([0, '', JSON.parse(readFileSync(clusterFile(), 'utf8'))]);
    const elsewhere = await run('up --detach --nodes 1 --data other');
    expect(elsewhere.stdout).toContain(`export ARCHIPELAGO_SOCKET=${join(directory, 'other', 'n1', 'admin.sock')}`);
    expect((await run('down --data other')).stdout).toBe('Stopped n1.\n');
  });
});

describe('up in the foreground', () => {
  it('stops the daemons at Ctrl-C', async () => {
    const { child, said, ended } = await foreground();
    const running = pids();
    child.kill('SIGINT');
    expect(await ended).toBe(0);
    expect(said.stderr).toBe('Stopped n1, n2, n3.\n');
    expect(running.some(isAlive)).toBe(false);
    expect(existsSync(clusterFile())).toBe(false);
  });

  it('says when a daemon dies, and goes on', async () => {
    const { child, said, ended } = await foreground();
    const [one, two] = pids();
    process.kill(two!, 'SIGKILL');
    await vi.waitFor(() => expect(said.stderr).toContain(`node n2 has ended; see ${join(data(), 'n2', 'node.log')}`), { timeout: 5_000 });
    expect(isAlive(one!)).toBe(true);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(said.stderr).toContain('Stopped n1, n3.');
  });

  it('ends when another command stops the cluster', async () => {
    const { ended } = await foreground();
    expect((await run('down')).stdout).toBe('Stopped n1, n2, n3.\n');
    expect(await ended).toBe(0);
  });

  it('fails when all daemons die', async () => {
    const { said, ended } = await foreground();
    for (const pid of pids()) process.kill(pid, 'SIGKILL');
    expect(await ended).toBe(1);
    expect(said.stderr).toContain('error: all nodes have ended by themselves');
    expect(existsSync(clusterFile())).toBe(false);
  });

  it('stops at Ctrl-C what it has started so far', async () => {
    await run('up --detach --nodes 1');
    await run('down');
    writeFileSync(join(data(), 'n1', 'no-leader'), '');
    let child: ChildProcess | undefined;
    const result = cli(['up', '--json'], { cwd: directory, launcher: LAUNCHER, onStart: (started) => (child = started) });
    await vi.waitFor(() => expect(existsSync(join(data(), 'n1', 'admin.sock'))).toBe(true), { timeout: 10_000 });
    const started = readPidFile(join(data(), 'n1', 'node.pid'))!;
    child!.kill('SIGINT');
    const { status, json } = await result;
    expect([status, json.error.message]).toEqual([1, expect.stringContaining('stopped by SIGINT')]);
    expect(isAlive(started.pid)).toBe(false);
  });
});
