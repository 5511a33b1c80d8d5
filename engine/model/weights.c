// SPDX-License-Identifier: LGPL-2.1-or-later
// model/weights.c — see model/weights.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/weights.h"

#include <string.h>

#include "base/number.h"

#define ARENA_BYTES ((uint64_t) 1 << 30)  // aimed at; a larger tensor gets an arena of its own
#define CHUNK_BYTES ((uint64_t) 8 << 20)  // read and packed at a time
#define ALIGNMENT   256u

// One thing that was asked for. Exactly one of `tensor` and `bytes` is set.
typedef struct want {
    vlm_weight *weight;  // matrices: where to put the result
    uint64_t *addr;      // the rest: where to put the address
    vlm_gguf *gguf;      // a reference
    const vlm_gguf_tensor *tensor;
    GBytes *bytes;
    uint64_t device_bytes;
    guint arena;  // index, once placed
    uint64_t offset;
    vlm_expert_store **store;  // experts: where to put the store; else NULL
    uint32_t layer;            // of experts
    char *name;                // of experts, which are placed late
} want;

struct vlm_loader {
    vlm_device *dev;  // not owned
    GArray *wants;
    GArray *arena_bytes;                   // of uint64_t
    uint64_t expert_bytes, waiting_bytes;  // of experts; of those that have no place yet
    uint64_t slot_bytes;                   // of the device, for experts
    uint32_t max_ids;
    vlm_expert_store *store;
    uint64_t host_bytes;  // of the upload, without what is mapped for the device
};

static void want_clear(gpointer data)
{
    want *w = data;

    vlm_gguf_unref(w->gguf);
    g_clear_pointer(&w->bytes, g_bytes_unref);
    g_clear_pointer(&w->name, g_free);
}

vlm_loader *vlm_loader_create(vlm_device *dev)
{
    vlm_loader *loader = g_new0(vlm_loader, 1);

    loader->dev = dev;
    loader->wants = g_array_new(FALSE, TRUE, sizeof(want));
    g_array_set_clear_func(loader->wants, want_clear);
    loader->arena_bytes = g_array_new(FALSE, TRUE, sizeof(uint64_t));
    loader->slot_bytes = UINT64_MAX;
    return loader;
}

void vlm_loader_destroy(vlm_loader *loader)
{
    if (!loader)
        return;
    g_array_unref(loader->wants);
    vlm_expert_store_free(loader->store);
    g_array_unref(loader->arena_bytes);
    g_free(loader);
}

// Whether the device can have so much in one piece.
static gboolean check_piece(const vlm_loader *loader, uint64_t bytes, const char *name,
                            GError **error)
{
    if (bytes > 0 && bytes <= loader->dev->max_alloc - VLM_GUARD_BYTES - ALIGNMENT)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY,
                "%s: %s needs %.1f MB in one piece, the device gives at most %.1f MB",
                loader->dev->name, name, (double) bytes / 1e6,
                (double) loader->dev->max_alloc / 1e6);
    return FALSE;
}

// Gives `w` its place in the last arena, or in a new one when that is full.
static gboolean find_place(vlm_loader *loader, want *w, const char *name, GError **error)
{
    const uint64_t bytes = (w->device_bytes + ALIGNMENT - 1) & ~(uint64_t) (ALIGNMENT - 1);

    if (!check_piece(loader, w->device_bytes, name, error))
        return FALSE;
    guint n = loader->arena_bytes->len;
    if (n == 0 || g_array_index(loader->arena_bytes, uint64_t, n - 1) + bytes > ARENA_BYTES) {
        const uint64_t zero = 0;
        g_array_append_val(loader->arena_bytes, zero);
        n++;
    }
    w->arena = n - 1;
    w->offset = g_array_index(loader->arena_bytes, uint64_t, n - 1);
    g_array_index(loader->arena_bytes, uint64_t, n - 1) += bytes;
    return TRUE;
}

// Takes what `w` owns.
static gboolean add(vlm_loader *loader, want *w, const char *name, GError **error)
{
    if (!find_place(loader, w, name, error)) {
        want_clear(w);
        return FALSE;
    }
    g_array_append_vals(loader->wants, w, 1);
    return TRUE;
}

// Checks the tensor and fills `out` but for its place.
static gboolean find_matrix(const vlm_loader *loader, vlm_weight *out, want *w, vlm_gguf *gguf,
                            const char *name, uint32_t n_mat, uint32_t n_row, uint32_t n_col,
                            GError **error)
{
    const uint64_t ne[3] = { n_col, n_row, n_mat };
    const vlm_gguf_tensor *tensor =
        vlm_gguf_require_tensor(gguf, name, n_mat > 1 ? 3 : 2, ne, error);

    if (!tensor)
        return FALSE;
    if (!vlm_weight_supported(tensor->dtype)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: tensor %s has type %s, which can't be run", vlm_gguf_path(gguf), name,
                    vlm_dtype_name(tensor->dtype));
        return FALSE;
    }
    *out = (vlm_weight){
        .dtype = tensor->dtype,
        .n_mat = n_mat,
        .n_row = n_row,
        .n_col = n_col,
        .mat_bytes = vlm_weight_mat_bytes(loader->dev, tensor->dtype, n_row, n_col),
    };
    *w = (want){ .weight = out,
                 .gguf = vlm_gguf_ref(gguf),
                 .tensor = tensor,
                 .device_bytes = out->mat_bytes * n_mat };
    return TRUE;
}

gboolean vlm_loader_matrix(vlm_loader *loader, vlm_weight *out, vlm_gguf *gguf, const char *name,
                           uint32_t n_mat, uint32_t n_row, uint32_t n_col, GError **error)
{
    want w;

    return find_matrix(loader, out, &w, gguf, name, n_mat, n_row, n_col, error)
           && add(loader, &w, name, error);
}

gboolean vlm_loader_experts(vlm_loader *loader, vlm_weight *out, vlm_expert_store **store,
                            vlm_gguf *gguf, const char *name, uint32_t layer, uint32_t n_mat,
                            uint32_t n_row, uint32_t n_col, GError **error)
{
    want w;

    if (!find_matrix(loader, out, &w, gguf, name, n_mat, n_row, n_col, error))
        return FALSE;
    if (!check_piece(loader, out->mat_bytes, name, error)) {
        want_clear(&w);
        return FALSE;
    }
    w.store = store;
    w.layer = layer;
    w.name = g_strdup(name);
    loader->expert_bytes += w.device_bytes;
    loader->waiting_bytes += w.device_bytes;
    g_array_append_vals(loader->wants, &w, 1);
    return TRUE;
}

void vlm_loader_limit_experts(vlm_loader *loader, uint64_t slot_bytes, uint32_t max_ids)
{
    loader->slot_bytes = slot_bytes;
    loader->max_ids = max_ids;
}

vlm_expert_store *vlm_loader_take_experts(vlm_loader *loader)
{
    return g_steal_pointer(&loader->store);
}

uint64_t vlm_loader_expert_bytes(const vlm_loader *loader)
{
    return loader->expert_bytes;
}

gboolean vlm_loader_matrix_bytes(vlm_loader *loader, vlm_weight *out, vlm_dtype dtype,
                                 uint32_t n_row, uint32_t n_col, GBytes *rows, GError **error)
{
    *out = (vlm_weight){
        .dtype = dtype,
        .n_mat = 1,
        .n_row = n_row,
        .n_col = n_col,
        .mat_bytes = vlm_weight_mat_bytes(loader->dev, dtype, n_row, n_col),
    };
    want w = { .weight = out, .bytes = g_bytes_ref(rows), .device_bytes = out->mat_bytes };
    return add(loader, &w, "an assembled matrix", error);
}

// `addr` is written by the upload.  NOLINTNEXTLINE(readability-non-const-parameter)
gboolean vlm_loader_floats(vlm_loader *loader, uint64_t *addr, vlm_gguf *gguf, const char *name,
                           uint64_t n, GError **error)
{
    const vlm_gguf_tensor *tensor = vlm_gguf_tensor_find(gguf, name);
    uint64_t n_have = 1;

    for (uint32_t i = 0; tensor && i < tensor->n_dims; i++)
        n_have *= tensor->ne[i];
    if (!tensor || n_have != n) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: tensor %s %s", vlm_gguf_path(gguf),
                    name, tensor ? "has the wrong number of elements" : "is missing");
        return FALSE;
    }
    if (tensor->dtype != VLM_DTYPE_F32 && tensor->dtype != VLM_DTYPE_F16
        && tensor->dtype != VLM_DTYPE_BF16) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: tensor %s has type %s, F32, F16 or BF16 is needed", vlm_gguf_path(gguf),
                    name, vlm_dtype_name(tensor->dtype));
        return FALSE;
    }
    want w = { .addr = addr, .gguf = vlm_gguf_ref(gguf), .tensor = tensor, .device_bytes = n * 4 };
    return add(loader, &w, name, error);
}

// `addr` is written by the upload.  NOLINTNEXTLINE(readability-non-const-parameter)
gboolean vlm_loader_data(vlm_loader *loader, uint64_t *addr, const void *data, size_t bytes,
                         GError **error)
{
    want w = { .addr = addr, .bytes = g_bytes_new(data, bytes), .device_bytes = bytes };

    return add(loader, &w, "a table", error);
}

uint64_t vlm_loader_host_bytes(const vlm_loader *loader)
{
    uint64_t sum = loader->host_bytes;

    for (guint i = 0; i < loader->wants->len; i++) {
        const want *w = &g_array_index(loader->wants, want, i);
        if (w->bytes)
            sum += g_bytes_get_size(w->bytes);
    }
    return sum;
}

uint64_t vlm_loader_bytes(const vlm_loader *loader)
{
    uint64_t sum = loader->waiting_bytes;

    for (guint i = 0; i < loader->arena_bytes->len; i++)
        sum += g_array_index(loader->arena_bytes, uint64_t, i);
    return sum;
}

// Scratch memory of one upload, grown as needed.
typedef struct upload {
    GPtrArray *arenas;
    void *raw;
    void *packed;
    size_t raw_bytes;
    size_t packed_bytes;
    gboolean (*on_progress)(double, gpointer);
    gpointer user_data;
    uint64_t done;
    uint64_t total;
} upload;

static gboolean grow(void **block, size_t *have, size_t want_bytes, GError **error)
{
    if (*have >= want_bytes)
        return TRUE;
    void *bigger = g_try_realloc(*block, want_bytes);
    if (!bigger) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY,
                    "out of memory for %" G_GSIZE_FORMAT " bytes while loading", want_bytes);
        return FALSE;
    }
    *block = bigger;
    *have = want_bytes;
    return TRUE;
}

static gboolean advance(upload *up, uint64_t bytes, GError **error)
{
    up->done += bytes;
    if (!up->on_progress || up->on_progress((double) up->done / (double) up->total, up->user_data))
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_CANCELLED, "loading was cancelled");
    return FALSE;
}

static gboolean read_source(const want *w, uint64_t offset, void *dst, size_t bytes, GError **error)
{
    if (w->tensor)
        return vlm_gguf_read_tensor(w->gguf, w->tensor, offset, dst, bytes, error);
    memcpy(dst, (const char *) g_bytes_get_data(w->bytes, NULL) + offset, bytes);
    return TRUE;
}

// Where matrix `mat` goes: the host's memory, or NULL and an arena.
static char *find_target(const vlm_loader *loader, const upload *up, const want *w, uint32_t mat,
                         uint64_t first)
{
    if (w->store)
        return (char *) vlm_expert_store_home(loader->store, w->layer, mat) + w->offset + first;
    const vlm_buffer *arena = g_ptr_array_index(up->arenas, w->arena);
    return arena->host ? (char *) arena->host + w->offset + mat * w->weight->mat_bytes + first
                       : NULL;
}

// Reads, packs and writes `n_row` rows of one matrix from row `row`.
static gboolean upload_rows(vlm_loader *loader, upload *up, const want *w, uint32_t mat,
                            uint32_t row, uint32_t n_row, GError **error)
{
    const vlm_weight *weight = w->weight;
    const size_t row_bytes = vlm_dtype_row_bytes(weight->dtype, weight->n_col);
    const uint32_t group = vlm_weight_row_group(loader->dev);
    const uint32_t end =
        MIN((row + n_row + group - 1) / group * group, (weight->n_row + group - 1) / group * group);
    const uint64_t first = vlm_weight_row_offset(loader->dev, weight, row);
    const size_t packed = (size_t) (vlm_weight_row_offset(loader->dev, weight, end) - first);
    char *target = find_target(loader, up, w, mat, first);
    const uint64_t source = ((uint64_t) mat * weight->n_row + row) * row_bytes;

    if (!grow(&up->raw, &up->raw_bytes, n_row * row_bytes, error)
        || !read_source(w, source, up->raw, n_row * row_bytes, error))
        return FALSE;
    if (target) {
        vlm_weight_pack(loader->dev, weight, up->raw, n_row, target);
    } else {
        vlm_buffer *arena = g_ptr_array_index(up->arenas, w->arena);
        const uint64_t at = w->offset + mat * weight->mat_bytes + first;
        if (!grow(&up->packed, &up->packed_bytes, packed, error))
            return FALSE;
        vlm_weight_pack(loader->dev, weight, up->raw, n_row, up->packed);
        if (!vlm_buffer_write(arena, (size_t) at, up->packed, packed, error))
            return FALSE;
    }
    return advance(up, packed, error);
}

static gboolean upload_matrix(vlm_loader *loader, upload *up, const want *w, GError **error)
{
    const uint32_t group = vlm_weight_row_group(loader->dev);
    const uint64_t row_bytes = vlm_dtype_row_bytes(w->weight->dtype, w->weight->n_col);
    const uint32_t chunk =
        (uint32_t) MIN(MAX(CHUNK_BYTES / row_bytes / group, 1) * group, w->weight->n_row);

    for (uint32_t mat = 0; mat < w->weight->n_mat; mat++)
        for (uint32_t row = 0; row < w->weight->n_row; row += chunk)
            if (!upload_rows(loader, up, w, mat, row, MIN(chunk, w->weight->n_row - row), error))
                return FALSE;
    if (w->store) {
        w->weight->addr = w->offset;
        w->weight->table = vlm_expert_store_table(loader->store, w->layer);
    } else {
        const vlm_buffer *arena = g_ptr_array_index(up->arenas, w->arena);
        w->weight->addr = arena->addr + w->offset;
        w->weight->table = 0;
    }
    return TRUE;
}

static void widen(const void *src, vlm_dtype dtype, size_t n, float *dst)
{
    const uint16_t *half = src;

    if (dtype == VLM_DTYPE_F32) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    for (size_t i = 0; i < n; i++)
        dst[i] = dtype == VLM_DTYPE_F16 ? vlm_f16_to_f32(half[i]) : vlm_bf16_to_f32(half[i]);
}

// Floats (widened to f32) and plain data.
static gboolean upload_plain(upload *up, const want *w, GError **error)
{
    vlm_buffer *arena = g_ptr_array_index(up->arenas, w->arena);
    const vlm_dtype dtype = w->tensor ? w->tensor->dtype : VLM_DTYPE_F32;
    const size_t width = dtype == VLM_DTYPE_F32 ? 4 : 2;

    for (uint64_t done = 0; done < w->device_bytes;) {
        const size_t n = (size_t) MIN(CHUNK_BYTES, w->device_bytes - done);
        if (!grow(&up->raw, &up->raw_bytes, CHUNK_BYTES, error)
            || !grow(&up->packed, &up->packed_bytes, CHUNK_BYTES, error))
            return FALSE;
        if (w->tensor) {
            if (!read_source(w, done / 4 * width, up->raw, n / 4 * width, error))
                return FALSE;
            widen(up->raw, dtype, n / 4, up->packed);
        } else if (!read_source(w, done, up->packed, n, error)) {
            return FALSE;
        }
        if (!vlm_buffer_write(arena, (size_t) (w->offset + done), up->packed, n, error))
            return FALSE;
        done += n;
    }
    *w->addr = arena->addr + w->offset;
    return advance(up, w->device_bytes, error);
}

// Gives experts their places: in arenas like everything else, or in blocks of a store.
static gboolean place_experts(vlm_loader *loader, GError **error)
{
    const gboolean limited = loader->expert_bytes > loader->slot_bytes;
    g_autoptr(GArray) block_bytes = g_array_new(FALSE, TRUE, sizeof(uint64_t));
    vlm_expert_store_params params = { .slot_bytes = loader->slot_bytes,
                                       .max_ids = loader->max_ids };

    for (guint i = 0; i < loader->wants->len; i++) {
        want *w = &g_array_index(loader->wants, want, i);
        if (!w->store)
            continue;
        if (!limited) {
            if (!find_place(loader, w, w->name, error))
                return FALSE;
            w->store = NULL;
            continue;
        }
        if (w->layer >= block_bytes->len)
            g_array_set_size(block_bytes, w->layer + 1);
        uint64_t *bytes = &g_array_index(block_bytes, uint64_t, w->layer);
        w->offset = *bytes;
        *bytes += w->weight->mat_bytes;
        params.n_expert = w->weight->n_mat;
    }
    if (!limited) {
        loader->waiting_bytes = 0;
        return TRUE;
    }
    params.block_bytes = (const uint64_t *) (const void *) block_bytes->data;
    params.n_layer = block_bytes->len;
    loader->store = vlm_expert_store_new(loader->dev, &params, error);
    return loader->store != NULL;
}

static gboolean upload_all(vlm_loader *loader, upload *up, GError **error)
{
    if (!place_experts(loader, error)) {
        g_prefix_error(error,
                       "the experts (%.1f MB) do not fit: ", (double) loader->expert_bytes / 1e6);
        return FALSE;
    }
    for (guint i = 0; i < loader->arena_bytes->len; i++) {
        vlm_buffer *arena =
            vlm_buffer_create(loader->dev, (size_t) g_array_index(loader->arena_bytes, uint64_t, i),
                              VLM_MEMORY_WEIGHTS, error);
        if (!arena) {
            g_prefix_error(error, "the weights (%.1f MB) do not fit: ", (double) up->total / 1e6);
            return FALSE;
        }
        g_ptr_array_add(up->arenas, arena);
    }
    for (guint i = 0; i < loader->wants->len; i++) {
        const want *w = &g_array_index(loader->wants, want, i);
        if (w->weight ? !upload_matrix(loader, up, w, error) : !upload_plain(up, w, error))
            return FALSE;
    }
    if (!loader->store)
        return TRUE;
    if (!vlm_expert_store_fill(loader->store, error))
        return FALSE;
    for (guint i = 0; i < loader->wants->len; i++) {
        const want *w = &g_array_index(loader->wants, want, i);
        if (w->store)
            *w->store = loader->store;
    }
    return TRUE;
}

gboolean vlm_loader_upload(vlm_loader *loader, gboolean (*on_progress)(double, gpointer),
                           gpointer user_data, GPtrArray **arenas, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify) vlm_buffer_destroy);
    upload up = { .arenas = list,
                  .on_progress = on_progress,
                  .user_data = user_data,
                  .total = MAX(vlm_loader_bytes(loader), 1) };
    const gboolean ok = upload_all(loader, &up, error);

    loader->host_bytes = up.raw_bytes + up.packed_bytes;  // these only grow
    g_free(up.raw);
    g_free(up.packed);
    if (ok)
        *arenas = g_steal_pointer(&list);
    return ok;
}
