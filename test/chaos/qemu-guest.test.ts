/** What judges a guest has to notice each way in which its disk may fail it. */
import { expect, it } from 'vitest';
import { bootSector, problemsOfDisk, problemsOfReports, SECTOR_BYTES, sectorOf } from '../../chaos/process/qemu/guest.ts';

const LAST = 5;

function disk(...numbers: (number | null)[]): Buffer {
  return Buffer.concat([bootSector(), ...numbers.map((number) => (number === null ? Buffer.alloc(SECTOR_BYTES) : sectorOf(number)))]);
}

function reports(...texts: string[]) {
  return texts.map((text, atMs) => ({ text, atMs }));
}

it('the boot sector is one that a BIOS boots', () => {
  const sector = bootSector();
  expect(sector.byteLength).toBe(SECTOR_BYTES);
  expect(sector.toString('hex', 0x88, 0x90), 'the packet lies where the program says').toBe('1000010000800000');
  expect(sector.toString('hex', 510)).toBe('55aa');
});

it('a disk with every number that was reported is right, and one more does no harm', () => {
  expect(problemsOfDisk(disk(1, 2, 3, 4, 5, null, null), LAST)).toEqual([]);
  expect(problemsOfDisk(disk(1, 2, 3, 4, 5, 6, null), LAST)).toEqual([]);
});

it('a number that is lost, old, damaged, or was never written is noticed', () => {
  expect(problemsOfDisk(disk(1, 2, null, 4, 5, null), LAST)).toHaveLength(1);
  expect(problemsOfDisk(disk(1, 2, 3, 4, null, null), LAST)).toHaveLength(1);
  expect(problemsOfDisk(disk(1, 2, 2, 4, 5, null), LAST)).toHaveLength(1);
  expect(problemsOfDisk(disk(1, 2, 3, 4, 5, null, 7), LAST)).toHaveLength(1);
  const damaged = disk(1, 2, 3, 4, 5, null);
  damaged[2 * SECTOR_BYTES + 100]! ^= 1;
  expect(problemsOfDisk(damaged, LAST)).toHaveLength(1);
  expect(problemsOfDisk(disk(1, 2, 3), LAST)).not.toEqual([]);
});

it('numbers are reported one after the other, and an error is named', () => {
  expect(problemsOfReports(reports('00000001', '00000002', '00000003'))).toEqual([]);
  expect(problemsOfReports(reports('00000001', '00000003'))).toHaveLength(1);
  expect(problemsOfReports(reports('00000001', '00000001'))).toHaveLength(1);
  expect(problemsOfReports(reports('00000001', 'E0000000C')).join()).toMatch(/error of its disk/);
});
