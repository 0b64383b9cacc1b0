/** One NBD client: its socket, from the greeting to the last reply. */
import type { Socket } from 'node:net';
import type { Clock, Log, Timer } from '../../base/index.ts';
import type { DeviceDirectory } from '../../volume/index.ts';
import type { Reader } from './adopt.ts';
import type { BufferPool } from './buffers.ts';
import { Handshake } from './handshake.ts';
import { Intake } from './intake.ts';
import { ReplyQueue } from './replies.ts';
import { Transmission, type TransmissionLimits } from './transmission.ts';

export interface ConnectionOptions {
  readonly directory: DeviceDirectory;
  readonly log: Log;
  readonly pool: BufferPool;
  readonly limits: TransmissionLimits;
  /** Runs a callback when the completions that are due now are through, so that their replies leave together. */
  readonly defer: (callback: () => void) => void;
  readonly clock: Clock | null;
  readonly handshakeTimeoutMs: number;
  /** The client is gone and its device closed. */
  readonly closed: (connection: Connection) => void;
}

export class Connection implements Reader {
  private readonly options: ConnectionOptions;
  private readonly intake: Intake;
  private log: Log;
  private handshake: Handshake | null = null;
  private transmission: Transmission | null = null;
  private replies: ReplyQueue | null = null;
  private socket: Socket | null = null;
  private handshakeTimer: Timer | null = null;
  /** The client has sent its last byte. */
  private finished = false;
  /** The server stops: what is under way ends, nothing new begins. */
  private stopping = false;
  /** The socket does not read until there is room again. */
  private paused = false;
  /** The last replies leave, then the socket closes. */
  private closing = false;
  private gone = false;
  private released = false;
  private turnIsDue = false;
  private readonly endTurn = (): void => this.turnEnded();
  private readonly onSent = (): void => this.repliesSent();

  constructor(options: ConnectionOptions) {
    this.options = options;
    this.log = options.log;
    this.intake = new Intake(options.pool);
  }

  /** True in the transmission phase. */
  get attached(): boolean {
    return this.transmission !== null;
  }

  open(socket: Socket): void {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('end', () => this.ended());
    socket.on('error', (error) => this.log.debug({ reason: error.message }, 'an NBD client went away'));
    socket.on('close', () => this.lost());
    const { directory } = this.options;
    const send = (bytes: Uint8Array): void => {
      if (!socket.destroyed) socket.write(bytes);
    };
    this.handshake = new Handshake({ directory, intake: this.intake, log: this.log, send, goOn: () => this.goOn() });
    this.armHandshakeTimer();
    this.handshake.greet();
  }

  target(): Uint8Array {
    return this.intake.target();
  }

  received(length: number): boolean {
    this.intake.received(length);
    this.work();
    return !this.paused;
  }

  /** Lets what is under way end, then closes. */
  stop(): void {
    this.stopping = true;
    if (this.transmission !== null) this.transmission.stopping = true;
    this.closeWhenIdle();
  }

  /** Closes without waiting for replies to leave. I/O that a device has still ends first. */
  destroy(): void {
    this.socket?.destroy();
  }

  private work(): void {
    if (this.handshake !== null) {
      if (!this.stopping) this.handshake.advance();
      if (this.handshake.result !== null) this.beginTransmission(this.handshake);
    }
    const { transmission } = this;
    if (transmission !== null && !this.stopping) transmission.advance();
    this.replies?.flush();
    this.paused = this.mustPause();
    this.closeWhenIdle();
  }

  /** After a goodbye nothing is read; nor without room for one more request, nor while an option is being answered. */
  private mustPause(): boolean {
    const { handshake, transmission } = this;
    if (this.stopping) return true;
    if (transmission !== null) return transmission.mustPause;
    return handshake !== null && (handshake.busy || handshake.ended);
  }

  private goOn(): void {
    if (this.gone) {
      // The client left while its device was being attached.
      this.beginAndRelease();
      return;
    }
    this.resume();
  }

  private beginTransmission(handshake: Handshake): void {
    const { result } = handshake;
    if (result === null || this.socket === null) return;
    this.handshake = null;
    this.handshakeTimer?.cancel();
    this.log = this.log.child({ exportName: result.exportName });
    this.replies = new ReplyQueue(this.options.pool, this.socket, this.onSent);
    this.transmission = new Transmission({
      device: result.device,
      structuredReplies: result.structuredReplies,
      baseAllocation: result.baseAllocation,
      limits: this.options.limits,
      intake: this.intake,
      replies: this.replies,
      log: this.log,
      answered: () => this.answered(),
    });
    this.log.info({ volumeId: result.device.volumeId, readOnly: result.device.readOnly }, 'an NBD client attached');
  }

  /** A device answered outside of a turn of ours. */
  private answered(): void {
    if (this.turnIsDue) return;
    this.turnIsDue = true;
    this.options.defer(this.endTurn);
  }

  private turnEnded(): void {
    this.turnIsDue = false;
    if (this.gone) {
      this.replies?.flush();
      this.release();
      return;
    }
    if (this.paused) {
      this.resume();
      return;
    }
    this.replies?.flush();
    this.closeWhenIdle();
  }

  private repliesSent(): void {
    if (this.gone) return;
    if (this.paused) this.answered();
    else if (this.finished || this.stopping) this.closeWhenIdle();
  }

  /** Goes on with what is there already, then with the socket. */
  private resume(): void {
    this.work();
    if (!this.paused && !this.gone) this.socket?.resume();
  }

  private ended(): void {
    this.finished = true;
    if (this.transmission !== null) this.transmission.clientGone = true;
    const cut = this.intake.available > 0 || this.intake.midPayload;
    if (cut && !this.paused) this.log.info({}, 'an NBD client went away in the middle of a message');
    this.closeWhenIdle();
  }

  private armHandshakeTimer(): void {
    const { clock, handshakeTimeoutMs } = this.options;
    this.handshakeTimer = clock?.setTimer(handshakeTimeoutMs, () => this.handshakeTimedOut()) ?? null;
  }

  private handshakeTimedOut(): void {
    if (this.handshake === null || this.gone) return;
    if (this.handshake.busy) {
      this.armHandshakeTimer();
      return;
    }
    this.log.warn({}, 'closing the connection: no NBD handshake in time');
    this.socket?.destroy();
  }

  private closeWhenIdle(): void {
    const { socket, transmission, handshake } = this;
    if (socket === null || this.gone || this.closing) return;
    const over = transmission?.ended ?? handshake?.ended ?? false;
    if (!this.finished && !this.stopping && !over) return;
    if (handshake?.busy) return;
    if (transmission !== null && transmission.submittedRequests > 0) return;
    this.closing = true;
    this.replies?.flush();
    // Ends after the replies that are still in it have left; the other half is not waited for.
    socket.destroySoon();
  }

  private lost(): void {
    this.gone = true;
    this.handshakeTimer?.cancel();
    this.transmission?.abandon();
    if (this.handshake?.busy) return;
    this.release();
  }

  private beginAndRelease(): void {
    if (this.handshake !== null) this.beginTransmission(this.handshake);
    this.transmission?.abandon();
    this.release();
  }

  /** Gives everything back, once no device works for this client any more. */
  private release(): void {
    const { transmission } = this;
    if (this.released || (transmission !== null && transmission.requestsUnderWay > 0)) return;
    this.released = true;
    this.intake.close();
    this.replies?.close();
    if (transmission === null) {
      this.options.closed(this);
      return;
    }
    transmission.device
      .close()
      .then(
        () => this.log.info({}, 'an NBD client detached'),
        (error: Error) => this.log.error({ reason: error.message }, 'detaching an NBD client failed'),
      )
      .finally(() => this.options.closed(this));
  }
}
