/** All scenarios. */
import { OWNERSHIP } from './ownership/scenario.ts';
import { RAFT } from './raft/scenario.ts';
import type { Scenario } from './scenario.ts';
import { VOLUME } from './volume/scenario.ts';

export const SCENARIOS: readonly Scenario[] = [RAFT, OWNERSHIP, VOLUME];

export function scenarioOf(name: string): Scenario {
  const found = SCENARIOS.find((scenario) => scenario.name === name);
  if (found === undefined) throw new Error(`no scenario ${name}`);
  return found;
}
