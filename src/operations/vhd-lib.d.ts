/**
 * The types of vhd-lib's reader, as far as it is used: the package has none.
 *
 * Only src/operations/verify-vhd-lib.ts imports it.
 */
declare module 'vhd-lib/dist/vhd.js' {
  /** How vhd-lib reads a file. */
  interface VhdLibHandler {
    read(path: string, buffer: Buffer, position: number): Promise<{ bytesRead: number; buffer: Buffer }>;
    getSize(path: string): Promise<number>;
  }

  interface VhdLibImage {
    /** There after `readHeaderAndFooter`. Sizes in bytes. */
    readonly footer: { readonly currentSize: number };
    readonly header: { readonly blockSize: number; readonly maxTableEntries: number };
    readHeaderAndFooter(checkSecondFooter?: boolean): Promise<void>;
    readBlockAllocationTable(): Promise<void>;
    containsBlock(block: number): boolean;
    _readBlock(block: number): Promise<{ data: Buffer; bitmap: Buffer }>;
  }

  type VhdLibConstructor = new (handler: VhdLibHandler, path: string) => VhdLibImage;

  /** What the CommonJS module exports, or its default. */
  const exported: VhdLibConstructor | { default: VhdLibConstructor };
  export default exported;
}
