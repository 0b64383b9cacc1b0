/**
 * A model of what a disk keeps when the power fails: of each file the content that it had at its last sync, of each directory the entries
 * that it had at its last sync, and nothing else. Real disks may keep more; nothing may depend on that.
 *
 * It knows files by inode number, so the directory must lie on a file system that does not use them again: tmpfs.
 */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { Durability } from '../../src/blocker/file/durability.ts';

interface Entry {
  readonly name: string;
  readonly inode: number;
  readonly isDirectory: boolean;
}

export class ModelDisk implements Durability {
  calls = 0;
  /** Called before each sync takes effect. */
  beforeCall: (call: number) => void = () => {};
  private readonly root: string;
  private readonly contents = new Map<number, { readonly since: number; readonly bytes: Buffer }>();
  private readonly directories = new Map<number, { readonly since: number; readonly entries: readonly Entry[] }>();

  constructor(root: string) {
    this.root = root;
  }

  data(fd: number): Promise<void> {
    return this.call((since) => this.seenFile(`/proc/self/fd/${fd}`, since));
  }

  directory(path: string): Promise<void> {
    return this.call((since) => this.seenDirectory(path, since));
  }

  fileSystem(path: string): Promise<void> {
    return this.call((since) => this.seenAll(path, since), 100);
  }

  /** Keeps what was there when the call began, but only from its end on: some calls take many turns. */
  private async call(see: (since: number) => () => void, atLeastTurns = 0): Promise<void> {
    const since = ++this.calls;
    const keep = see(since);
    for (let turns = atLeastTurns + (since % 7 === 0 ? 60 : since % 3); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    this.beforeCall(since);
    keep();
  }

  /** Writes what the disk has kept to another directory. */
  restore(to: string): void {
    this.restoreDirectory(statSync(this.root).ino, to);
  }

  private seenFile(path: string, since: number): () => void {
    const [inode, bytes] = [statSync(path).ino, readFileSync(path)];
    return () => void ((this.contents.get(inode)?.since ?? 0) < since && this.contents.set(inode, { since, bytes }));
  }

  private seenDirectory(path: string, since: number): () => void {
    const found = readdirSync(path, { withFileTypes: true });
    const entries = found.map((entry) => ({ name: entry.name, inode: statSync(`${path}/${entry.name}`).ino, isDirectory: entry.isDirectory() }));
    const inode = statSync(path).ino;
    return () => void ((this.directories.get(inode)?.since ?? 0) < since && this.directories.set(inode, { since, entries }));
  }

  private seenAll(path: string, since: number): () => void {
    const seen = [this.seenDirectory(path, since)];
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const below = `${path}/${entry.name}`;
      seen.push(entry.isDirectory() ? this.seenAll(below, since) : this.seenFile(below, since));
    }
    return () => {
      for (const keep of seen) keep();
    };
  }

  private restoreDirectory(inode: number, to: string): void {
    mkdirSync(to, { recursive: true });
    for (const { name, inode: of, isDirectory } of this.directories.get(inode)?.entries ?? []) {
      if (isDirectory) this.restoreDirectory(of, `${to}/${name}`);
      else writeFileSync(`${to}/${name}`, this.contents.get(of)?.bytes ?? '');
    }
  }
}
