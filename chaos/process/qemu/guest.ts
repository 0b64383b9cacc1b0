/**
 * A guest of 512 bytes: the boot sector of its own disk. It writes number after number, each with a checksum to the sector of that number,
 * through the BIOS, one at a time, and reports each on the serial port once its write was answered. A write that fails it reports as well,
 * and stops. With a disk whose write cache is off, what was answered is durable, so each write is one with its fsync.
 */

export const SECTOR_BYTES = 512;

/** Machine code beside its assembly, as it lies at 0x7c00. */
const LISTING = `
  31 c0                 |         xor ax, ax
  8e d8                 |         mov ds, ax
  8e c0                 |         mov es, ax
  8e d0                 |         mov ss, ax
  bc 00 7c              |         mov sp, 0x7c00
  88 16 00 06           |         mov [0x600], dl        ; the BIOS says from which disk it has booted
  fc                    |         cld
  66 31 db              |         xor ebx, ebx           ; the number
  66 43                 | next:   inc ebx
  bf 00 80              |         mov di, 0x8000         ; what is to be written
  66 89 d8              |         mov eax, ebx
  66 31 d2              |         xor edx, edx
  b9 7f 00              |         mov cx, 127
  66 ab                 | fill:   stosd
  66 01 c2              |         add edx, eax
  66 69 c0 0d 66 19 00  |         imul eax, eax, 1664525
  66 05 5f f3 6e 3c     |         add eax, 1013904223
  e2 ec                 |         loop fill
  66 89 d0              |         mov eax, edx
  66 ab                 |         stosd                  ; the sum of the words before it
  66 89 1e 90 7c        |         mov [sector], ebx
  be 88 7c              |         mov si, packet
  8a 16 00 06           |         mov dl, [0x600]
  b8 00 43              |         mov ax, 0x4300         ; extended write
  cd 13                 |         int 0x13
  72 05                 |         jc failed
  e8 13 00              |         call report
  eb c1                 |         jmp next
  50                    | failed: push ax
  b0 45                 |         mov al, 'E'
  e8 22 00              |         call put
  58                    |         pop ax
  66 0f b6 dc           |         movzx ebx, ah          ; what the BIOS says of it
  e8 03 00              |         call report
  f4                    | halt:   hlt
  eb fd                 |         jmp halt
  b9 08 00              | report: mov cx, 8              ; ebx in eight digits and a line feed
  66 c1 c3 04           | digit:  rol ebx, 4
  88 d8                 |         mov al, bl
  24 0f                 |         and al, 15
  3c 0a                 |         cmp al, 10
  1c 69                 |         sbb al, 0x69
  2f                    |         das
  e8 04 00              |         call put
  e2 ee                 |         loop digit
  b0 0a                 |         mov al, 10
  50                    | put:    push ax
  ba fd 03              |         mov dx, 0x3fd
  ec                    | full:   in al, dx
  a8 20                 |         test al, 0x20
  74 fb                 |         jz full
  58                    |         pop ax
  b2 f8                 |         mov dl, 0xf8
  ee                    |         out dx, al
  c3                    |         ret
  10 00 01 00           | packet: db 16, 0 ; dw 1        ; one sector
  00 80 00 00           |         dw 0x8000, 0           ; from there
  00 00 00 00 00 00 00 00 | sector: dq 0
`;

/** The first sector of the guest's disk. */
export function bootSector(): Buffer {
  const code = LISTING.split('\n').map((line) => (line.split('|')[0] as string).replaceAll(' ', ''));
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.set(Buffer.from(code.join(''), 'hex'));
  sector.writeUInt16BE(0x55aa, SECTOR_BYTES - 2);
  return sector;
}

/** What the guest writes to the sector of a number: words that follow from it, and their sum. */
export function sectorOf(number: number): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  let word = number;
  let sum = 0;
  for (let at = 0; at < SECTOR_BYTES - 4; at += 4) {
    sector.writeUInt32LE(word, at);
    sum = (sum + word) >>> 0;
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0;
  }
  sector.writeUInt32LE(sum, SECTOR_BYTES - 4);
  return sector;
}

/** One line of the serial port, and when it had arrived whole, in ms. */
export interface Report {
  readonly text: string;
  readonly atMs: number;
}

/** What is wrong with what the guest has reported: an error of its disk, or a number that is missing, doubled or out of order. */
export function problemsOfReports(reports: readonly Report[]): string[] {
  const wrong = reports.findIndex(({ text }, place) => text !== (place + 1).toString(16).toUpperCase().padStart(8, '0'));
  if (wrong === -1) return [];
  const { text } = reports[wrong] as Report;
  return [`in place of the number ${wrong + 1} the guest reported '${text}'${text.startsWith('E') ? ', an error of its disk' : ''}`];
}

/**
 * What is wrong with a disk, read from its beginning, after the guest has reported `last` numbers and was stopped. One more may be there: it
 * was written and not reported any more.
 */
export function problemsOfDisk(disk: Buffer, last: number): string[] {
  const problems: string[] = [];
  const empty = Buffer.alloc(SECTOR_BYTES);
  const sectors = disk.byteLength / SECTOR_BYTES;
  if (sectors < last + 2) problems.push(`${sectors} sectors are too few to hold ${last} numbers`);
  for (let number = 1; number < sectors; number++) {
    const found = disk.subarray(number * SECTOR_BYTES, (number + 1) * SECTOR_BYTES);
    if (number <= last + 1 && found.equals(sectorOf(number))) continue;
    if (number > last && found.equals(empty)) continue;
    problems.push(`the sector of number ${number} of ${last} begins with ${found.toString('hex', 0, 16)}`);
  }
  return problems;
}
