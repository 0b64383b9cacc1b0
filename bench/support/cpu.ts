/** What processes use of the processors. */
import { readFileSync } from 'node:fs';

const CLOCK_TICKS_A_SECOND = 100;

/** User and system time of a process and all of its threads, in steps of 10 ms. */
export function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_A_SECOND;
}
