/** `archipelago volume diff`: printed as it comes, however much differs. */
import type { Command } from 'commander';
import type { DiffView } from '../admin.ts';
import { volumePath } from '../http/client.ts';
import { addLeaf, type Call, type Session } from './leaf.ts';
import { checkedName } from './volume-names.ts';

type DiffExtent = DiffView['extents'][number];

/** Of numbers in the table: offsets of a petabyte have 16 digits. */
const COLUMN_WIDTH = 18;

export function addDiffCommand(volume: Command, session: Session): void {
  addLeaf(volume, session, {
    usage: 'diff <snapshot> <volume>',
    summary: 'List what differs between a snapshot and another one, or a volume',
    details:
      'Told from the maps, without reading data: bytes outside of the extents are equal, those inside may be. Extents lie within the second ' +
      'one; where the first is shorter it counts as zeros. A volume is looked at in one moment.',
    examples: ['volume diff disk1@monday disk1@tuesday', 'volume diff disk1@monday disk1 --json'],
    async run({ args, ask, asJson }) {
      const [from, to] = [checkedName(args[0]!, 'snapshot'), checkedName(args[1]!)];
      const print = asJson ? jsonPrinter() : tablePrinter();
      for await (const extent of extentsOf(from, to, ask)) await write(print.extent(extent));
      await write(print.end());
      return null;
    },
  });
}

/** All pages as one sequence, neighbours joined. */
async function* extentsOf(from: string, to: string, ask: Call<object>['ask']): AsyncGenerator<DiffExtent> {
  let open = null as DiffExtent | null;
  let cursor: string | null = null;
  do {
    const more: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page: DiffView = await ask<DiffView>('GET', `${volumePath(from, 'diff')}?to=${encodeURIComponent(to)}${more}`);
    for (const extent of page.extents) {
      if (open !== null && open.zero === extent.zero && open.offset + open.length === extent.offset) {
        open = { ...open, length: open.length + extent.length };
        continue;
      }
      if (open !== null) yield open;
      open = extent;
    }
    cursor = page.next;
  } while (cursor !== null);
  if (open !== null) yield open;
}

interface Printer {
  extent(extent: DiffExtent): string;
  end(): string;
}

/** One JSON value in all. */
function jsonPrinter(): Printer {
  let before = '[';
  return {
    extent(extent) {
      const text = before + JSON.stringify(extent);
      before = ',\n';
      return text;
    },
    end: () => (before === '[' ? '[]\n' : ']\n'),
  };
}

function tablePrinter(): Printer {
  let count = 0;
  let bytes = 0;
  const line = (cells: readonly string[]) => `${cells.map((cell) => cell.padStart(COLUMN_WIDTH)).join('')}\n`;
  return {
    extent({ offset, length, zero }) {
      const header = count === 0 ? line(['OFFSET', 'LENGTH', 'CONTENT']) : '';
      count++;
      bytes += length;
      return header + line([String(offset), String(length), zero ? 'zeros' : 'data']);
    },
    end: () => (count === 0 ? 'Nothing differs.\n' : `${count} extent${count === 1 ? '' : 's'}, ${bytes} bytes.\n`),
  };
}

/** Resolves when whoever reads us has room for more. */
function write(text: string): Promise<void> | void {
  if (process.stdout.write(text)) return;
  return new Promise((resolve) => void process.stdout.once('drain', resolve));
}
