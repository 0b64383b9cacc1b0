/** What the guests of a world asked and were told, and what owners did for it, passed to the checkers. */

import { IO_READ, IO_WRITE, type VolumeIo } from '../../../src/volume/device.ts';
import type { ServedVolume } from '../../../src/volume/served-volume.ts';
import { Violation } from '../../checkers/checker.ts';
import { FixedSnapshots } from '../../checkers/fixed-snapshots.ts';
import { checkLinearizable, type Operation } from '../../checkers/linearizability.ts';
import { OneOwner } from '../../checkers/one-owner.ts';
import { type EpochRead, StaleWrites } from '../../checkers/stale-writes.ts';
import { watchServed } from './bugs/bug.ts';
import type { Node } from './cluster.ts';

export const SECTOR_BYTES = 512;

/** What a sector shows: the write that filled it, or 0. */
export function writeIn(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const [first] = words;
  if (words.some((word) => word !== first))
    throw new Violation('torn-sectors', `a sector shows writes ${first} and ${words.find((word) => word !== first)}`);
  return first as number;
}

export function sectorOf(write: number): Uint8Array {
  const bytes = new Uint8Array(SECTOR_BYTES);
  new Uint32Array(bytes.buffer).fill(write);
  return bytes;
}

interface Open extends Omit<Operation, 'return' | 'value'> {
  value: string | undefined;
  return: number;
}

export class Ledger {
  readonly stale = new StaleWrites();
  readonly snapshots = new FixedSnapshots();
  readonly owners = new OneOwner();
  /** The first thing that a checker found where nobody could be told. */
  failure: unknown = null;
  acknowledgedWrites = 0;
  private time = 0;
  private readonly history: Open[] = [];

  begin(kind: 'read' | 'write', place: string, write?: number): Open {
    const operation: Open = {
      id: this.history.length + 1,
      kind,
      key: place,
      value: write === undefined ? undefined : String(write),
      call: ++this.time,
      return: Number.POSITIVE_INFINITY,
    };
    this.history.push(operation);
    return operation;
  }

  end(operation: Open, found?: number): void {
    if (operation.kind === 'read') operation.value = found === 0 ? undefined : String(found);
    else this.acknowledgedWrites++;
    operation.return = ++this.time;
  }

  /** A guest was told of an error, which it must never be while a quorum comes back in time. */
  failed(what: string, error: unknown): never {
    throw new Violation('guest-errors', `${what} failed: ${error instanceof Error ? error.message : String(error)}`);
  }

  check(): void {
    if (this.failure !== null) throw this.failure;
    // A read that nobody was told of says nothing.
    checkLinearizable(this.history.filter(({ kind, return: end }) => kind === 'write' || end !== Number.POSITIVE_INFINITY));
  }

  /** Sees what this node serves as an owner. */
  watch(node: Node): void {
    watchServed(node, (served, volume) => {
      const { id } = volume.record;
      try {
        this.owners.serves(id, served.epoch, node, node.name);
      } catch (error) {
        this.failure ??= error;
      }
      this.watchIo(served, id);
    });
  }

  private watchIo(served: ServedVolume, id: number): void {
    const { epoch } = served;
    const submit = served.submit.bind(served);
    served.submit = (io) => {
      const sectors = io.length / SECTOR_BYTES;
      if (io.kind === IO_WRITE) {
        for (let sector = 0; sector < sectors; sector++) {
          this.stale.submitted(placeOf(id, io.offset / SECTOR_BYTES + sector), writeIn(sectorAt(io, sector)), epoch);
        }
      } else if (io.kind === IO_READ && io.length > 0 && io.length % SECTOR_BYTES === 0) {
        this.watchRead(io, id, this.stale.readBegins(epoch));
      }
      submit(io);
    };
  }

  /** The I/O may be submitted again, elsewhere, before it is done. */
  private watchRead(io: VolumeIo & { seen?: EpochRead }, id: number, read: EpochRead): void {
    const again = io.seen !== undefined;
    io.seen = read;
    if (again) return;
    const done = io.done.bind(io);
    io.done = (error) => {
      const { seen } = io;
      delete (io as { done?: unknown }).done;
      delete io.seen;
      try {
        if (error === null && seen !== undefined && !io.hole) {
          for (let sector = 0; sector < io.length / SECTOR_BYTES; sector++) {
            this.stale.readEnds(placeOf(id, io.offset / SECTOR_BYTES + sector), seen, writeIn(sectorAt(io, sector)));
          }
        }
      } catch (violation) {
        this.failure ??= violation;
      }
      done(error);
    };
  }
}

export function placeOf(volume: number, sector: number): string {
  return `volume ${volume} sector ${sector}`;
}

function sectorAt(io: VolumeIo, sector: number): Uint8Array {
  return io.data.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
}
