/** All planted bugs. */
import type { Bug } from './bug.ts';
import { ELECTION_BUGS } from './elections.ts';
import { MEMBERSHIP_BUGS } from './membership.ts';
import { READ_BUGS } from './reads.ts';
import { REPLICATION_BUGS } from './replication.ts';
import { STATE_BUGS } from './state.ts';

export const BUGS: readonly Bug[] = [...ELECTION_BUGS, ...REPLICATION_BUGS, ...READ_BUGS, ...MEMBERSHIP_BUGS, ...STATE_BUGS];
