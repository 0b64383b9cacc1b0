/** A guest that is migrated from QEMU to QEMU, each with its disk at another NBD server, and what it went through. */

import { join } from 'node:path';
import type { AtEnd } from '../ending.ts';
import { eventually } from '../wait.ts';
import type { Report } from './guest.ts';
import { type Disk, Machine } from './machine.ts';

export interface Journey {
  /** The longest that the guest had to wait between two writes, from before the migration until after `arrived`, in ms. */
  readonly pauseMs: number;
  /** How long QEMU says that the guest did not run. */
  readonly downtimeMs: number;
}

export class TravellingGuest {
  private readonly atEnd: AtEnd;
  private readonly directory: string;
  private readonly name: string;
  private readonly machines: Machine[] = [];

  private constructor(atEnd: AtEnd, directory: string, name: string) {
    this.atEnd = atEnd;
    this.directory = directory;
    this.name = name;
  }

  /** Boots the guest, whose boot sector has to be on the disk. `directory` takes QEMU's sockets, named after `name`. */
  static async boot(atEnd: AtEnd, directory: string, name: string, disk: Disk): Promise<TravellingGuest> {
    const guest = new TravellingGuest(atEnd, directory, name);
    guest.machines.push(await Machine.start(atEnd, directory, `${name}-0`, disk, null));
    await guest.progress(1);
    return guest;
  }

  private get machine(): Machine {
    return this.machines.at(-1) as Machine;
  }

  /** Resolves when the guest has written so many numbers more where it is now. */
  async progress(numbers: number): Promise<void> {
    const { machine } = this;
    const until = machine.lines + numbers;
    await eventually(`the guest writes ${numbers} numbers`, () => machine.lines >= until, 120_000);
  }

  /**
   * Migrates it to a new QEMU with another way to its disk. `arrived` is called when the guest runs there and the old QEMU is gone; the guest
   * then writes `numbers` more.
   */
  async migrate(disk: Disk, numbers: number, arrived: () => Promise<unknown>): Promise<Journey> {
    const source = this.machine;
    const name = `${this.name}-${this.machines.length}`;
    const socket = join(this.directory, `${name}.in`);
    const target = await Machine.start(this.atEnd, this.directory, name, disk, socket);
    const startedMs = performance.now();
    const { downtime } = await source.migrateTo(target, socket);
    await source.quit();
    this.machines.push(target);
    await arrived();
    await this.progress(numbers);
    return { pauseMs: this.longestPauseMs(startedMs), downtimeMs: downtime };
  }

  /** Between two reports, of those since then. */
  private longestPauseMs(sinceMs: number): number {
    const reports = this.reports();
    let longest = 0;
    for (let place = reports.length - 1; place > 0; place--) {
      const { atMs } = reports[place] as Report;
      if (atMs < sinceMs) break;
      longest = Math.max(longest, atMs - (reports[place - 1] as Report).atMs);
    }
    return longest;
  }

  /** All lines of the serial port; of a line whose pieces came from two machines the last one counts. */
  reports(): Report[] {
    const reports: Report[] = [];
    let rest = '';
    for (const { text, atMs } of this.machines.flatMap(({ serial }) => serial)) {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) reports.push({ text: line, atMs });
    }
    return reports;
  }

  /** The guest stops between two of its instructions, what it has under way is finished, and QEMU ends. */
  async end(): Promise<void> {
    await this.machine.execute('stop');
    await this.machine.quit();
  }
}
