import { describe, expect, it } from 'vitest';
import { parseNbdUri, unixNbdUri } from '../../../src/gateway/nbd/uri.ts';

describe('NBD URIs', () => {
  it.each([
    ['nbd://host', { host: 'host', port: 10809, exportName: '' }],
    ['nbd://host:99/', { host: 'host', port: 99, exportName: '' }],
    ['nbd://user@host:99/a%2Fb%20c', { host: 'host', port: 99, exportName: 'a/b c' }],
    ['nbd://[::1]:5/x', { host: '::1', port: 5, exportName: 'x' }],
    ['nbd://10.1.2.3/%C3%A4', { host: '10.1.2.3', port: 10809, exportName: 'ä' }],
    ['nbd:///x', { host: 'localhost', port: 10809, exportName: 'x' }],
    ['nbd+unix:///?socket=/tmp/s', { socket: '/tmp/s', exportName: '' }],
    ['nbd+unix:///v+1?tls=off&socket=/tmp/a%20b+c', { socket: '/tmp/a b+c', exportName: 'v+1' }],
    ['nbd+unix://?socket=s', { socket: 's', exportName: '' }],
  ])('%s is read', (uri, target) => {
    expect(parseNbdUri(uri)).toEqual(target);
  });

  it.each([
    ['http://host/x', /begins with nbd/],
    ['x.img', /begins with nbd/],
    ['nbds://host/x', /nbds is not supported/],
    ['nbd+unix:///x', /socket=PATH is missing/],
    ['nbd://host:0/x', /host or port/],
    ['nbd://host:70000/x', /host or port/],
    ['nbd://ho[st/x', /host or port/],
    ['nbd://host/%zz', /percent-encoding/],
  ])('%s is refused, saying why', (uri, reason) => {
    expect(() => parseNbdUri(uri)).toThrow(reason);
  });

  it('of any name and path come back as they were', () => {
    for (const exportName of ['v', 'a b', 'ä/ö?&#%+', "it's"]) {
      for (const socket of ['/run/s', '/tmp/a b/ü?#&=%/s+']) expect(parseNbdUri(unixNbdUri(socket, exportName))).toEqual({ socket, exportName });
    }
  });
});
