/** The way into the CLI. A daemon comes through the same door and does not pay for what only commands need. */
import type { CliContext } from './program.ts';

/** Runs one command line; resolves to its exit status. */
export async function runCli(args: readonly string[], context: CliContext): Promise<number> {
  const program = await import('./program.ts');
  return program.runCli(args, context);
}
