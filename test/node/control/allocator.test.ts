/** Which allocator a data process is given. */
import { describe, expect, it } from 'vitest';
import { allocatorEnvironment } from '../../../src/node/control/allocator.ts';

const DEBIAN = '/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4';
const has = (path: string) => path === DEBIAN;

describe('the allocator of a data process', () => {
  it('is tcmalloc for librados, where the host has it', () => {
    expect(allocatorEnvironment('rados', {}, has)).toEqual({ LD_PRELOAD: DEBIAN });
    expect(allocatorEnvironment('rados', {}, () => false)).toEqual({});
  });

  it('is left alone for other stores', () => {
    expect(allocatorEnvironment('file', {}, has)).toEqual({});
  });

  it('is left alone where something is preloaded already, or nothing on purpose', () => {
    expect(allocatorEnvironment('rados', { LD_PRELOAD: 'libjemalloc.so.2' }, has)).toEqual({});
    expect(allocatorEnvironment('rados', { LD_PRELOAD: '' }, has)).toEqual({});
  });
});
