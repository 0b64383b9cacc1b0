/** Volumes that go where nobody wants them. */
import type { Epoch } from '../../../../src/base/index.ts';
import type { Device } from '../../../../src/volume/device.ts';
import type { Volume } from '../../../../src/volume/volume.ts';
import { type Bug, type Patient, watchVolumes, wrap } from './bug.ts';

/** Private parts of a client's device. */
interface DeviceInside {
  readonly volume: Volume;
  readonly attachedEpoch: Epoch;
  writes: boolean;
}

/** Does something with each client's device before its I/O. */
function beforeIo(node: Patient, by: (device: DeviceInside) => void): void {
  wrap(node.volumes, 'attach', (attach) => async (name) => {
    const device: Device = await attach(name);
    const inside = device as unknown as DeviceInside;
    wrap(device, 'submit', (submit) => (io) => {
      by(inside);
      submit(io);
    });
    return device;
  });
}

interface FollowInside {
  wrote(writer: { attachedEpoch: Epoch }): void;
  follow(writer: { attachedEpoch: Epoch }, epoch: Epoch): void;
}

const insideFollow = (volume: Volume) => volume.followWriter as unknown as FollowInside;

export const FIRST_WRITE_BUGS = {
  readsMove: {
    name: 'reads-move-ownership',
    mistake: 'a volume moves to a client that only reads',
    plant: (node) =>
      beforeIo(node, (device) => {
        if (!device.writes) device.writes = device.volume.clientWrites(device.attachedEpoch);
      }),
  },
  everyWriteMoves: {
    name: 'every-write-moves-ownership',
    mistake: 'each write of a client counts as its first',
    plant: (node) =>
      beforeIo(node, (device) => {
        if (device.writes) device.volume.writers.ended();
        device.writes = false;
      }),
  },
  leavesWriter: {
    name: 'leaves-writer-at-owner',
    mistake: 'an owner gives a volume away that its own client writes to',
    plant: (node) => watchVolumes(node, ({ writers }) => Object.defineProperty(writers, 'any', { get: () => false })),
  },
  movesAtOnce: {
    name: 'moves-without-a-stay',
    mistake: 'a volume moves to its writer however short it has been where it is',
    plant: (node) =>
      watchVolumes(node, (volume) => {
        wrap(insideFollow(volume), 'wrote', () => (writer) => insideFollow(volume).follow(writer, volume.record.epoch));
      }),
  },
  undoesMigration: {
    name: 'undoes-migration',
    mistake: 'the first write of a client counts however long ago it has attached',
    plant: (node) =>
      watchVolumes(node, (volume) => {
        wrap(insideFollow(volume), 'wrote', (wrote) => (writer) => wrote({ ...writer, attachedEpoch: volume.record.epoch }));
      }),
  },
} satisfies Record<string, Bug>;
