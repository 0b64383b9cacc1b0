/**
 * One question and its answer between hosts of which one may be in nobody's list: how a node joins, and how one that was removed learns it.
 * libp2p has authenticated both sides by their PeerIds and encrypts what they say; the question is all that a stranger can do here.
 *
 *     guest → host   REQUEST   the question as metadata, at most 4096 bytes
 *     host → guest   REPLY     the answer as metadata, or FAILURE with an error
 *
 * A stranger is let in only while the service admits it, few of them at a time, and each for a short while.
 */
import type { Connection } from '@libp2p/interface';
import { ArchipelagoError, type Clock, type Log } from '../base/index.ts';
import { Channel } from './channel.ts';
import { cut } from './cut.ts';
import { KIND_FAILURE, KIND_REPLY, KIND_REQUEST, ProtocolError } from './frame.ts';
import { decodeError, encodeError } from './handshake.ts';
import type { Identity } from './identity.ts';
import type { Node, Opened } from './libp2p-node.ts';

/** The last part of the protocol's name, where links have their class of traffic. */
export const ASK = 'ask';
/** A stranger may hold up to eight streams, each with some memory. */
const MAX_STRANGERS = 4;
/** From the connection to the end of the answer. */
const STRANGER_TIMEOUT_MS = 20_000;
const MAX_ANSWER_BYTES = 256 * 1024;
const MAX_ERROR_BYTES = 4096;

export interface GuestService {
  /** Whether a PeerId that is not in the list may ask something now. Those in the list always may. */
  admits(peerId: string): boolean;
  /** Takes a question of `peerId`, which is authenticated. Rejects with what the guest is told. */
  answer(peerId: string, question: Uint8Array): Promise<Uint8Array>;
}

export interface Asked {
  readonly peerId: string;
  /** Tried in this order. */
  readonly addresses: readonly string[];
  readonly question: Uint8Array;
  readonly timeoutMs: number;
}

export interface GuestsOptions {
  readonly service: GuestService;
  readonly isMember: (peerId: string) => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** The host's side. */
export class Guests {
  private readonly options: GuestsOptions;
  private readonly strangers = new Set<Connection>();

  constructor(options: GuestsOptions) {
    this.options = options;
  }

  admits(peerId: string): boolean {
    return this.options.service.admits(peerId);
  }

  /** Every inbound connection is told here; one of a stranger counts, and ends in time whatever it does. */
  opened(connection: Connection): void {
    const { clock, log, isMember } = this.options;
    const peerId = connection.remotePeer.toString();
    if (isMember(peerId)) return;
    if (this.strangers.size >= MAX_STRANGERS) {
      log.warn({ peerId }, 'refused a stranger: too many at a time');
      cut(connection, new Error('too many strangers'));
      return;
    }
    this.strangers.add(connection);
    const timer = clock.setTimer(STRANGER_TIMEOUT_MS, () => cut(connection, new Error('a stranger stayed too long')));
    connection.addEventListener('close', () => {
      timer.cancel();
      this.strangers.delete(connection);
    });
  }

  accept({ stream, connection }: Opened): void {
    const peerId = connection.remotePeer.toString();
    if (!this.options.isMember(peerId) && !this.admits(peerId)) {
      cut(connection, new Error('the peer may not ask'));
      return;
    }
    const channel = new Channel(stream, connection);
    let asked = false;
    let ended = false;
    channel.listen(
      ({ kind }, question) => {
        if (asked || kind !== KIND_REQUEST) throw new ProtocolError('a guest asks one question');
        asked = true;
        this.options.service.answer(peerId, question).then(
          (answer) => {
            if (!ended) channel.send(KIND_REPLY, 1, 0, answer);
          },
          (error: unknown) => {
            if (!ended) channel.send(KIND_FAILURE, 1, 0, encodeError(ArchipelagoError.from(error, 'answering a guest'), MAX_ERROR_BYTES));
          },
        );
      },
      () => {
        ended = true;
      },
      () => {},
    );
  }
}

/** The guest's side, for a process that has no host. It listens nowhere. */
export async function askAsGuest(identity: Identity, purpose: string, asked: Asked, clock: Clock): Promise<Uint8Array> {
  const { startNode } = await import('./libp2p-node.ts');
  const nobody = { isAllowed: () => false, denied: () => {}, opened: () => {}, protocols: [], accept: () => {} };
  const node = await startNode({ identity, listen: [], clock, ...nobody });
  try {
    return await ask(node, purpose, asked, clock);
  } finally {
    await node.stop();
  }
}

/**
 * Rejects with the host's refusal, `forbidden` when it lets no stranger in, `unavailable` when it cannot be reached or is another one than
 * it should be, or `timeout`: then it may have been asked.
 */
export async function ask(node: Node, purpose: string, asked: Asked, clock: Clock): Promise<Uint8Array> {
  const { peerId, addresses, question, timeoutMs } = asked;
  const attempt = new AbortController();
  const where = `${peerId} at ${addresses.join(', ')}`;
  const timer = clock.setTimer(timeoutMs, () => attempt.abort(new ArchipelagoError('timeout', `no answer from ${where} within ${timeoutMs} ms`)));
  try {
    const connection = await node.dial(peerId, [...addresses], attempt.signal).catch((error: unknown) => {
      if (attempt.signal.aborted) throw attempt.signal.reason;
      throw new ArchipelagoError('unavailable', `cannot reach ${where}: ${(error as Error).message}`, { cause: error });
    });
    const stream = await connection.newStream(`/archipelago/${purpose}/${ASK}`, { signal: attempt.signal }).catch((error: unknown) => {
      cut(connection, error as Error);
      if (attempt.signal.aborted) throw attempt.signal.reason;
      throw new ArchipelagoError('forbidden', `${where} lets no stranger in: ${(error as Error).message}`, { cause: error });
    });
    return await exchange(new Channel(stream, connection), question, attempt.signal);
  } finally {
    timer.cancel();
  }
}

function exchange(channel: Channel, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  const done = new ArchipelagoError('unavailable', 'the question was answered');
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => channel.end(signal.reason as ArchipelagoError));
    channel.admit(MAX_ANSWER_BYTES, 0);
    channel.listen(
      ({ kind }, metadata) => {
        if (kind === KIND_REPLY) resolve(metadata);
        else if (kind === KIND_FAILURE) reject(decodeError(metadata));
        else throw new ProtocolError(`a frame of kind ${kind} is no answer`);
        channel.end(done);
      },
      // Also after an answer, and then nobody hears it.
      (error) => reject(error),
      () => {},
    );
    channel.send(KIND_REQUEST, 1, 0, question);
  });
}
