/** A short history that a rule of the ownership protocol prevents, and the bug that leaves the rule out. */
import type { Fence } from '../../volume/disk.ts';
import type { HistoryBug } from '../bugs/bug.ts';
import { Story } from '../story.ts';

export interface History {
  /** The rule that it needs. */
  readonly rule: string;
  readonly bug: HistoryBug;
  readonly fence?: Fence;
  /** Layered blocks are merged, when the story says so. */
  readonly merges?: boolean;
  tell(story: Story): Promise<void>;
}

/** Tells a history, with the production code or with a bug. Throws what a checker finds. */
export async function tellHistory({ fence = 'guard', merges = false, tell }: History, bug: HistoryBug | null): Promise<Story> {
  const story = new Story({ bug, fence, merges });
  await story.begin();
  await tell(story);
  await story.end();
  return story;
}
