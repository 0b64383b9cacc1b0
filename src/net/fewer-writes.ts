/**
 * What libp2p writes piece by piece leaves in one system call. Measured without this: four writes per message of Noise, and a window update
 * of yamux, encrypted and written by itself, for every data frame that comes in. All of it reaches into objects of libp2p; where a later
 * version has not what they look for they do nothing, and `test/net/fewer-writes.test.ts` says so.
 */
import type { Socket } from 'node:net';
import type { Connection, ConnectionEncrypter, MessageStream, Stream } from '@libp2p/interface';

/**
 * yamux's window. Both ends must start with the same: the first window is never announced. It does not grow, since growth needs the ping of a
 * keep-alive that we turn off. So this number belongs to the wire version.
 */
export const WINDOW_BYTES = 2 * 1024 * 1024;

/** What ends the gathering on a socket before the turn does. */
const uncorks = new WeakMap<object, () => void>();

/** Gathers what is sent within one turn on connections that `encrypter` secures, and spares them some work for each message. */
export function gatherWrites<Encrypter extends ConnectionEncrypter>(encrypter: Encrypter): Encrypter {
  const secureInbound = encrypter.secureInbound.bind(encrypter);
  const secureOutbound = encrypter.secureOutbound.bind(encrypter);
  encrypter.secureInbound = async (connection, options) => sparing(await secureInbound(corking(connection), options));
  encrypter.secureOutbound = async (connection, options) => sparing(await secureOutbound(corking(connection), options));
  return encrypter;
}

function sparing<Secured extends { readonly connection: MessageStream }>(secured: Secured): Secured {
  cutWithoutExceptions(secured.connection);
  skipUnheardEvents(secured.connection);
  return secured;
}

/** The length in front of a message of Noise. */
const LENGTH_BYTES = 2;

/** What libp2p keeps input in. */
interface ByteList {
  readonly byteLength: number;
  append(piece: Uint8Array): void;
  getUint16(at: number): number;
  sublist(start: number, end: number): ByteList;
  consume(bytes: number): void;
}

/** Noise's own way of cutting its input into messages finds the end of each piece by an exception, which costs more than to decrypt it. */
function cutWithoutExceptions(secured: MessageStream): void {
  const { decoder } = secured as { decoder?: { buffer?: ByteList; decode?: (piece: Uint8Array) => Iterable<ByteList> } };
  const buffer = decoder?.buffer;
  if (decoder === undefined || typeof decoder.decode !== 'function' || typeof buffer?.getUint16 !== 'function') return;
  decoder.decode = function* (piece) {
    buffer.append(piece);
    while (buffer.byteLength >= LENGTH_BYTES) {
      const end = LENGTH_BYTES + buffer.getUint16(0);
      if (buffer.byteLength < end) return;
      const message = buffer.sublist(LENGTH_BYTES, end);
      buffer.consume(end);
      if (message.byteLength > 0) yield message;
    }
  };
}

/** With each message both layers below the stream tell that they are idle, in an event that is made for it. Mostly nobody listens. */
function skipUnheardEvents(layer: MessageStream): void {
  const emitter = layer as unknown as { safeDispatchEvent?: (type: string, detail?: object) => boolean; listenerCount?: (type: string) => number };
  const { safeDispatchEvent: dispatch, listenerCount } = emitter;
  if (typeof dispatch !== 'function' || typeof listenerCount !== 'function') return;
  emitter.safeDispatchEvent = (type, detail) => (listenerCount.call(layer, type) === 0 ? true : dispatch.call(layer, type, detail));
}

/** The connection, whose socket is now corked from the first `send` of a turn until its end. */
function corking<Raw extends MessageStream>(connection: Raw): Raw {
  const { socket } = connection as { socket?: Partial<Socket> };
  if (typeof socket?.cork !== 'function' || typeof socket.uncork !== 'function') return connection;
  const send = connection.send.bind(connection);
  let corked = false;
  const uncork = () => {
    if (!corked) return;
    corked = false;
    socket.uncork!();
  };
  uncorks.set(socket, uncork);
  skipUnheardEvents(connection);
  connection.send = (data) => {
    if (!corked) {
      corked = true;
      socket.cork!();
      process.nextTick(uncork);
    }
    return send(data);
  };
  return connection;
}

/** Writes what was gathered on this connection in this turn so far. */
export function writeGathered(connection: Connection): void {
  const { maConn } = connection as Connection & { maConn?: { socket?: Socket } };
  if (maConn?.socket !== undefined) uncorks.get(maConn.socket)?.();
}

/**
 * Makes yamux announce window only when a quarter of it has been used up. The returned function is told of received bytes before yamux
 * decides, that is, from the `message` event.
 */
export function sparseWindowUpdates(stream: Stream): (receivedBytes: number) => void {
  const target = stream as Stream & { sendWindowUpdate?: () => void };
  if (typeof target.sendWindowUpdate !== 'function') return () => {};
  const update = target.sendWindowUpdate.bind(target);
  let unannounced = 0;
  target.sendWindowUpdate = () => {
    if (unannounced < WINDOW_BYTES / 4) return;
    unannounced = 0;
    update();
  };
  return (receivedBytes) => {
    unannounced += receivedBytes;
  };
}
