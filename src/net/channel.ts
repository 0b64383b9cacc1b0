/**
 * One libp2p stream as a pair of frame queues, from the handshake on until it ends. It ends once, with one error, whatever happens first:
 * the connection closes, the peer breaks the format, or we close it.
 */
import type { Connection, Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import { ArchipelagoError } from '../base/index.ts';
import { cut } from './cut.ts';
import { sparseWindowUpdates, writeGathered } from './fewer-writes.ts';
import { emptyHeader, type FrameHeader, ProtocolError } from './frame.ts';
import { FrameReader, type OnFrame } from './frame-reader.ts';
import { Outbox } from './outbox.ts';

const NOTHING = new Uint8Array(0);

/** A hello is JSON of some hundred bytes; nobody gets more memory before it was checked. */
const HELLO_METADATA_BYTES = 4096;

export class Channel {
  readonly outbox: Outbox;
  /** Whether anything was received, or sent, since `takeActivity` was last asked. */
  private heard = false;
  private said = false;
  private ended = false;
  private readonly stream: Stream;
  private readonly connection: Connection;
  private readonly reader: FrameReader;
  private readonly countForWindow: (receivedBytes: number) => void;
  private readonly header: FrameHeader = emptyHeader();
  private onEnd: (error: ArchipelagoError) => void = () => {};
  private onProgress: () => void = () => {};

  constructor(stream: Stream, connection: Connection) {
    this.stream = stream;
    this.connection = connection;
    this.reader = new FrameReader(HELLO_METADATA_BYTES, 0, () => {});
    this.outbox = new Outbox(
      stream,
      () => this.onProgress(),
      (error) => this.end(ArchipelagoError.from(error, 'sending')),
    );
    this.countForWindow = sparseWindowUpdates(stream);
    stream.addEventListener('message', this.onMessage);
    stream.addEventListener('drain', this.outbox.flush);
    stream.addEventListener('idle', this.outbox.wake);
    stream.addEventListener('close', this.onClose);
    stream.addEventListener('remoteCloseWrite', this.onRemoteEnd);
    connection.addEventListener('close', this.onClose);
    if (stream.status !== 'open' || connection.status !== 'open') queueMicrotask(this.onRemoteEnd);
  }

  /** Who gets frames and the end from now on; the handshake first, then the session. */
  listen(onFrame: OnFrame, onEnd: (error: ArchipelagoError) => void, onProgress: () => void): void {
    this.reader.redirect(onFrame);
    this.onEnd = onEnd;
    this.onProgress = onProgress;
  }

  /** Frames of this size are allowed from the next one on. */
  admit(maxMetadataBytes: number, maxPayloadBytes: number): void {
    this.reader.maxMetadataBytes = maxMetadataBytes;
    this.reader.maxPayloadBytes = maxPayloadBytes;
  }

  send(kind: number, requestId: number, type: number, metadata: Uint8Array, payload: Uint8Array = NOTHING, replyBytes = 0): void {
    const header = this.header;
    header.kind = kind;
    header.requestId = requestId;
    header.type = type;
    header.metadataBytes = metadata.byteLength;
    header.payloadBytes = payload.byteLength;
    header.replyBytes = replyBytes;
    this.said = true;
    this.outbox.push(header, metadata, payload);
  }

  /** Nothing waits for the end of the turn. */
  flush(): void {
    if (this.outbox.queuedBytes === 0) return;
    this.outbox.flush();
    writeGathered(this.connection);
  }

  /** Whether bytes came in since the last call. */
  takeHeard(): boolean {
    const heard = this.heard;
    this.heard = false;
    return heard;
  }

  /** Whether a frame was queued since the last call. */
  takeSaid(): boolean {
    const said = this.said;
    this.said = false;
    return said;
  }

  /** Ends the channel and its connection: each connection carries one channel. */
  end(error: ArchipelagoError): void {
    if (this.ended) return;
    this.ended = true;
    this.reader.stop();
    this.outbox.close();
    this.stream.removeEventListener('message', this.onMessage);
    this.stream.removeEventListener('drain', this.outbox.flush);
    this.stream.removeEventListener('idle', this.outbox.wake);
    this.stream.removeEventListener('close', this.onClose);
    this.stream.removeEventListener('remoteCloseWrite', this.onRemoteEnd);
    this.connection.removeEventListener('close', this.onClose);
    if (this.connection.status !== 'closed' && this.connection.status !== 'aborted') cut(this.connection, error);
    this.onEnd(error);
  }

  private readonly onMessage = (event: StreamMessageEvent): void => {
    this.heard = true;
    const { data } = event;
    this.countForWindow(data.byteLength);
    try {
      if (data instanceof Uint8Array) this.reader.push(data);
      else for (const piece of data) this.reader.push(piece);
    } catch (error) {
      // Only the peer's mistakes end the connection; ours stop the process.
      if (!(error instanceof ProtocolError)) throw error;
      this.end(error);
    }
  };

  private readonly onClose = (event: StreamCloseEvent): void => {
    const cause = event.error;
    this.end(new ArchipelagoError('unavailable', `connection closed${cause === undefined ? '' : `: ${cause.message}`}`, { cause }));
  };

  private readonly onRemoteEnd = (): void => {
    this.end(new ArchipelagoError('unavailable', 'connection closed by the peer'));
  };
}
