/**
 * Which process has a volume's log, and the proof that it is dead. A process that is merely paused must never pass for dead, so what cannot
 * be proved counts as alive: a process of another pid namespace, one that may not be looked at, and one that is a zombie, because another
 * of its threads may still be inside a write.
 */

import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';

export interface OwnerProcess {
  readonly bootId: string;
  /** A pid means something only within its namespace: containers of one host have several. */
  readonly pidNamespace: string;
  readonly pid: number;
  /** In clock ticks since the boot, as the kernel tells it: tells the process from a later one of the same pid. */
  readonly startTime: string;
  /** Tells stores of one process apart. */
  readonly store: string;
}

export function thisProcess(bootId: string): OwnerProcess {
  const startTime = startTimeOf('self');
  if (startTime === null) throw new Error('/proc/self/stat is not readable');
  return { bootId, pidNamespace: readlinkSync('/proc/self/ns/pid'), pid: process.pid, startTime, store: randomUUID() };
}

/** Null for what no program like this one has written. */
export function parseOwner(text: string | null): OwnerProcess | null {
  if (text === null) return null;
  try {
    const { bootId, pidNamespace, pid, startTime, store } = JSON.parse(text) as Record<string, unknown>;
    if (typeof bootId !== 'string' || typeof pidNamespace !== 'string' || typeof startTime !== 'string' || typeof store !== 'string') return null;
    return typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0 ? { bootId, pidNamespace, pid, startTime, store } : null;
  } catch {
    // Torn by a full disk, say. Then nothing is known of the owner.
    return null;
  }
}

/** True only with proof that no thread of that process runs any more. */
export function isDead(owner: OwnerProcess, us: OwnerProcess): boolean {
  if (owner.bootId !== us.bootId) return true;
  if (owner.pidNamespace !== us.pidNamespace) return false;
  if (!exists(owner.pid)) return true;
  const startTime = startTimeOf(owner.pid);
  return startTime !== null && startTime !== owner.startTime;
}

/** Asks with a signal that is none: a process that is hidden in /proc answers that as well. */
function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function startTimeOf(pid: number | 'self'): string | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    // Ended since, or not to be looked at: no proof of anything.
    return null;
  }
  // The program's name, in parentheses, may hold anything.
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}
