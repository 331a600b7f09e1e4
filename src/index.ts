/**
 * The library surface of vhdkit: operations, the formats and the offload core.
 *
 * Re-exports only. What is not exported here is private and may change.
 */
export { type ErrorCode, type ErrorContext, isVhdkitError, VhdkitError } from './base/errors.js';
export type { ChainExtent, Extent, Locator, Place, PreparedWrite } from './block/extent.js';
export { walkExtents } from './block/extent.js';
export { StripedSource } from './block/striped-source.js';
export { Chain, openChain, resolveParent } from './formats/chain.js';
export type { CreateImageOptions, DiskImage, FormatId, ImageType } from './formats/disk-image.js';
export type { EditableImage, NewParentLink, WriteAccess } from './formats/editable-image.js';
export type { Finding, Severity } from './formats/finding.js';
export { readDisk } from './formats/image-reader.js';
export {
  createImage,
  editImage,
  formatByExtension,
  formatByName,
  openImage,
  probeFormat,
} from './formats/registry.js';
export type { FileSystem, PendingFile } from './io/file-system.js';
export { MemoryFile } from './io/memory-file.js';
export { nodeFileSystem } from './io/node-file-system.js';
export type { RandomAccessFile } from './io/random-access-file.js';
export {
  type AuxiliaryFields,
  type AuxiliaryKind,
  type DecodedAuxiliary,
  decodeAuxiliary,
  isAuxiliary,
} from './offload/auxiliary/auxiliary-codec.js';
export { FailedPairs, RETRY_AFTER } from './offload/failed-pairs.js';
export { LatencyMemory } from './offload/latency.js';
export type {
  BoundToken,
  FailureScope,
  HeldToken,
  OffloadCapabilities,
  OffloadProvider,
  OffloadReadOptions,
  OffloadWriteRequest,
  OffloadWriteResult,
} from './offload/offload-provider.js';
export {
  ProviderStack,
  type StackChoice,
  type StackMember,
  type StackMemory,
} from './offload/stack/provider-stack.js';
export {
  offloadReadAll,
  offloadReadDisk,
  type ReadAllOptions,
  type ReadLimits,
  withReadLimits,
} from './offload/stack/requestor-read.js';
export {
  offloadWriteAll,
  type WriteAllOptions,
  type WriteAllResult,
} from './offload/stack/requestor-write.js';
export { TOKEN_BYTES, Token, type TokenMode } from './offload/token.js';
export { ZERO_TOKEN } from './offload/token-codec.js';
export { TokenManager, type TokenManagerOptions } from './offload/token-manager.js';
export {
  type AuxiliaryToken,
  type NewPart,
  type TokenChoice,
  TokenSet,
  type TokenSetPart,
} from './offload/token-set.js';
export type { BytesMoved, ProviderChoice, ZeroPolicy } from './offload/transfer-types.js';
export {
  type CheckFinding,
  type CheckOptions,
  type CheckResult,
  CheckUnsupported,
  check,
} from './operations/check.js';
export { type CompactOptions, type CompactResult, compact } from './operations/compact.js';
export { CompareError, type CompareOptions, type CompareResult, compare } from './operations/compare.js';
export { type ConvertOptions, type ConvertResult, convert } from './operations/convert.js';
export { convertInPlace, type InPlaceOptions, type InPlaceResult } from './operations/convert-in-place.js';
export { type CreateOptions, type CreateResult, create } from './operations/create.js';
export { type DefragOptions, type DefragResult, defrag } from './operations/defrag.js';
export { type HashOptions, type HashResult, hash } from './operations/hash.js';
export { type Host, type ProgressSink, systemHost } from './operations/host.js';
export { type ImageInfo, type InfoOptions, type InfoResult, info } from './operations/info.js';
export { type DiskMap, type MapEntry, type MapOptions, openMap } from './operations/map.js';
export { type MergeOptions, type MergeResult, merge } from './operations/merge.js';
export { localMembers, localStack, stackMemory } from './operations/offload-stack.js';
export { PROFILES } from './operations/profiles/profiles.js';
export type { Profile, ProfileFinding, ProfileName, Rule } from './operations/profiles/rule.js';
export { type DiskReader, openRead, type ReadOptions } from './operations/read.js';
export { type RebaseOptions, type RebaseResult, rebase } from './operations/rebase.js';
export { undoRepair } from './operations/repair/undo.js';
export { repair } from './operations/repair.js';
export { type ResizeOptions, type ResizeResult, resize } from './operations/resize.js';
export {
  type ServedExport,
  type ServeEnd,
  type ServeImage,
  type ServeOptions,
  type ServeStart,
  type Serving,
  serve,
} from './operations/serve.js';
export { createSnapshot, type SnapshotCreateOptions } from './operations/snapshot/create.js';
export { deleteSnapshots, type SnapshotDeleteOptions } from './operations/snapshot/delete.js';
export { exportSnapshot, type SnapshotExportOptions } from './operations/snapshot/export.js';
export { listSnapshots } from './operations/snapshot/list.js';
export { createVolume, type VolumeCreateOptions } from './operations/snapshot/live-volume.js';
export { restoreSnapshot, type SnapshotRestoreOptions } from './operations/snapshot/restore.js';
export type {
  SnapshotCreateResult,
  SnapshotDeleteResult,
  SnapshotFacts,
  SnapshotListResult,
  SnapshotRestoreResult,
} from './operations/snapshot/types.js';
export type { ShownAuxiliary } from './operations/token/auxiliary-show.js';
export { openTokenBytes, type TokenBytes, type TokenCatOptions } from './operations/token/cat.js';
export { type TokenLimitsOptions, tokenLimits } from './operations/token/limits.js';
export { readToken, type TokenReadOptions, type TokenReadResult } from './operations/token/read.js';
export { revokeTokens, type TokenRevokeOptions, type TokenRevokeResult } from './operations/token/revoke.js';
export { loadTokenSet, saveTokenSet } from './operations/token/set-file.js';
export {
  listTokens,
  showTokens,
  type TokenListOptions,
  type TokenListResult,
  type TokenShowOptions,
  type TokenShowResult,
} from './operations/token/show.js';
export { type OpenTokens, openTokens } from './operations/token/store.js';
export {
  type TokenVerifyOptions,
  type TokenVerifyResult,
  type Verified,
  verifyTokens,
} from './operations/token/verify.js';
export { type TokenWriteOptions, type TokenWriteResult, writeToken } from './operations/token/write.js';
export { type WriteOptions, type WriteResult, write } from './operations/write.js';
