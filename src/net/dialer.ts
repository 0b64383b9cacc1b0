/**
 * Keeps the links to one peer connected, if this side is the one that dials. One attempt at a time, for libp2p would give two the same
 * connection; and a peer that does not answer for one link is not asked for the next before a pause.
 */
import { ArchipelagoError, type Clock, type Timer } from '../base/index.ts';
import type { PeerLink } from './link.ts';
import type { Timing } from './types.ts';

/** A connection that lived for this long was a good one: the next attempt comes soon. A shorter one counts as one more failure. */
const STABLE_MS = 2000;

/** Connects a link or throws; the signal limits the time. */
export type Connect = (link: PeerLink, addresses: string[], signal: AbortSignal) => Promise<void>;

export class Dialer {
  private addresses: string[];
  private readonly links: readonly PeerLink[];
  private readonly connect: Connect;
  private readonly clock: Clock;
  private readonly timing: Timing;
  private readonly connectedAtMs = new Map<PeerLink, number>();
  private backoffMs = 0;
  private timer: Timer | null = null;
  private attempt: AbortController | null = null;
  private stopped = false;

  constructor(links: readonly PeerLink[], addresses: string[], connect: Connect, clock: Clock, timing: Timing) {
    this.links = links;
    this.addresses = addresses;
    this.connect = connect;
    this.clock = clock;
    this.timing = timing;
    this.dialNext();
  }

  /** New addresses are tried at once. */
  setAddresses(addresses: string[]): void {
    if (addresses.join() === this.addresses.join()) return;
    this.addresses = addresses;
    this.backoffMs = 0;
    this.timer?.cancel();
    this.timer = null;
    this.dialNext();
  }

  /** A link of this peer has lost its connection. */
  lost(link: PeerLink): void {
    const connectedAtMs = this.connectedAtMs.get(link);
    if (connectedAtMs === undefined || this.clock.nowMs() - connectedAtMs < STABLE_MS) this.growBackoff();
    else this.backoffMs = this.timing.minBackoffMs;
    this.pauseThenDial(this.backoffMs);
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
    this.attempt?.abort();
  }

  private dialNext(): void {
    if (this.stopped || this.attempt !== null || this.timer !== null) return;
    const link = this.links.find((candidate) => !candidate.connected);
    if (link !== undefined && this.addresses.length > 0) void this.dial(link);
  }

  private async dial(link: PeerLink): Promise<void> {
    const attempt = new AbortController();
    this.attempt = attempt;
    const { connectTimeoutMs } = this.timing;
    const timer = this.clock.setTimer(connectTimeoutMs, () => attempt.abort());
    link.setState({ status: 'connecting', error: null });
    let pauseMs = 0;
    try {
      await this.connect(link, this.addresses, attempt.signal);
      this.connectedAtMs.set(link, this.clock.nowMs());
    } catch (error) {
      this.growBackoff();
      pauseMs = this.backoffMs;
      if (error instanceof RefusedError) pauseMs = Math.max(pauseMs, this.timing.refusedBackoffMs);
      // The peer's other links wait for this one: what keeps it apart keeps them apart.
      const state = stateAfter(link, error, attempt.signal.aborted, connectTimeoutMs);
      if (!this.stopped) for (const each of this.links) each.setState(state);
    } finally {
      timer.cancel();
      this.attempt = null;
    }
    if (pauseMs > 0) this.pauseThenDial(pauseMs);
    else this.dialNext();
  }

  private growBackoff(): void {
    const { minBackoffMs, maxBackoffMs } = this.timing;
    this.backoffMs = Math.min(Math.max(minBackoffMs, this.backoffMs * 2), maxBackoffMs);
  }

  private pauseThenDial(pauseMs: number): void {
    if (this.stopped || this.timer !== null) return;
    this.timer = this.clock.setTimer(pauseMs, () => {
      this.timer = null;
      this.dialNext();
    });
  }
}

/** The handshake ended with a no. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly error: ArchipelagoError;

  constructor(error: ArchipelagoError) {
    super(error.message, { cause: error });
    this.error = error;
  }
}

function stateAfter(link: PeerLink, error: unknown, timedOut: boolean, timeoutMs: number): PeerLink['state'] {
  if (error instanceof RefusedError) return { status: 'refused', error: error.error };
  if (error instanceof ArchipelagoError) return { status: 'connecting', error };
  const { name, message } = error as Error;
  if (timedOut) {
    return {
      status: 'connecting',
      error: new ArchipelagoError('unavailable', `${link.name} did not answer within ${timeoutMs} ms`, { cause: error }),
    };
  }
  if (name === 'UnsupportedProtocolError') {
    const text = `the host at ${link.name}'s address serves another purpose`;
    return { status: 'connecting', error: new ArchipelagoError('unavailable', text, { cause: error, hint: 'check the addresses of the node' }) };
  }
  return { status: 'connecting', error: new ArchipelagoError('unavailable', `cannot connect to ${link.name}: ${message}`, { cause: error }) };
}
