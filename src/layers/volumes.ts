/**
 * Two volumes of one image, for whoever opens images (operations): the one door to that layer.
 */
export {
  hasPreservedVolume,
  type NewVolume,
  readPreservedVolume,
  removePreservedVolume,
  type VolumeFacts,
  VolumeSite,
  volumeFolder,
} from './two-volumes/volume-site.js';
