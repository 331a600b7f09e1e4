/**
 * The programs of other projects that tests use, and the Debian package each one comes in.
 *
 * Invariant: a test that needs one of these asks `requires.ts` first and skips by name without it.
 * Not here: installing them (global-setup.ts).
 */
import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';

/** Command name to Debian package. */
export const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  vhdiinfo: 'libvhdi-utils',
  'mkfs.xfs': 'xfsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  mke2fs: 'e2fsprogs',
  debugfs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  filefrag: 'e2fsprogs',
  dumpe2fs: 'e2fsprogs',
  resize2fs: 'e2fsprogs',
  mkswap: 'util-linux',
  cryptsetup: 'cryptsetup-bin',
  pvcreate: 'lvm2',
  mkntfs: 'ntfs-3g',
  'ntfs-3g': 'ntfs-3g',
  ntfsinfo: 'ntfs-3g',
  ntfscat: 'ntfs-3g',
  ntfsfix: 'ntfs-3g',
  ntfsresize: 'ntfs-3g',
  'mkfs.fat': 'dosfstools',
  'fsck.fat': 'dosfstools',
  mcopy: 'mtools',
  'mkfs.exfat': 'exfatprogs',
  'fsck.exfat': 'exfatprogs',
  'dump.exfat': 'exfatprogs',
  'mount.exfat-fuse': 'exfat-fuse',
  sfdisk: 'fdisk',
  jq: 'jq',
  xz: 'xz-utils',
  gzip: 'gzip',
  zstd: 'zstd',
  time: 'time',
  script: 'bsdutils',
  losetup: 'mount',
  mount: 'mount',
  blockdev: 'util-linux',
  ip: 'iproute2',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  sgdisk: 'gdisk',
  'nats-server': 'nats-server',
  'qemu-nbd': 'qemu-utils',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdsh: 'python3-libnbd',
  nbdkit: 'nbdkit',
  'nbd-client': 'nbd-client',
  fio: 'fio',
  openssl: 'openssl',
};

/** Folders of system programs, which the PATH of some accounts and containers leaves out. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];

/** PATH with the folders of system programs at its end. */
export function searchPath(): string {
  const own = (process.env.PATH ?? '').split(path.delimiter).filter(Boolean);
  return [...own, ...SYSTEM_FOLDERS.filter((folder) => !own.includes(folder))].join(path.delimiter);
}

/** The full path of a program, or undefined when it is not installed. */
export function findTool(name: string): string | undefined {
  for (const folder of searchPath().split(path.delimiter)) {
    const candidate = path.join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return candidate;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Packages to install so that every program of the table is there. */
export function missingPackages(): string[] {
  const missing = Object.entries(DEBIAN_PACKAGES).filter(([tool]) => findTool(tool) === undefined);
  return [...new Set(missing.map(([, name]) => name))].sort();
}

/** Programs of the table that are not installed. */
export function missingTools(): string[] {
  return Object.keys(DEBIAN_PACKAGES).filter((tool) => findTool(tool) === undefined);
}
