/**
 * Two volumes of one image, for whoever opens images (operations): the one door to that layer.
 */
export {
  type NewVolume,
  preservedVolumeName,
  readPreservedVolume,
  removePreservedVolume,
  type VolumeFacts,
  VolumeSite,
} from './two-volumes/volume-site.js';
