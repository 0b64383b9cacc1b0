/**
 * Decides what 'connected' means. libp2p has authenticated the peer; here both sides compare cluster and wire version:
 *
 *     dialer → listener   HELLO   {"cluster": …, "versions": [oldest, newest], "limits": {…}}
 *     listener → dialer   HELLO   the same, or REFUSED {"code": …, "message": …, "hint": …}
 *     dialer → listener   READY   or REFUSED
 *
 * The dialer is connected when it has sent READY, the listener when it has read it. A dialer that the allow-list denies gets no answer at all:
 * its dial resolves and the connection then closes, which ends its handshake.
 */
import { ArchipelagoError } from '../base/index.ts';
import type { Channel } from './channel.ts';
import { KIND_HELLO, KIND_READY, KIND_REFUSED, ProtocolError, WIRE_VERSION } from './frame.ts';
import type { Limits, WireVersions } from './types.ts';

export const OUR_WIRE_VERSIONS: WireVersions = { oldest: 1, newest: WIRE_VERSION };

const NOTHING = new Uint8Array(0);

/** What a peer takes from us. */
export type PeerLimits = Omit<Limits, 'maxQueuedBytes'>;

const PEER_LIMITS = ['maxPayloadBytes', 'maxMetadataBytes', 'maxOutstandingRequests', 'maxOutstandingBytes'] as const;

export interface Hello {
  cluster: string;
  versions: WireVersions;
  limits: PeerLimits;
}

export interface Agreement {
  version: number;
  peerLimits: PeerLimits;
}

/** Who said no: `us`, and the peer must still read it; `them`; `nobody`: the connection broke. */
export type RefusedBy = 'us' | 'them' | 'nobody';

/** Exactly one of these is called, once. Synchronously, because frames of the session may follow in the same piece of the stream. */
export interface HandshakeEnd {
  agreed(agreement: Agreement): void;
  failed(error: ArchipelagoError, refusedBy: RefusedBy): void;
}

/** The dialer's side. The caller limits the time by ending the channel. */
export function shakeAsDialer(channel: Channel, ours: Hello, end: HandshakeEnd): void {
  exchange(channel, end, (kind, metadata) => {
    const agreement = agree(ours, decodeHello(expect(KIND_HELLO, kind, metadata)));
    channel.send(KIND_READY, 0, 0, NOTHING);
    return agreement;
  });
  channel.send(KIND_HELLO, 0, 0, encodeJson(helloBody(ours)));
}

/** The listener's side. */
export function shakeAsListener(channel: Channel, ours: Hello, end: HandshakeEnd): void {
  let agreement: Agreement | null = null;
  exchange(channel, end, (kind, metadata) => {
    if (agreement !== null) {
      expect(KIND_READY, kind, metadata);
      return agreement;
    }
    agreement = agree(ours, decodeHello(expect(KIND_HELLO, kind, metadata)));
    channel.send(KIND_HELLO, 0, 0, encodeJson(helloBody(ours)));
    return null;
  });
}

/** Tells the peer why; it is the peer that then closes. */
export function refuse(channel: Channel, error: ArchipelagoError): void {
  channel.send(KIND_REFUSED, 0, 0, encodeJson(error.toBody()));
}

/** Calls `step` with each frame until it returns an agreement or throws. */
function exchange(channel: Channel, end: HandshakeEnd, step: (kind: number, metadata: Uint8Array) => Agreement | null): void {
  let over = false;
  channel.listen(
    (header, metadata) => {
      if (over) return;
      let agreement: Agreement | null = null;
      try {
        agreement = step(header.kind, metadata);
      } catch (error) {
        if (!(error instanceof ArchipelagoError)) throw error;
        over = true;
        if (header.kind !== KIND_REFUSED) refuse(channel, error);
        end.failed(error, header.kind === KIND_REFUSED ? 'them' : 'us');
      }
      if (agreement === null) return;
      over = true;
      end.agreed(agreement);
    },
    (error) => {
      if (over) return;
      over = true;
      end.failed(error, 'nobody');
    },
    () => {},
  );
}

/** The metadata of a frame of the wanted kind; a refusal throws what it says. */
function expect(wanted: number, kind: number, metadata: Uint8Array): Uint8Array {
  if (kind === KIND_REFUSED) throw decodeError(metadata);
  if (kind !== wanted) throw new ProtocolError(`handshake frame of kind ${kind} instead of ${wanted}`);
  return metadata;
}

function agree(ours: Hello, theirs: Hello): Agreement {
  if (theirs.cluster !== ours.cluster) {
    throw new ArchipelagoError('forbidden', `peer of cluster '${theirs.cluster}' at a node of cluster '${ours.cluster}'`, {
      hint: 'check the addresses and the cluster id in the configuration',
    });
  }
  const version = Math.min(ours.versions.newest, theirs.versions.newest);
  if (version < ours.versions.oldest || version < theirs.versions.oldest) {
    throw new ArchipelagoError(
      'unsupported-version',
      `wire versions ${theirs.versions.oldest} to ${theirs.versions.newest} meet ${ours.versions.oldest} to ${ours.versions.newest}`,
      { hint: 'upgrade the older node' },
    );
  }
  return { version, peerLimits: theirs.limits };
}

function helloBody(hello: Hello): object {
  return { cluster: hello.cluster, versions: [hello.versions.oldest, hello.versions.newest], limits: hello.limits };
}

/** Unknown fields are ignored: a newer version may add some. */
function decodeHello(metadata: Uint8Array): Hello {
  const body = decodeJson(metadata);
  const { cluster, versions, limits } = body as { cluster?: unknown; versions?: unknown; limits?: unknown };
  if (typeof cluster !== 'string' || !Array.isArray(versions) || typeof limits !== 'object' || limits === null) throw malformed();
  const checked: PeerLimits = { maxPayloadBytes: 0, maxMetadataBytes: 0, maxOutstandingRequests: 0, maxOutstandingBytes: 0 };
  for (const name of PEER_LIMITS) checked[name] = counter((limits as Record<string, unknown>)[name]);
  return { cluster: cluster.slice(0, 200), versions: { oldest: counter(versions[0]), newest: counter(versions[1]) }, limits: checked };
}

function counter(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) throw malformed();
  return value;
}

/** An error as the metadata of a refusal or a failure. */
export function encodeError(error: ArchipelagoError, maxBytes: number): Uint8Array {
  const body = error.toBody();
  const encoded = encodeJson(body);
  // Cut to an eighth, since a character may take six bytes as JSON.
  return encoded.byteLength <= maxBytes ? encoded : encodeJson({ ...body, message: body.message.slice(0, maxBytes >> 3), hint: null });
}

export function decodeError(metadata: Uint8Array): ArchipelagoError {
  const { code, message, hint } = decodeJson(metadata) as { code?: unknown; message?: unknown; hint?: unknown };
  return ArchipelagoError.fromBody({
    code: typeof code === 'string' ? code : 'internal',
    message: typeof message === 'string' ? message : 'the peer gave no reason',
    hint: typeof hint === 'string' ? hint : null,
  });
}

function encodeJson(body: object): Uint8Array {
  return Buffer.from(JSON.stringify(body));
}

function decodeJson(metadata: Uint8Array): object {
  try {
    const body: unknown = JSON.parse(Buffer.from(metadata.buffer, metadata.byteOffset, metadata.byteLength).toString());
    if (typeof body === 'object' && body !== null) return body;
  } catch {
    // The next line says it.
  }
  throw malformed();
}

function malformed(): ProtocolError {
  return new ProtocolError('malformed handshake or error frame');
}
