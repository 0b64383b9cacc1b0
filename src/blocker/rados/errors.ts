/** What librados' error numbers mean to the layers above. */
import { constants } from 'node:os';
import { ArchipelagoError, type Epoch, type ErrorCode, type VolumeId } from '../../base/index.ts';
import { volumeText } from '../answers.ts';

const { errno } = constants;

export const MISSING = -errno.ENOENT;
export const EXISTS = -errno.EEXIST;
/** There is no such attribute. */
export const NO_DATA = -errno.ENODATA;
/** The client is on the blocklist of the cluster. Linux's ESHUTDOWN, which Node does not name. */
export const SHUT_OUT = -108;
/** A guard did not hold. */
export const STALE = -errno.ECANCELED;

const CODES = new Map<number, { code: ErrorCode; what: string; hint?: string }>([
  [errno.ENOENT, { code: 'not-found', what: 'does not exist' }],
  [errno.EEXIST, { code: 'exists', what: 'exists already' }],
  [errno.ECANCELED, { code: 'stale-epoch', what: 'belongs to an owner of a higher epoch' }],
  [errno.ENXIO, { code: 'io-error', what: 'lies in a pool that is gone', hint: 'no copy of the data is left in Ceph; see docs/rados.md' }],
  [-SHUT_OUT, { code: 'io-error', what: 'failed, because this client is on the blocklist', hint: 'see `ceph osd blocklist ls`' }],
  [errno.ENOSPC, { code: 'no-space', what: 'found no room', hint: 'add OSDs or free space in the Ceph cluster' }],
  [errno.EDQUOT, { code: 'no-space', what: 'reached the quota of its pool', hint: 'raise the quota of the pool, or free space in it' }],
  [errno.ETIMEDOUT, { code: 'unavailable', what: 'had no answer', hint: 'see whether the monitors and OSDs run: ceph -s' }],
  [errno.EACCES, { code: 'forbidden', what: 'is not allowed', hint: 'give the user the capabilities that docs/rados.md lists' }],
  [errno.EPERM, { code: 'forbidden', what: 'is not allowed', hint: 'give the user the capabilities that docs/rados.md lists' }],
]);

/** `result` is negative; `what` names the object or the work. */
export function radosError(result: number, what: string): ArchipelagoError {
  const known = CODES.get(-result);
  if (known === undefined) {
    const name = Object.entries(errno).find(([, number]) => number === -result)?.[0] ?? String(result);
    return new ArchipelagoError('io-error', `${what}: Ceph answers ${name}`, { hint: 'see `ceph -s` and the logs of the OSDs' });
  }
  const { code, hint } = known;
  return new ArchipelagoError(code, `${what} ${known.what}`, hint === undefined ? {} : { hint });
}

/** `step` is what the binding says. */
export function connectError(result: number, step: string, user: string, confFile: string): ArchipelagoError {
  if (step === 'configuration') return radosError(result, `Ceph's configuration file ${confFile}`);
  if (step !== 'connection') return radosError(result, `Ceph's ${step}, which client.${user} is to use with ${confFile},`);
  if (result !== MISSING) return radosError(result, `connecting to Ceph as client.${user} with ${confFile}`);
  return new ArchipelagoError('not-found', `there is no keyring for client.${user} where ${confFile} or Ceph's defaults say`, {
    hint: 'copy the keyring to this host; docs/rados.md says how to make one',
  });
}

export function staleEpoch(volume: VolumeId, epoch: Epoch): ArchipelagoError {
  return new ArchipelagoError('stale-epoch', `${volumeText(volume)} was taken over under a higher epoch than ours, ${epoch}`);
}
