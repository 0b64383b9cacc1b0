/**
 * Guests that use one volume at once, each at some node, and believe that it is theirs. A guest outlives the data process that serves it: what
 * that had not answered may have been done or not, and the guest attaches again, there or elsewhere.
 */
import type { ArchipelagoError, Prng } from '../../../../src/base/index.ts';
import { type Device, IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, type IoKind, VolumeIo } from '../../../../src/volume/device.ts';
import { fillSector, SECTOR_BYTES } from '../../../checkers/never-torn-nor-foreign.ts';
import { BLOCK_BYTES } from '../cluster.ts';
import { writeIn } from '../ledger.ts';
import type { Change, Look } from './account.ts';
import type { DataProcess } from './data-process.ts';
import type { SimNode } from './node.ts';
import type { World } from './world.ts';

const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;
const RETRY_MS = 100;
/** Over the guest's socket. */
const SOCKET_MS = 0.05;

class GuestIo extends VolumeIo {
  private readonly finished: (error: ArchipelagoError | null) => void;

  constructor(finished: (error: ArchipelagoError | null) => void) {
    super();
    this.finished = finished;
  }

  override done(error: ArchipelagoError | null): void {
    this.finished(error);
  }
}

export class Guest {
  inFlight = 0;
  readonly name: string;
  private readonly world: World;
  private readonly random: Prng;
  private node: SimNode;
  private device: Device | null = null;
  private process: DataProcess | null = null;
  private attaching = false;
  private moving = false;
  private readonly changes = new Set<Change>();
  private readonly looks = new Set<Look>();
  /** Counts its lives; what an earlier one waits for is of no interest. */
  private life = 0;

  constructor(world: World, name: string, node: SimNode, random: Prng) {
    this.world = world;
    this.name = name;
    this.node = node;
    this.random = random;
  }

  get isAttached(): boolean {
    return this.device !== null;
  }

  start(): void {
    this.next();
  }

  /** Attaches elsewhere once all its requests are answered. */
  move(to: SimNode): void {
    this.moving = true;
    this.node = to;
  }

  /** Moves unless it is there, or on its way. */
  sit(at: SimNode): void {
    if (at !== this.node) this.move(at);
  }

  /** Its data process is gone. With the power it is gone itself, and what it knew. */
  died(process: DataProcess): void {
    if (this.process !== process) return;
    this.device = null;
    this.process = null;
    this.attaching = false;
    this.moving = false;
    this.inFlight = 0;
    for (const change of this.changes) this.world.account.abandon(change);
    this.changes.clear();
    for (const look of this.looks) this.world.account.abandonRead(look);
    this.looks.clear();
    this.life++;
    if (this.random.chance(0.3)) this.node = this.world.pickNode();
  }

  private next(): void {
    const { thinkMs } = this.world.setting.guests;
    this.world.scheduler.in(thinkMs * this.random.unit() * 2, () => {
      if (this.world.guestsStopped) return;
      this.turn();
      this.next();
    });
  }

  private turn(): void {
    if (this.world.isSettling) return;
    if (this.device === null) this.attach();
    else if (this.moving) this.detach();
    else if (this.inFlight < this.world.setting.guests.depth) this.request();
  }

  private attach(): void {
    const { data } = this.node;
    if (this.attaching || data === null || !data.serving) {
      if (!this.attaching && this.random.chance(0.1)) this.node = this.world.pickNode();
      return;
    }
    this.attaching = true;
    this.process = data;
    const { life } = this;
    this.node.dataHost.in(SOCKET_MS, () => {
      data.volumes.attach('v').then(
        (device) => {
          if (life !== this.life) return;
          this.attaching = false;
          this.device = device;
        },
        () => {
          // Nobody could serve it in time, or it is not known there yet.
          if (life !== this.life) return;
          this.world.scheduler.in(RETRY_MS, () => {
            if (life === this.life) this.attaching = false;
          });
        },
      );
    });
  }

  private detach(): void {
    const { device, process } = this;
    if (this.inFlight > 0 || device === null || process === null) return;
    this.life++;
    this.device = null;
    this.process = null;
    this.moving = false;
    void device.close();
  }

  private request(): void {
    const { random, world } = this;
    const { writes } = world.setting.guests;
    const { guestsOnly } = world;
    if (guestsOnly === 'flush') this.flush();
    else if (guestsOnly === 'read') this.read();
    else if (random.chance(0.08)) this.flush();
    else if (random.chance(writes)) this.change();
    else this.read();
  }

  private change(): void {
    const { account } = this.world;
    const [first, count] = this.range();
    const whole = this.random.chance(this.world.setting.guests.empties);
    const start = whole ? first - (first % BLOCK_SECTORS) : first;
    const sectors = whole ? BLOCK_SECTORS : count;
    const isZero = whole || this.random.chance(0.05);
    const write = isZero ? 0 : account.nextWrite();
    const fua = this.random.chance(0.1);
    const words = new Uint32Array((sectors * SECTOR_BYTES) / 4);
    for (let at = 0; at < sectors; at++) fillSector(words, at, write, start + at);
    // Of a whole block only the sectors that anyone looks at are noted.
    const noted = whole ? this.world.setting.guests.sectors : count;
    const change = account.beginChange(start, noted, write);
    this.changes.add(change);
    this.submit(isZero ? IO_ZERO : IO_WRITE, start, new Uint8Array(words.buffer), fua, () => {
      this.changes.delete(change);
      account.endChange(change, fua);
    });
  }

  private read(): void {
    const { account } = this.world;
    const [first, count] = this.range();
    const bytes = new Uint8Array(count * SECTOR_BYTES).fill(0xee);
    const look = account.beginRead(first, count);
    this.looks.add(look);
    this.submit(IO_READ, first, bytes, false, () => {
      this.looks.delete(look);
      account.endRead(look, bytes);
    });
  }

  private flush(): void {
    const { twin } = this.world.account;
    const start = twin.now();
    this.submit(IO_FLUSH, 0, new Uint8Array(0), false, () => {
      this.world.flushes++;
      twin.endFlush(start);
    });
  }

  private range(): [number, number] {
    const { blocks, sectors } = this.world.setting.guests;
    const block = this.random.below(blocks);
    const first = this.random.below(sectors);
    return [block * BLOCK_SECTORS + first, 1 + this.random.below(sectors - first)];
  }

  private submit(kind: IoKind, first: number, data: Uint8Array, fua: boolean, succeeded: () => void): void {
    const { device, life, world } = this;
    if (device === null) return;
    const io = new GuestIo((error) => {
      world.scheduler.in(SOCKET_MS, () => {
        if (life !== this.life) return;
        this.inFlight--;
        world.judge(() => {
          if (error === null) succeeded();
          else world.guestError(this.name, kind, error);
        });
      });
    });
    io.kind = kind;
    io.offset = first * SECTOR_BYTES;
    io.length = data.byteLength;
    io.data = data;
    io.fua = fua;
    this.inFlight++;
    this.node.dataHost.in(SOCKET_MS, () => {
      if (life === this.life) device.submit(io);
    });
  }
}

export function found(bytes: Uint8Array, first: number): number[] {
  return Array.from({ length: bytes.byteLength / SECTOR_BYTES }, (_, at) =>
    writeIn(bytes.subarray(at * SECTOR_BYTES, (at + 1) * SECTOR_BYTES), first + at),
  );
}
