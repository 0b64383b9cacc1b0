/** Proposing a command and reading its answer. */
import { ArchipelagoError } from '../../base/index.ts';
import { decodeResult, encodeCommand } from './codec.ts';
import type { Command, CommandValues } from './types.ts';

/** What gets a command into the log and resolves with its result once it was applied. */
export interface Proposer<Options = unknown> {
  propose(command: Uint8Array, options?: Options): Promise<Uint8Array>;
}

/** Rejects with the registry's refusal as a typed error, or with the proposer's own: then the outcome may be unknown. */
export async function propose<Type extends Command['type'], Options = unknown>(
  proposer: Proposer<Options>,
  command: Extract<Command, { type: Type }>,
  options?: Options,
): Promise<CommandValues[Type]> {
  const bytes = encodeCommand(command);
  const answer = await (options === undefined ? proposer.propose(bytes) : proposer.propose(bytes, options));
  const result = decodeResult<Type>(command.type, answer);
  if ('error' in result) throw ArchipelagoError.fromBody(result.error);
  return result.ok;
}
