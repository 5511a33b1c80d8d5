// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/tuning.h — sizes of kernels that a device may want otherwise, and the file that keeps them.
//
// Every size has a list of values that are right on every device, from which measuring
// (runtime/tune.c), a file or a person picks; what is on no list is never used. Values change how
// sums are split and so how they are rounded, nothing else. Without a file all are the defaults:
// nothing is timed unless somebody asks.
#ifndef VLM_GPU_TUNING_H
#define VLM_GPU_TUNING_H

#include <glib.h>
#include <stdint.h>

#define VLM_TUNABLE_MAX_VALUES 8u

// X(id, name, default on CPU drivers, default on other devices, what it is, values...)
#define VLM_TUNABLE_TABLE(X)                                                                       \
    X(TILE_PANELS_ONE, "tile-panels-one", 8, 4,                                                    \
      "panels of rows that a workgroup has at most in products of one token", 2, 4, 8)             \
    X(TILE_PANELS, "tile-panels", 2, 2, "the same in products of more than four tokens", 2, 4)     \
    X(TILE_TOKENS, "tile-tokens", 8, 8, "tokens of a workgroup in products of many", 8, 16)        \
    X(SPLIT_SUBGROUPS, "split-subgroups", 2048, 2048,                                              \
      "subgroups that keep the device busy in products of few tokens", 256, 512, 1024, 2048, 4096, \
      8192)                                                                                        \
    X(SPLIT_MOST, "split-most", 16, 16, "subgroups that share out the columns of a panel at most", \
      2, 4, 8, 16, 32)                                                                             \
    X(DOT_PANELS, "dot-panels", 4, 4,                                                              \
      "panels of a workgroup in integer dot products of many rows", 1, 2, 4, 8)                    \
    X(DOT_TOKENS, "dot-tokens", 16, 16, "tokens of a workgroup in integer dot products", 8, 16)    \
    X(MATRIX_FROM, "matrix-from", 16, 16, "tokens from which products go to matrix units", 8, 16,  \
      32, 64, 128)                                                                                 \
    X(MATRIX_TOKENS, "matrix-tokens", 64, 64, "tokens of a workgroup on matrix units at most", 16, \
      32, 64)                                                                                      \
    X(MATRIX_PANELS, "matrix-panels", 4, 4, "panels of a workgroup on matrix units", 1, 2, 4)      \
    X(ATTENTION_ITEMS, "attention-items", 16, 1024,                                                \
      "pieces into which attention over a long context is split", 8, 16, 32, 64, 256, 1024, 2048,  \
      4096)                                                                                        \
    X(ATTENTION_PAGES, "attention-pages", 8, 2, "pages of the context that a piece has at least",  \
      1, 2, 4, 8, 16)

typedef enum vlm_tunable {
#define VLM_TUNABLE_ID(id, ...) VLM_TUNE_##id,
    VLM_TUNABLE_TABLE(VLM_TUNABLE_ID)
#undef VLM_TUNABLE_ID
        VLM_N_TUNABLE
} vlm_tunable;

typedef struct vlm_tunable_info {
    const char *name;
    const char *help;
    uint32_t values[VLM_TUNABLE_MAX_VALUES];  // ascending
    uint32_t n_value;
} vlm_tunable_info;

struct vlm_device;

const vlm_tunable_info *vlm_tunable_get_info(vlm_tunable tunable);

// The value without a tuning, and whether kernels that this device runs by itself look at it.
uint32_t vlm_tunable_default(const struct vlm_device *dev, vlm_tunable tunable);
gboolean vlm_tunable_applies(const struct vlm_device *dev, vlm_tunable tunable);

// Gives all of them their defaults.
void vlm_tuning_reset(struct vlm_device *dev);

// FALSE, and nothing is changed, when the value is not on the list. Thread-safety of this and all
// that follows: nothing is recorded for the device meanwhile.
gboolean vlm_tuning_set(struct vlm_device *dev, vlm_tunable tunable, uint32_t value);

// "name=value,name=value": these over what there is. On an error nothing is changed.
// Errors: ARGS, with the names or values there are.
gboolean vlm_tuning_parse(struct vlm_device *dev, const char *text, GError **error);

// What differs from the defaults, in the form that vlm_tuning_parse() reads; "" for nothing. Free
// with g_free().
char *vlm_tuning_describe(const struct vlm_device *dev);

// Takes the values that were saved for this device under `name`, any text. A file that is missing,
// damaged or of another version changes nothing; lines with names or values that are not on the
// lists are left out. TRUE when there was one.
gboolean vlm_tuning_load(struct vlm_device *dev, const char *name);

// Saves what differs from the defaults, and removes the file when nothing does. `path` (may be
// NULL) gets the file's name, to be freed with g_free().
// Errors: NOT_FOUND (no cache folder, or what the system says).
gboolean vlm_tuning_save(const struct vlm_device *dev, const char *name, char **path,
                         GError **error);

#endif
