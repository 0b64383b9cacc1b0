/**
 * Reading a server's socket into our own buffers. node:net has that for sockets that it makes from a handle (`onread`) but not for those
 * that a server accepts, so the accepted handle is moved to a new socket. It uses a private field; without it, events and a copy do.
 */
import { Socket } from 'node:net';

/** Where received bytes go. `target` is asked for after each `received`, and may return another place each time. */
export interface Reader {
  target(): Uint8Array;
  /** `length` bytes were put at the start of the last target. False pauses the socket until its `resume`. */
  received(length: number): boolean;
}

/** Must be called in the `connection` event of a server with `pauseOnConnect`. Only the returned socket may be used from then on. */
export function adopt(accepted: Socket, reader: Reader): Socket {
  const holder = accepted as unknown as { _handle?: object | null };
  const handle = holder._handle;
  if (handle === null || typeof handle !== 'object') return listen(accepted, reader);
  holder._handle = null;
  // Nothing but an empty shell: this only takes it off the server's count of connections.
  accepted.destroy();
  const options = {
    handle,
    allowHalfOpen: true,
    onread: { buffer: () => reader.target(), callback: (length: number) => reader.received(length) },
  };
  return new Socket(options as ConstructorParameters<typeof Socket>[0]);
}

/** The same for a socket that only has events. */
export function listen(socket: Socket, reader: Reader): Socket {
  let rest: Uint8Array | null = null;
  const take = (chunk: Uint8Array): boolean => {
    let at = 0;
    while (at < chunk.length) {
      const target = reader.target();
      const length = Math.min(target.length, chunk.length - at);
      target.set(chunk.subarray(at, at + length));
      at += length;
      if (!reader.received(length)) {
        rest = at < chunk.length ? chunk.subarray(at) : null;
        return false;
      }
    }
    rest = null;
    return true;
  };
  socket.on('data', (chunk: Uint8Array) => {
    if (!take(chunk)) socket.pause();
  });
  socket.on('resume', () => {
    if (rest !== null && !take(rest)) socket.pause();
  });
  socket.resume();
  return socket;
}
