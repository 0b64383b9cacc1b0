/** What a data process makes of the deadlines that it is told. */
import { expect, test } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import type { LivenessEpoch } from '../../src/base/index.ts';
import { Lease, NodeLease } from '../../src/volume/lease.ts';

const life = (value: number) => value as LivenessEpoch;

test('the latest deadline counts, in whatever order they come', () => {
  const clock = new ManualClock();
  const lease = new Lease(clock);
  expect(lease.valid).toBe(false);
  lease.extend(100);
  lease.extend(50);
  clock.advance(99);
  expect(lease.valid).toBe(true);
  clock.advance(1);
  expect(lease.valid).toBe(false);
});

// Counterexample: A expired, heartbeats, gets a new lease, has not yet applied its expiry, and acknowledges under its old ownership.
test('what was acquired under one liveness epoch is never answered for under the lease of another', () => {
  const clock = new ManualClock();
  const leases = new NodeLease(clock, 1000);
  leases.begin(life(1));
  leases.extend(life(1), 100);
  const owned = leases.current;
  clock.advance(200);
  leases.extend(life(2), 1000);
  expect(leases.current.valid, 'granted to a life that is not known here yet').toBe(false);
  leases.begin(life(2));
  leases.extend(life(2), 1000);
  expect(leases.current.valid).toBe(true);
  leases.extend(life(1), 1000);
  expect(owned.valid).toBe(false);
});

test('who waits for an extension hears of it, or that it has taken too long', () => {
  const clock = new ManualClock();
  const lease = new Lease(clock, 1000);
  const heard: boolean[] = [];
  lease.whenExtended((extended) => heard.push(extended));
  clock.advance(900);
  lease.extend(2000);
  expect(heard).toEqual([true]);
  lease.whenExtended((extended) => heard.push(extended));
  clock.advance(1000);
  expect(heard).toEqual([true, false]);
});
