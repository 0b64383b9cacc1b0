/** Logging of a daemon: JSON lines on standard output, which `up` and systemd keep. */
import { pino } from 'pino';
import type { Log } from '../base/index.ts';
import type { NodeConfig } from './config.ts';

export function openLog(config: Pick<NodeConfig, 'name' | 'logLevel'>, role: 'control' | 'data'): Log {
  const logger = pino(
    { level: config.logLevel, base: { node: config.name, role }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ sync: true }),
  );
  return logger as Log;
}

/**
 * Ends the process at anything that nobody expected. An assertion that failed means that memory cannot be trusted, so nothing is tidied up:
 * the next start recovers as it does after a crash.
 */
export function dieOnBugs(log: Log): void {
  const die = (error: unknown): void => {
    log.error({ error: error instanceof Error ? error.stack : String(error) }, 'stopping at an error that nobody expected');
    process.exit(1);
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
}
