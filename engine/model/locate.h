// SPDX-License-Identifier: LGPL-2.1-or-later
// model/locate.h — model files on this machine: folders and the caches of hubs.
#ifndef VLM_MODEL_LOCATE_H
#define VLM_MODEL_LOCATE_H

#include "base/error.h"

// Names of the regular files (or links to some) of a folder, sorted; with `depth` > 0 also those of
// its folders, as "sub/name". NULL-terminated, empty when there is no folder.
char **vlm_locate_files(const char *folder, guint depth);

// The text GGUFs (first parts) among `files`; borrowed, not NULL-terminated.
GPtrArray *vlm_locate_texts(char **files);

// "models--ORG--REPO", and the folders of its snapshots with the current one first; full paths.
char *vlm_locate_repo_folder(const vlm_hub_places *places, const vlm_hub_name *name);
char **vlm_locate_snapshots(const char *repo_folder);

// The start of the names that the files of a repository have in a flat cache: "ORG_REPO_".
char *vlm_locate_flat_prefix(const vlm_hub_name *name);

// Finds a hub model in the caches. As vlm_model_find(), but says only what was found missing;
// *mmproj_path stays NULL when `with_mmproj` is FALSE.
gboolean vlm_locate_hub(const vlm_hub_places *places, const vlm_hub_name *name,
                        gboolean with_mmproj, char **model_path, char **mmproj_path,
                        GError **error);

#endif
