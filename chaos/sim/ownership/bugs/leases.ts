/** Owners that answer without being sure that they still are. */
import { ArchipelagoError } from '../../../../src/base/index.ts';
import type { Command } from '../../../../src/mapper/index.ts';
import type { State } from '../../../../src/mapper/registry/state.ts';
import { IO_READ, type VolumeIo } from '../../../../src/volume/device.ts';
import type { ServedVolume } from '../../../../src/volume/served-volume.ts';
import { type Bug, type HistoryBug, insideVolume, watchServed, watchVolumes, wrap } from './bug.ts';

interface ServedInside {
  answer(io: VolumeIo, error: ArchipelagoError | null): void;
}

interface RegistryInside {
  readonly state: Pick<State, 'volume' | 'putVolume'>;
  execute(command: Command, term: number): unknown;
}

const insideServed = (served: ServedVolume) => served as unknown as ServedInside;

/** Answers as if the lease held. */
function withoutLease(served: ServedVolume, kinds: (io: VolumeIo) => boolean): void {
  const lease = served.owned?.lease as object;
  wrap(insideServed(served), 'answer', (answer) => (io, error) => {
    if (kinds(io)) Object.defineProperty(lease, 'valid', { value: true, configurable: true });
    try {
      answer(io, error);
    } finally {
      delete (lease as { valid?: unknown }).valid;
    }
  });
}

export const LEASE_BUGS = {
  answersWithoutLease: {
    name: 'answers-without-lease',
    mistake: 'an owner does not look at its lease again after the store has answered',
    plant: (node) => watchServed(node, (served) => withoutLease(served, () => true)),
  },
  readsWithoutLease: {
    name: 'reads-without-lease',
    mistake: 'reads change nothing, so they are answered without a lease',
    plant: (node) => watchServed(node, (served) => withoutLease(served, (io) => io.kind === IO_READ)),
  },
  answersUnderAnotherEpoch: {
    name: 'answers-under-another-epoch',
    mistake: 'what was submitted under an ownership that has ended is answered when the node is the owner again',
    plant: (node) =>
      watchServed(node, (served) => {
        served.revoke = async () => {
          void served.stopAdmitting();
          served.forgetBlocks = () => undefined;
        };
      }),
  },
  resumesAfterTimeout: {
    name: 'resumes-after-timeout',
    mistake: 'an owner whose handover had no answer in time goes on as before',
    plant(node) {
      wrap(node.registry, 'propose', (propose) => (command) => {
        const outcome = propose(command);
        if (command.type !== 'handOver') return outcome;
        return new Promise((resolve, reject) => {
          node.clock.setTimer(1000, () => reject(new ArchipelagoError('timeout', 'the handover timed out')));
          void outcome.then((value) => resolve(value as never), reject);
        });
      });
    },
  },
  revokedGoesOn: {
    name: 'revoked-goes-on',
    mistake: 'an owner that is to give a volume up goes on answering for it under leases that are granted later',
    plant: (node) =>
      watchServed(node, ({ owned }) => {
        if (owned) owned.lease.revoke = () => undefined;
      }),
  },
  forgetsHandOver: {
    name: 'forgets-handover-state',
    mistake: 'whoever tries to acquire a volume forgets what it was told for a later handover',
    plant: (node) =>
      watchVolumes(node, (volume) => {
        const inside = insideVolume(volume);
        wrap(inside, 'acquire', (acquire) => async () => {
          inside.handedOver = null;
          await acquire().finally(() => {
            inside.handedOver = null;
          });
        });
      }),
  },
  reusesHandOver: {
    name: 'reuses-handover-state',
    mistake: 'what an owner told for a handover that was refused is used at the failover after it',
    plant: (node) =>
      watchVolumes(node, (volume) => {
        const inside = insideVolume(volume);
        wrap(inside, 'acquire', (acquire) => async () => {
          const told = inside.handedOver;
          await acquire();
          if (told === null) return;
          inside.acquired = null;
          inside.handedOver = { ...told, epoch: inside.record.epoch };
        });
      }),
  },
} satisfies Record<string, Bug>;

/** Those that need the story's registry, or its leases. */
export const TOLD_LEASE_BUGS = {
  leaseOutlivesExpiry: {
    name: 'lease-outlives-expiry',
    mistake: 'a lease for a new liveness epoch also counts for what was owned under the one before',
    plant(node) {
      const { lease } = node;
      wrap(node, 'begin', (begin) => (livenessEpoch) => {
        begin(livenessEpoch);
        node.lease = lease;
        lease.extend(Number.POSITIVE_INFINITY);
      });
    },
  },
  forgetsRevocation: {
    name: 'forgets-revocation',
    mistake: 'whether an owner is to give a volume up is decided anew when another lock is broken',
    plant({ decided }) {
      const inside = decided as unknown as RegistryInside;
      wrap(inside, 'execute', (execute) => (command, term) => {
        const result = execute(command, term);
        const volume = command.type === 'revoke' ? inside.state.volume(command.id) : undefined;
        if (command.type !== 'revoke' || volume === undefined) return result;
        inside.state.putVolume({ ...volume, record: { ...volume.record, revoked: volume.record.owner?.node === command.holder } });
        return result;
      });
    },
  },
  unconditionalCommands: {
    name: 'unconditional-commands',
    mistake: 'a command about an ownership is applied whatever the epoch is by then',
    plant(node) {
      node.unconditional = true;
    },
  },
} satisfies Record<string, HistoryBug>;
