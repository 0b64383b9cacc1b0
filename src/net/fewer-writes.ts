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

/** Gathers what is sent within one turn on connections that `encrypter` secures. */
export function gatherWrites<Encrypter extends ConnectionEncrypter>(encrypter: Encrypter): Encrypter {
  const secureInbound = encrypter.secureInbound.bind(encrypter);
  const secureOutbound = encrypter.secureOutbound.bind(encrypter);
  encrypter.secureInbound = (connection, options) => secureInbound(corking(connection), options);
  encrypter.secureOutbound = (connection, options) => secureOutbound(corking(connection), options);
  return encrypter;
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
