/**
 * What the bench's register service and its clients say to each other over TCP, pipelined in both directions: u32 length of what follows, u32
 * number of the request, and for a request u16 length of the key, key and value. A reply carries the number alone.
 */
export const REPLY_BYTES = 8;

export function encodePut(number: number, key: string, value: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(10 + key.length + value.byteLength);
  frame.writeUInt32BE(frame.byteLength - 4, 0);
  frame.writeUInt32BE(number, 4);
  frame.writeUInt16BE(key.length, 8);
  frame.write(key, 10, 'latin1');
  frame.set(value, 10 + key.length);
  return frame;
}

/** Cuts a stream of bytes into frames. Each is a view; nobody changes what it shows. */
export function frames(take: (number: number, body: Buffer) => void): (piece: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (piece) => {
    const bytes = rest.byteLength === 0 ? piece : Buffer.concat([rest, piece]);
    let at = 0;
    while (bytes.byteLength - at >= 8) {
      const end = at + 4 + bytes.readUInt32BE(at);
      if (end > bytes.byteLength) break;
      take(bytes.readUInt32BE(at + 4), bytes.subarray(at + 8, end));
      at = end;
    }
    rest = bytes.subarray(at);
  };
}
