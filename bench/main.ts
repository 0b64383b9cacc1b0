/** `npm run bench -- NAME`: runs `bench/NAME.ts`, whose `run(args)` prints what it likes and returns its results. Without NAME, lists them. */
import { readdirSync } from 'node:fs';

/** One line of the last line's JSON. `peer` and `ratio` are null where nothing comparable exists. */
export interface BenchResult {
  readonly case: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly ratio: number | null;
  readonly unit: string;
}

interface Bench {
  /** What it measures, in one line. */
  readonly summary?: string;
  run(args: readonly string[]): Promise<readonly BenchResult[]>;
}

const names = readdirSync(import.meta.dirname, { withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && entry.name !== 'main.ts')
  .map((entry) => entry.name.slice(0, -'.ts'.length))
  .sort();

const load = async (name: string): Promise<Bench> => (await import(`./${name}.ts`)) as Bench;

const [name, ...args] = process.argv.slice(2);
if (name === undefined) {
  for (const each of names) process.stdout.write(`${each}\t${(await load(each)).summary ?? ''}\n`);
} else if (names.includes(name)) {
  const results = await (await load(name)).run(args);
  process.stdout.write(`${JSON.stringify({ name, results })}\n`);
} else {
  process.stderr.write(`no benchmark '${name}'; there are: ${names.join(', ') || 'none'}\n`);
  process.exitCode = 2;
}
