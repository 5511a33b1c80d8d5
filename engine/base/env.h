// SPDX-License-Identifier: LGPL-2.1-or-later
// base/env.h — every environment variable that the engine reads.
//
// One table: a variable exists when it has a row here, and nobody else calls g_getenv(). All are
// read once, at the first call of any function below, so that later changes of the environment
// by other threads of the process cannot race with us. With VLM_HELP=1 that first call prints the
// table on standard output.
// Thread-safety: any thread.
#ifndef VLM_BASE_ENV_H
#define VLM_BASE_ENV_H

#include <glib.h>
#include <stdint.h>

// X(id, type, default, help). The variable is VLM_<id>; types: FLAG (0 or 1), NUMBER (decimal, or
// hexadecimal after 0x), STRING. An empty variable counts as unset, except for strings whose help
// gives the empty value a meaning.
#define VLM_ENV_TABLE(X)                                                                           \
    X(HELP, FLAG, "0", "print this table once")                                                    \
    X(MODEL, STRING, NULL, "model used when none is asked for: a file, a folder, hf:...")          \
    X(DEVICE, STRING, NULL, "device used when none is asked for: an index or part of a name")      \
    X(DEVICE_MEMORY, NUMBER, "0", "most MiB of device memory, if no limit is asked for; 0 = all")  \
    X(CAPS_MASK, NUMBER, "0xffffffff", "device capabilities allowed; 0 = portable kernels")        \
    X(INT_DOT, FLAG, "1", "round activations to 8 bits where that is fast; 0 = never")             \
    X(SLOW_CAPS, FLAG, "0", "for tests: CPU drivers take kernels that are for GPUs")               \
    X(TALL_MATRICES, FLAG, "0", "for tests: matrices of 16 rows where a device has smaller ones")  \
    X(VALIDATE, FLAG, "0", "load the Khronos validation layer when it is installed")               \
    X(CACHE_DIR, STRING, NULL, "folder of the pipeline cache and lists; empty = keep none")        \
    X(IMPORT, FLAG, "1", "read frames where they are when the device can; 0 = always copy")        \
    X(STEPS_IN_FLIGHT, NUMBER, "2", "greedy decode steps on the device at once: 1 or 2")           \
    X(TUNING, STRING, NULL, "sizes of kernels, name=value,..; off = defaults, else what is saved") \
    X(FAIL_ALLOC, NUMBER, "0", "for tests: the device allocation with this number fails")          \
    X(FAIL_SUBMIT, NUMBER, "0", "for tests: the submission with this number loses the device")

// Y(id, default, help). Variables that other programs read as well, under their own names: all
// strings, an empty one counts as unset.
#define VLM_ENV_SHARED_TABLE(Y)                                                                    \
    Y(HF_HUB_CACHE, NULL, "folder of the Hugging Face cache")                                      \
    Y(HF_HOME, NULL, "its parent, and where its token is; default: huggingface in the user cache") \
    Y(HF_ENDPOINT, "https://huggingface.co", "where models are fetched from")                      \
    Y(HF_TOKEN, NULL, "sent to HF_ENDPOINT, for models behind a login")                            \
    Y(HF_HUB_OFFLINE, "0", "1 = fetch nothing")                                                    \
    Y(LLAMA_CACHE, NULL, "folder of the cache of llama.cpp")

typedef enum vlm_env_id {
#define VLM_ENV_ID(id, type, def, help) VLM_ENV_##id,
    VLM_ENV_TABLE(VLM_ENV_ID)
#undef VLM_ENV_ID
#define VLM_ENV_ID(id, def, help) VLM_ENV_##id,
        VLM_ENV_SHARED_TABLE(VLM_ENV_ID)
#undef VLM_ENV_ID
            VLM_N_ENV
} vlm_env_id;

// The value, the default when the variable is unset; NULL when there is neither. Owned by the
// table, valid as long as the process.
const char *vlm_env_string(vlm_env_id id);

// The value of a FLAG or a NUMBER. What can't be read as one gets a g_warning() and the default.
gboolean vlm_env_flag(vlm_env_id id);
uint64_t vlm_env_number(vlm_env_id id);

// The table as text, one variable a line: name, type, default, help. Returns a new string.
char *vlm_env_describe(void);

#endif
