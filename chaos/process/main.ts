/** `npm run soak -- NAME`: runs `soaks/NAME.ts`; `help` says how. The last line of its output is JSON. */
import { randomInt } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Ending } from './ending.ts';
import type { Soak } from './soak.ts';

const INTERRUPTED = 130;
const MAX_SEED = 2 ** 32;

const { values, positionals } = parseArgs({
  options: { minutes: { type: 'string' }, seed: { type: 'string' }, help: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const soaks = await loadAll();
const [name] = positionals;
const chosen = soaks.find((each) => each.name === name);
const minutes = Number(values.minutes ?? chosen?.minutes);
const seed = Number(values.seed ?? randomInt(MAX_SEED));

if (name === undefined || values.help) {
  process.stdout.write(help());
} else if (chosen === undefined) {
  process.stderr.write(`no soak '${name}'; there are: ${soaks.map((each) => each.name).join(', ')}\n`);
  process.exitCode = 2;
} else if (!(minutes > 0) || !Number.isSafeInteger(seed)) {
  process.stderr.write('--minutes is a number above 0, --seed a whole one\n');
  process.exitCode = 2;
} else {
  process.exitCode = await runSoak(chosen);
}

function help(): string {
  const list = soaks.map((each) => `  ${each.name.padEnd(14)} ${each.summary} (${each.minutes} min)\n`).join('');
  return `npm run soak -- NAME [--minutes M] [--seed S]

Long loops of faults over real daemons, which it starts and ends.

${list}
  --minutes M    how long, in place of the minutes above
  --seed S       which faults, and when; another one each time by default

Exit 0: nothing was wrong; 1: something was; 2: wrong options; 130: stopped.
`;
}

async function loadAll(): Promise<Soak[]> {
  const directory = join(import.meta.dirname, 'soaks');
  const files = readdirSync(directory).filter((file) => file.endsWith('.ts'));
  return Promise.all(files.sort().map(async (file) => ((await import(join(directory, file))) as { soak: Soak }).soak));
}

async function runSoak(soak: Soak): Promise<number> {
  const ending = new Ending();
  const stopped = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopped.abort());
  const note = (line: string) => void process.stdout.write(`${line}\n`);
  note(`soak ${soak.name}, ${minutes} min, --seed ${seed}`);
  let failed = false;
  let counts: Readonly<Record<string, number>> = {};
  try {
    counts = await soak.run({ minutes, seed, note, atEnd: ending.add, signal: stopped.signal });
  } catch (error) {
    failed = true;
    note(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    await ending.run();
  }
  failed ||= (counts['violations'] ?? 0) > 0;
  if (failed) note(`again: npm run soak -- ${soak.name} --minutes ${minutes} --seed ${seed}`);
  note(JSON.stringify({ name: soak.name, seed, minutes, ...counts }));
  if (failed) return 1;
  return stopped.signal.aborted ? INTERRUPTED : 0;
}
