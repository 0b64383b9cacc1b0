/**
 * The daemons as processes. A pid alone says little, because pids are used again: beside each one, `node.pid` keeps the start time that the
 * kernel gives a process and the boot that it belongs to.
 */
import { closeSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { writeAtomically } from './layout.ts';

export interface ProcessIdentity {
  pid: number;
  /** Clock ticks from boot to start: field 22 of /proc/PID/stat. */
  startTime: string;
  bootId: string;
}

/** What of /proc/PID/stat matters here. */
interface ProcessStat {
  state: string;
  group: number;
  threads: number;
  startTime: string;
}

/** Zombies count as gone once their last thread is. */
export function identityOf(pid: number): ProcessIdentity | null {
  const stat = readStat(pid);
  return stat === null || isDead(stat) ? null : { pid, startTime: stat.startTime, bootId: bootId() };
}

export function isRunning(identity: ProcessIdentity): boolean {
  const current = identityOf(identity.pid);
  return current !== null && current.startTime === identity.startTime && current.bootId === identity.bootId;
}

/** The living members of the process group that this process led. Empty after a reboot, and when its pid was given to another process since. */
export function groupMembers(leader: ProcessIdentity): number[] {
  if (leader.bootId !== bootId()) return [];
  const stat = readStat(leader.pid);
  if (stat !== null && stat.startTime !== leader.startTime) return [];
  const pids = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  return pids.map(Number).filter((pid) => {
    const member = readStat(pid);
    return member !== null && member.group === leader.pid && !isDead(member);
  });
}

/** False when there is nobody to get it. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

export function readPidFile(path: string): ProcessIdentity | null {
  let value: Partial<ProcessIdentity> | null;
  try {
    value = JSON.parse(readFileSync(path, 'utf8')) as Partial<ProcessIdentity> | null;
  } catch {
    // Absent, or cut off by a power failure; the process it spoke of is gone then, too.
    return null;
  }
  const { pid, startTime, bootId: boot } = value ?? {};
  return typeof pid === 'number' && typeof startTime === 'string' && typeof boot === 'string' ? { pid, startTime, bootId: boot } : null;
}

export function writePidFile(path: string, identity: ProcessIdentity): void {
  writeAtomically(path, `${JSON.stringify(identity)}\n`);
}

export function removePidFile(path: string): void {
  rmSync(path, { force: true });
}

/** The last lines of a log, for an error message. */
export function tailOf(path: string, lines: number, from = 0): string[] {
  let text: string;
  try {
    text = readFileSync(path).subarray(from).toString('utf8');
  } catch {
    // A daemon that never ran has no log.
    return [];
  }
  return text.trimEnd().split('\n').filter(Boolean).slice(-lines);
}

export function openLog(path: string): { descriptor: number; close(): void } {
  const descriptor = openSync(path, 'a', 0o640);
  return { descriptor, close: () => closeSync(descriptor) };
}

/**
 * The state is that of the first thread, which ends at once when the process is killed. Another one may still be inside a write to the disk, and
 * until that ends the process has its ports and locks.
 */
function isDead({ state, threads }: ProcessStat): boolean {
  return (state === 'Z' || state === 'X') && threads <= 1;
}

function readStat(pid: number): ProcessStat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    // No such process.
    return null;
  }
  // The second field is the command's name in parentheses and may itself hold blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0]!, group: Number(fields[2]), threads: Number(fields[17]), startTime: fields[19]! };
}

let knownBootId: string | null = null;

function bootId(): string {
  knownBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return knownBootId;
}
