import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { lockDirectory } from '../../../src/node/cluster/lock.ts';
import { freePorts, isFree } from '../../../src/node/cluster/ports.ts';
import { groupMembers, identityOf, isRunning, readPidFile, tailOf, writePidFile } from '../../../src/node/cluster/processes.ts';

const scratch = () => mkdtempSync(join(tmpdir(), 'arch-proc-'));

describe('a process is told from another one', () => {
  it('by start time and boot', () => {
    const self = identityOf(process.pid)!;
    expect(isRunning(self)).toBe(true);
    expect(isRunning({ ...self, startTime: String(Number(self.startTime) + 1) })).toBe(false);
    expect(isRunning({ ...self, bootId: 'another' })).toBe(false);
    expect(identityOf(2 ** 22 + 1)).toBeNull();
  });

  it('whatever its name is', async () => {
    const directory = scratch();
    const program = join(directory, 'a) R (b c');
    copyFileSync('/bin/sleep', program);
    const child = spawn(program, ['60'], { detached: true });
    await new Promise((resolve) => child.once('spawn', resolve));
    const identity = identityOf(child.pid!)!;
    expect(identity.startTime).toMatch(/^\d+$/);
    expect(groupMembers(identity)).toEqual([child.pid]);
    expect(groupMembers({ ...identity, startTime: '1' })).toEqual([]);
    expect(groupMembers({ ...identity, bootId: 'another' })).toEqual([]);
    child.kill('SIGKILL');
    await vi.waitFor(() => expect(isRunning(identity)).toBe(false));
    rmSync(directory, { recursive: true });
  });

  it('and a zombie is gone', () => {
    // Its parent never looks after it.
    const parent = spawn('sh', ['-c', 'sleep 0 & exec sleep 60']);
    return vi
      .waitFor(async () => {
        const zombie = await childOf(parent.pid!);
        expect(zombie.state).toBe('Z');
        expect(identityOf(zombie.pid)).toBeNull();
      })
      .finally(() => parent.kill('SIGKILL'));
  });

  it('and one whose first thread has ended is not, as long as another has not', async () => {
    const program = 'import ctypes, sys, threading\nthreading.Thread(target=sys.stdin.read).start()\nctypes.CDLL(None).pthread_exit(None)';
    const child = spawn('python3', ['-c', program], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    await vi.waitFor(() => expect(readFileSync(`/proc/${child.pid}/stat`, 'latin1')).toContain(') Z '), 20_000);
    const identity = identityOf(child.pid!)!;
    expect(identity).not.toBeNull();
    expect(groupMembers(identity)).toEqual([child.pid]);
    child.stdin.end();
    await vi.waitFor(() => expect(isRunning(identity)).toBe(false), 20_000);
  });

  it('is written down and read again', () => {
    const directory = scratch();
    const path = join(directory, 'node.pid');
    expect(readPidFile(path)).toBeNull();
    writePidFile(path, identityOf(process.pid)!);
    expect(readPidFile(path)).toEqual(identityOf(process.pid));
    for (const text of ['', '{', 'null', '12', '{"pid":1}']) {
      writeFileSync(path, text);
      expect(readPidFile(path)).toBeNull();
    }
    rmSync(directory, { recursive: true });
  });
});

async function childOf(parent: number): Promise<{ pid: number; state: string }> {
  const { readFileSync } = await import('node:fs');
  const pid = Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim());
  return { pid, state: readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]![0]! };
}

describe('the end of a log', () => {
  it('is what came since a daemon was started', () => {
    const directory = scratch();
    const path = join(directory, 'log');
    expect(tailOf(path, 3)).toEqual([]);
    writeFileSync(path, 'old\n1\n2\n\n3\n');
    expect(tailOf(path, 2)).toEqual(['2', '3']);
    expect(tailOf(path, 9, 4)).toEqual(['1', '2', '3']);
    rmSync(directory, { recursive: true });
  });
});

describe('the lock of a directory', () => {
  it('is held by one at a time, by whatever path', async () => {
    const directory = scratch();
    const unlock = await lockDirectory(directory);
    await expect(lockDirectory(join(directory, '..', directory.split('/').at(-1)!))).rejects.toMatchObject({ code: 'in-use' });
    await unlock();
    await (await lockDirectory(directory))();
    rmSync(directory, { recursive: true });
  });

  it('is free again when its holder is killed', async () => {
    const directory = scratch();
    const lock = join(import.meta.dirname, '../../../src/node/cluster/lock.ts');
    const code = `import(${JSON.stringify(lock)}).then(async (m) => { await m.lockDirectory(${JSON.stringify(directory)}); console.log('held'); setInterval(() => {}, 1000); })`;
    const holder = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    await expect(lockDirectory(directory)).rejects.toMatchObject({ code: 'in-use' });
    holder.kill('SIGKILL');
    await vi.waitFor(async () => (await lockDirectory(directory))());
    rmSync(directory, { recursive: true });
  });
});

describe('ports', () => {
  it('are free, different, and out of the way of outgoing connections', async () => {
    const ports = await freePorts(14, '127.0.0.1');
    expect(new Set(ports).size).toBe(14);
    for (const port of ports) {
      expect(port).toBeGreaterThanOrEqual(20_000);
      expect(port).toBeLessThan(32_768);
      expect(await isFree('127.0.0.1', port)).toBe(true);
    }
  });
});
