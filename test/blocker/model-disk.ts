/**
 * A model of what a disk keeps when the power fails: of each file the content that it had at its last sync, of each directory the entries
 * that it had at its last sync, and nothing else. Real disks may keep more; nothing may depend on that.
 *
 * It knows files by inode number, so the directory must lie on a file system that does not use them again: tmpfs.
 */
import { type Dirent, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { Durability } from '../../src/blocker/file/durability.ts';

export class ModelDisk implements Durability {
  calls = 0;
  /** Called before each sync takes effect. */
  beforeCall: (call: number) => void = () => {};
  private readonly root: string;
  private readonly contents = new Map<number, Buffer>();
  private readonly directories = new Map<number, { name: string; inode: number; isDirectory: boolean }[]>();

  constructor(root: string) {
    this.root = root;
  }

  async data(fd: number): Promise<void> {
    this.begin();
    this.keepFile(`/proc/self/fd/${fd}`);
  }

  async directory(path: string): Promise<void> {
    this.begin();
    this.keepDirectory(path);
  }

  async fileSystem(path: string): Promise<void> {
    this.begin();
    this.keepAll(path);
  }

  /** Writes what the disk has kept to another directory. */
  restore(to: string): void {
    this.restoreDirectory(statSync(this.root).ino, to);
  }

  private begin(): void {
    this.calls++;
    this.beforeCall(this.calls);
  }

  private keepFile(path: string): void {
    this.contents.set(statSync(path).ino, readFileSync(path));
  }

  private keepDirectory(path: string): Dirent[] {
    const found = readdirSync(path, { withFileTypes: true });
    const entries = found.map((entry) => ({ name: entry.name, inode: statSync(`${path}/${entry.name}`).ino, isDirectory: entry.isDirectory() }));
    this.directories.set(statSync(path).ino, entries);
    return found;
  }

  private keepAll(path: string): void {
    for (const entry of this.keepDirectory(path)) {
      if (entry.isDirectory()) this.keepAll(`${path}/${entry.name}`);
      else this.keepFile(`${path}/${entry.name}`);
    }
  }

  private restoreDirectory(inode: number, to: string): void {
    mkdirSync(to, { recursive: true });
    for (const { name, inode: of, isDirectory } of this.directories.get(inode) ?? []) {
      if (isDirectory) this.restoreDirectory(of, `${to}/${name}`);
      else writeFileSync(`${to}/${name}`, this.contents.get(of) ?? '');
    }
  }
}
