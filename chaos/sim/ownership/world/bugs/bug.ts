/** What a bug of the random worlds is: it wraps methods of one node's processes, in each of their lives. */
import type { NodeLease } from '../../../../../src/volume/lease.ts';
import type { Patient } from '../../bugs/bug.ts';
import type { ControlPatient } from '../control-process.ts';

export interface DataPatient extends Patient {
  readonly lease: NodeLease;
}

export interface WorldBug {
  readonly name: string;
  /** The mistake, as one would make it. */
  readonly mistake: string;
  readonly data?: (patient: DataPatient) => void;
  readonly control?: (patient: ControlPatient) => void;
}
