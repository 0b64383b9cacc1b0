/** NBD URIs (github.com/NetworkBlockDevice/nbd, doc/uri.md): nbd://HOST[:PORT]/NAME and nbd+unix:///NAME?socket=PATH. */
import { ArchipelagoError } from '../../base/index.ts';

const DEFAULT_PORT = 10809;

export type NbdTarget =
  | { readonly socket: string; readonly exportName: string }
  | { readonly host: string; readonly port: number; readonly exportName: string };

export function parseNbdUri(uri: string): NbdTarget {
  const match = /^(nbds?(?:\+unix|\+vsock)?):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(uri);
  if (match === null) throw malformed(uri, 'an NBD URI begins with nbd:// or nbd+unix://');
  const [, scheme, authority = '', path = '', query = ''] = match;
  const exportName = decode(path, uri);
  if (scheme === 'nbd+unix') {
    const parameter = query.split('&').find((part) => part.startsWith('socket='));
    if (parameter === undefined) throw malformed(uri, 'the parameter socket=PATH is missing');
    return { socket: decode(parameter.slice('socket='.length), uri), exportName };
  }
  if (scheme !== 'nbd') throw malformed(uri, `${scheme} is not supported`);
  const address = /^(?:[^@]*@)?(\[[0-9a-fA-F:.]+\]|[^:[\]]*)(?::(\d+))?$/.exec(authority);
  const port = Number(address?.[2] ?? DEFAULT_PORT);
  if (address === null || port < 1 || port > 65535) throw malformed(uri, 'the host or port is malformed');
  const host = decode(address[1] ?? '', uri).replace(/^\[(.*)\]$/, '$1');
  return { host: host === '' ? 'localhost' : host, port, exportName };
}

/** The URI of an export behind a Unix socket. */
export function unixNbdUri(socket: string, exportName: string): string {
  return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${encodeURIComponent(socket).replaceAll('%2F', '/')}`;
}

function decode(text: string, uri: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw malformed(uri, 'its percent-encoding is broken', error);
  }
}

function malformed(uri: string, reason: string, cause?: unknown): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', `cannot use ${uri}: ${reason}`, {
    hint: 'write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH',
    ...(cause === undefined ? {} : { cause }),
  });
}
