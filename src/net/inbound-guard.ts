/**
 * Closes inbound connections that do not begin as libp2p's with Noise do. libp2p 3 reads a length in front of its first words byte by byte and
 * without an end: a hundred kilobytes of 0xff from anybody who reaches the port would stop the event loop for seconds, and with it every
 * lease. After these bytes Noise reads lengths of two bytes, and behind Noise only peers of the list are heard.
 */
import type { Socket } from 'node:net';
import type { MultiaddrConnection } from '@libp2p/interface';

const EXPECTED = Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n');

/** Called before libp2p reads. Aborting makes libp2p ignore the piece that it is about to be given. */
export function guardFirstBytes(connection: MultiaddrConnection): void {
  const { socket } = connection as { socket?: Partial<Socket> };
  if (typeof socket?.prependListener !== 'function') return;
  let matched = 0;
  const check = (piece: Uint8Array) => {
    const take = Math.min(piece.byteLength, EXPECTED.byteLength - matched);
    if (EXPECTED.compare(piece, 0, take, matched, matched + take) !== 0) connection.abort(new Error('not a libp2p connection'));
    matched += take;
    if (matched === EXPECTED.byteLength) socket.removeListener!('data', check);
  };
  socket.prependListener('data', check);
}
