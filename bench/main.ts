/** `npm run bench -- NAME`: runs `bench/NAME.ts`, whose `run(args)` prints what it likes and returns its results. Without NAME, lists them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One of the results in the last line's JSON. `peer` and `ratio` are null where nothing comparable exists. */
export interface BenchResult {
  readonly case: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly ratio: number | null;
  readonly unit: string;
}

interface Bench {
  run(args: readonly string[]): Promise<readonly BenchResult[]>;
}

const names = readdirSync(import.meta.dirname, { withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && entry.name !== 'main.ts')
  .map((entry) => entry.name.slice(0, -'.ts'.length))
  .sort();

/** The first line of the comment at the head of the file. */
function summaryOf(name: string): string {
  const text = readFileSync(join(import.meta.dirname, `${name}.ts`), 'utf8');
  return /^\/\*\*\s*\**\s*(.*?)\s*(\*\/|\n)/.exec(text)?.[1] ?? '';
}

const [name, ...args] = process.argv.slice(2);
if (name === undefined) {
  for (const each of names) process.stdout.write(`${each.padEnd(12)} ${summaryOf(each)}\n`);
} else if (names.includes(name)) {
  const bench = (await import(`./${name}.ts`)) as Bench;
  const results = await bench.run(args);
  process.stdout.write(`${JSON.stringify({ name, results })}\n`);
} else {
  process.stderr.write(`no benchmark '${name}'; there are: ${names.join(', ') || 'none'}\n`);
  process.exitCode = 2;
}
