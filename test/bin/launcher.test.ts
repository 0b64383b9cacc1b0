/** bin/archipelago.js under a Node that says it is old: copied beside what it may find there, since this checkout has a pinned Node. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';

const LAUNCHER = fileURLToPath(new URL('../../bin/archipelago.js', import.meta.url));
const PRETEND_OLD = `data:text/javascript,Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.19.0' } });`;

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'archipelago-launcher-'));
  mkdirSync(join(home, 'bin'));
  copyFileSync(LAUNCHER, join(home, 'bin/archipelago.js'));
  writeFileSync(join(home, 'package.json'), '{"type":"module"}');
});

afterEach(() => rmSync(home, { recursive: true }));

function launch(args: readonly string[], nodeOptions: readonly string[] = []): ChildProcess {
  return spawn(process.execPath, [...nodeOptions, join(home, 'bin/archipelago.js'), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

async function ended(child: ChildProcess) {
  const [[code, signal], out, err] = await Promise.all([once(child, 'exit'), text(child.stdout!), text(child.stderr!)]);
  return { code: code as number | null, signal: signal as string | null, out, err };
}

function pinNode(script: string): void {
  const folder = join(home, 'node_modules/node/bin');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'node'), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, 'node'), 0o755);
}

function addMain(path: string, source: string): void {
  mkdirSync(join(home, path, '..'), { recursive: true });
  writeFileSync(join(home, path), source);
}

it('refuses an old Node and says what to do', async () => {
  const { code, out, err } = await ended(launch(['up'], ['--import', PRETEND_OLD]));
  expect({ code, out }).toEqual({ code: 1, out: '' });
  expect(err).toMatch(/this is Node 18\.19\.0, and Node 24 or later is needed/);
  expect(err).toMatch(/npm ci/);
});

it('goes on under the pinned Node where there is one, with the same arguments and exit status', async () => {
  pinNode('shift; echo "$@"; exit 7');
  const { code, out } = await ended(launch(['volume', 'ls', '--json'], ['--import', PRETEND_OLD]));
  expect({ code, out }).toEqual({ code: 7, out: 'volume ls --json\n' });
});

it('passes signals on to the pinned Node', async () => {
  pinNode("trap 'echo told to stop; exit 9' TERM; echo ready; while :; do sleep 0.05; done");
  const child = launch(['up'], ['--import', PRETEND_OLD]);
  child.stdout!.once('data', () => child.kill('SIGTERM'));
  const { code, out } = await ended(child);
  expect({ code, out }).toEqual({ code: 9, out: 'ready\ntold to stop\n' });
});

it('dies of the signal that the pinned Node died of', async () => {
  pinNode('kill -KILL $$');
  expect((await ended(launch([], ['--import', PRETEND_OLD]))).signal).toBe('SIGKILL');
});

it('runs the sources where they are, and what was built of them elsewhere', async () => {
  addMain('dist/node/main.js', "console.log('built', ...process.argv.slice(2));");
  expect(await ended(launch(['x']))).toMatchObject({ code: 0, out: 'built x\n' });
  addMain('src/node/main.ts', "console.log('source' as string, ...process.argv.slice(2));");
  expect(await ended(launch(['x']))).toMatchObject({ code: 0, out: 'source x\n' });
});

it('says what went wrong when the program cannot be loaded', async () => {
  expect(await ended(launch(['x']))).toMatchObject({ code: 1, err: expect.stringMatching(/^archipelago: cannot start: /) });
});
