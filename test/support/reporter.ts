/** The last lines of a test run: what was skipped and why, then the counts. With CI set, a skipped test fails the run. */
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

export default class ClosingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const skipped: string[] = [];
    let passed = 0;
    let failed = unhandledErrors.length;
    for (const module of modules) {
      // A file or a suite that breaks before its tests is a failure that no test counts.
      failed += module.errors().length;
      for (const suite of module.children.allSuites()) failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed++;
        else if (state === 'failed') failed++;
        else skipped.push(`${module.relativeModuleId} > ${test.fullName}`);
      }
    }
    if (skipped.length > 0) {
      const verdict = process.env['CI'] ? 'which fails a run in CI' : '`npm run setup:host` installs the tools that suites need';
      process.stdout.write(`\n${skipped.length} skipped (${verdict}):\n${skipped.map((name) => `  ${name}\n`).join('')}`);
      if (process.env['CI']) process.exitCode = 1;
    }
    process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
  }
}
