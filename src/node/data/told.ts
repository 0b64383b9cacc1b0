/** What a data process knows by its control process: what the registry says, under which liveness epoch it lives, and until when it may answer. */
import type { LivenessEpoch } from '../../base/index.ts';
import type { NodeLease, Volumes } from '../../volume/index.ts';
import type { LeaseNotice, LivenessNotice, RegistryNotice, RegistryTable } from '../protocol.ts';
import type { Peers } from './peers.ts';

export class Told {
  livenessEpoch = 0 as LivenessEpoch;
  private readonly volumes: Volumes;
  private readonly peers: Pick<Peers, 'replaceAll' | 'update' | 'remove'>;
  private readonly nodeLease: NodeLease;

  constructor(volumes: Volumes, peers: Pick<Peers, 'replaceAll' | 'update' | 'remove'>, nodeLease: NodeLease) {
    this.volumes = volumes;
    this.peers = peers;
    this.nodeLease = nodeLease;
  }

  table({ volumes, nodes }: RegistryTable): void {
    this.peers.replaceAll(nodes);
    this.volumes.replaceAll(volumes);
  }

  registry(notice: RegistryNotice): void {
    if ('volume' in notice) this.volumes.update(notice.volume);
    else if ('removed' in notice) this.volumes.remove(notice.removed);
    else if ('removedNode' in notice) this.peers.remove(notice.removedNode);
    else this.peers.update(notice.node);
  }

  lease({ livenessEpoch, deadlineMs }: LeaseNotice): void {
    this.nodeLease.extend(livenessEpoch, deadlineMs);
  }

  liveness({ livenessEpoch }: LivenessNotice): void {
    this.livenessEpoch = livenessEpoch;
    this.nodeLease.begin(livenessEpoch);
  }
}
