/** Tests with real daemons: each is a story, takes its time, and is told by its name when it fails. */
import { it } from 'vitest';

/** On a machine that does other things as well. */
const STORY_TIMEOUT_MS = 8 * 60_000;

export function stories(name: string, story: () => Promise<void>): void {
  it(name, { timeout: STORY_TIMEOUT_MS }, story);
}
