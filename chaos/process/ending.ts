/** What has to be undone, whatever happens: processes end, directories go. */

/** Takes a step of the clean-up. Steps run last one first, when whoever gave this says so. */
export type AtEnd = (step: () => unknown) => void;

export class Ending {
  private readonly steps: (() => unknown)[] = [];

  readonly add: AtEnd = (step) => void this.steps.push(step);

  /** All of them run, also after one that fails; the first failure is thrown. */
  async run(): Promise<void> {
    const failures: unknown[] = [];
    for (let step = this.steps.pop(); step; step = this.steps.pop()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
