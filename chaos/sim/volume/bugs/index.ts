/** All planted bugs. */
import type { Bug } from './bug.ts';
import { COLLECTION_BUGS } from './collections.ts';
import { DURABILITY_BUGS } from './durability.ts';
import { FENCE_BUGS } from './fences.ts';
import { SHARING_BUGS } from './sharing.ts';

export const BUGS: readonly Bug[] = [...DURABILITY_BUGS, ...SHARING_BUGS, ...FENCE_BUGS, ...COLLECTION_BUGS];
