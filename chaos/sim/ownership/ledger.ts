/** What the guests of a world asked and were told, and what owners did for it, passed to the checkers. */

import { IO_READ, IO_WRITE, type VolumeIo } from '../../../src/volume/device.ts';
import type { ServedVolume } from '../../../src/volume/served-volume.ts';
import { Violation } from '../../checkers/checker.ts';
import { FixedSnapshots } from '../../checkers/fixed-snapshots.ts';
import { FollowedWriters } from '../../checkers/followed-writers.ts';
import { checkLinearizable, type Operation } from '../../checkers/linearizability.ts';
import { fillSector, SECTOR_BYTES, sectorId } from '../../checkers/never-torn-nor-foreign.ts';
import { OneOwner } from '../../checkers/one-owner.ts';
import { type EpochRead, StaleWrites } from '../../checkers/stale-writes.ts';
import { type Patient, watchServed } from './bugs/bug.ts';

/** What a sector shows: the write that filled it, or 0. */
export function writeIn(bytes: Uint8Array, sector: number): number {
  return sectorId(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2), 0, sector);
}

export function sectorOf(write: number, sector: number): Uint8Array {
  const words = new Uint32Array(SECTOR_BYTES / 4);
  fillSector(words, 0, write, sector);
  return new Uint8Array(words.buffer);
}

interface Open extends Omit<Operation, 'return' | 'value'> {
  value: string | undefined;
  return: number;
}

export class Ledger {
  readonly stale = new StaleWrites();
  readonly snapshots = new FixedSnapshots();
  readonly owners = new OneOwner();
  readonly followed = new FollowedWriters();
  /** The first thing that a checker found where nobody could be told. */
  failure: unknown = null;
  acknowledgedWrites = 0;
  private time = 0;
  /** Grows when the power fails. */
  private era = 0;
  private readonly history: Open[] = [];

  begin(kind: 'read' | 'write', place: string, write?: number): Open {
    const operation: Open = {
      id: this.history.length + 1,
      kind,
      key: this.keyOf(place),
      value: write === undefined ? undefined : valueAfter(write),
      call: ++this.time,
      return: Number.POSITIVE_INFINITY,
    };
    this.history.push(operation);
    return operation;
  }

  end(operation: Open, found?: number): void {
    if (operation.kind === 'read') operation.value = valueAfter(found as number);
    else this.acknowledgedWrites++;
    operation.return = ++this.time;
  }

  /** A write that is under way may take effect once more, until it is answered. */
  again({ kind, key, value }: Open): Open {
    const operation = { id: this.history.length + 1, kind, key, value, call: ++this.time, return: Number.POSITIVE_INFINITY, optional: true };
    this.history.push(operation);
    return operation;
  }

  endAgain(operation: Open): void {
    operation.return = ++this.time;
  }

  /** A moment of the history, for what is told of it later. */
  moment(): number {
    return ++this.time;
  }

  endReadAt(operation: Open, found: number, returned: number): void {
    operation.value = valueAfter(found);
    operation.return = returned;
  }

  /** What was not answered may have been done or not, and what was not durable is there or not. */
  powerFailed(): void {
    this.era++;
    this.stale.powerFailed();
  }

  /** With this a place begins after a failure of the power. */
  holds(place: string, write: number): void {
    const at = ++this.time;
    this.history.push({ id: this.history.length + 1, kind: 'write', key: this.keyOf(place), value: valueAfter(write), call: at, return: at });
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

  private keyOf(place: string): string {
    return this.era === 0 ? place : `${place}, after ${this.era} failures of the power`;
  }

  /** Sees what this node serves as an owner. */
  watch(node: Patient): void {
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
    served.submit = (io: VolumeIo & { seen?: EpochRead }) => {
      // A pooled one, which was given back as it was when its owner moved.
      if (io.kind !== IO_READ && io.seen !== undefined) {
        delete (io as { done?: unknown }).done;
        delete io.seen;
      }
      const sectors = io.length / SECTOR_BYTES;
      if (io.kind === IO_WRITE) {
        for (let sector = 0; sector < sectors; sector++) {
          this.stale.submitted(
            placeOf(id, io.offset / SECTOR_BYTES + sector),
            writeIn(sectorAt(io, sector), io.offset / SECTOR_BYTES + sector),
            epoch,
          );
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
        if (error === null && seen !== undefined && !io.hole && io.data.byteLength === io.length) {
          for (let sector = 0; sector < io.length / SECTOR_BYTES; sector++) {
            this.stale.readEnds(
              placeOf(id, io.offset / SECTOR_BYTES + sector),
              seen,
              writeIn(sectorAt(io, sector), io.offset / SECTOR_BYTES + sector),
            );
          }
        }
      } catch (violation) {
        this.failure ??= violation;
      }
      done(error);
    };
  }
}

/** Zeros are what a place shows that was never written. */
function valueAfter(write: number): string | undefined {
  return write === 0 ? undefined : String(write);
}

export function placeOf(volume: number, sector: number): string {
  return `volume ${volume} sector ${sector}`;
}

function sectorAt(io: VolumeIo, sector: number): Uint8Array {
  return io.data.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
}
