import { CUT_HISTORIES } from './cuts.ts';
import { FIRST_WRITE_HISTORIES } from './first-writes.ts';
import { FORWARDING_HISTORIES } from './forwarding.ts';
import type { History } from './history.ts';
import { LEASE_HISTORIES } from './leases.ts';
import { TAKEOVER_HISTORIES } from './takeovers.ts';

export const HISTORIES: readonly History[] = [
  ...LEASE_HISTORIES,
  ...TAKEOVER_HISTORIES,
  ...CUT_HISTORIES,
  ...FORWARDING_HISTORIES,
  ...FIRST_WRITE_HISTORIES,
];
