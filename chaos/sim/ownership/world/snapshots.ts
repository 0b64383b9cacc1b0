/** Snapshots that were taken in a world: what they show never changes, and is what the volume showed at a moment of the command. */
import { IO_READ } from '../../../../src/volume/device.ts';
import { SECTOR_BYTES } from '../../../checkers/never-torn-nor-foreign.ts';
import { submit } from '../io.ts';
import { placeOf } from '../ledger.ts';
import type { Look } from './account.ts';
import type { ControlProcess } from './control-process.ts';
import { usedSectors } from './convergence.ts';
import { found } from './guests.ts';
import type { SimNode } from './node.ts';
import type { World } from './world.ts';

const MAX = 6;

interface Taken {
  readonly name: string;
  /** Reads of its sectors, at one moment of the command: what it shows is their answer. */
  readonly looks: ReadonlyMap<number, Look>;
  /** When the command was answered. */
  readonly returned: number;
}

export class Snapshots {
  private asked = 0;
  private readonly all: Taken[] = [];
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  get taken(): number {
    return this.all.length;
  }

  async take(control: ControlProcess): Promise<void> {
    if (this.asked >= MAX || this.world.isSettling) return;
    const { account, disk } = this.world;
    const { boot } = disk;
    const name = `s${++this.asked}`;
    const looks = new Map(usedSectors(this.world).map((sector) => [sector, account.beginRead(sector, 1)]));
    // Only the ledger is asked of them.
    for (const look of looks.values()) account.abandonRead(look);
    await control.snapshot(name);
    if (boot === disk.boot) this.all.push({ name, looks, returned: account.ledger.moment() });
  }

  /** At one node, which may die on the way. */
  async look({ data }: SimNode): Promise<void> {
    const snapshot = this.all[this.world.random.below(Math.max(1, this.all.length))];
    if (snapshot !== undefined && data?.serving) await this.read(snapshot, data);
  }

  async readAll(): Promise<void> {
    for (const snapshot of this.all) for (const { data } of this.world.nodes) if (data !== null) await this.read(snapshot, data);
  }

  private async read({ name, looks, returned }: Taken, data: NonNullable<SimNode['data']>): Promise<void> {
    const { account } = this.world;
    const device = await data.volumes.attach(name);
    for (const [sector, look] of looks) {
      const bytes = new Uint8Array(SECTOR_BYTES);
      await submit(device, IO_READ, sector * SECTOR_BYTES, bytes);
      this.world.judge(() => {
        const [write = 0] = found(bytes, sector);
        account.ledger.snapshots.read(`${name} ${placeOf(1, sector)}`, write);
        account.endReadAt(look, write, returned);
      });
    }
    await device.close();
  }
}
