/**
 * Completes package-lock.json after `npm install`. A package that is built for each platform lists its builds as optional dependencies, and
 * npm leaves those out of the lock that the registry in use does not serve; `npm ci` then refuses the lock everywhere. Here they get
 * their entries back, with the version that the parent names and the platform that their name tells.
 */
import { readFileSync, writeFileSync } from 'node:fs';

interface Entry {
  version?: string;
  cpu?: string[];
  dev?: boolean;
  libc?: string[];
  optional?: boolean;
  os?: string[];
  optionalDependencies?: Record<string, string>;
}

const OPERATING_SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const PROCESSORS = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'wasm32', 'x64'];

/** `@oxc-parser/binding-linux-x64-musl` → linux, x64, musl. */
function platformOf(name: string): { cpu: string[]; libc?: string[]; os?: string[] } {
  const words = name.replace(/^@[^/]+\//, '').split(/[-.]/);
  const os = words.filter((word) => OPERATING_SYSTEMS.includes(word));
  const cpu = words.filter((word) => PROCESSORS.includes(word));
  const libc = os.includes('linux') ? words.flatMap((word) => (word.startsWith('gnu') ? ['glibc'] : word.startsWith('musl') ? ['musl'] : [])) : [];
  if (cpu.length === 0) throw new Error(`no processor in the name ${name}: add its entry to package-lock.json by hand`);
  return { cpu, ...(libc.length > 0 && { libc }), ...(os.length > 0 && { os }) };
}

const path = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, Entry> };
const added: string[] = [];
for (const [parentPath, parent] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(parent.optionalDependencies ?? {})) {
    const nested = `${parentPath}/node_modules/${name}`;
    const hoisted = `node_modules/${name}`;
    if (lock.packages[nested] !== undefined || lock.packages[hoisted] !== undefined) continue;
    if (!/^\d/.test(range)) throw new Error(`${parentPath} wants ${name}@${range}, not one version: add its entry to package-lock.json by hand`);
    const { cpu, libc, os } = platformOf(name);
    // In npm's order of keys, so that its next run changes nothing.
    lock.packages[hoisted] = { version: range, cpu, ...(parent.dev && { dev: true }), ...(libc && { libc }), optional: true, ...(os && { os }) };
    added.push(`${name}@${range}`);
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en')));
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
process.stdout.write(`${added.length} entries added\n${added.map((each) => `  ${each}\n`).join('')}`);
