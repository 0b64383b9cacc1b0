import { DRAIN_BUGS } from '../../bugs/drains.ts';
import { FENCE_BUGS } from '../../bugs/fences.ts';
import { FORWARDING_BUGS } from '../../bugs/forwarding.ts';
import { LEASE_BUGS } from '../../bugs/leases.ts';
import type { WorldBug } from './bug.ts';
import { FORWARDING_WORLD_BUGS } from './forwarding.ts';
import { LEASE_WORLD_BUGS } from './leases.ts';
import { OWNER_WORLD_BUGS } from './owners.ts';

/** Those that only random worlds have. */
export const WORLD_BUGS: readonly WorldBug[] = [...LEASE_WORLD_BUGS, ...OWNER_WORLD_BUGS, ...FORWARDING_WORLD_BUGS];

/** Those of the histories that random worlds can have as well. */
export const TOLD_IN_WORLDS: readonly WorldBug[] = [LEASE_BUGS, FENCE_BUGS, DRAIN_BUGS, FORWARDING_BUGS].flatMap((bugs) =>
  Object.values(bugs).map(({ name, mistake, plant }) => ({ name, mistake, data: plant })),
);
