/** Ending a connection at once, in whatever state it is. */
import type { Connection } from '@libp2p/interface';

export function cut(connection: Connection, error: Error): void {
  try {
    connection.abort(error);
  } catch {
    // libp2p's muxer says good-bye, which throws where the other side has begun to close; it is ended by then, and the second call goes past it.
    connection.abort(error);
  }
}
