// SPDX-License-Identifier: LGPL-2.1-or-later
// model/expert_store.c — see model/expert_store.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/expert_store.h"

#include <string.h>

#include "gpu/memory.h"

#define NONE       UINT32_MAX
#define PIECE      ((uint64_t) 512 << 20)  // of memory, at most, unless a block is larger
#define FILL_BYTES ((uint64_t) 256 << 20)  // copied by one submit while loading

// Moves of one step. What they copy is bounded by a quarter of what the step before has read at
// home, so that they never take more of the bus than a part of what they are to save, and by
// MAX_MOVE_BYTES; but one block may always move.
#define MAX_MOVES      16u
#define MAX_MOVE_BYTES ((uint64_t) 32 << 20)

// A count halves within some 70 steps. A block moves in when it is hotter than the one that has to
// go by this factor and, for those that are hardly ever chosen, by two choices: noise alone should
// not move anything.
#define DECAY         0.99
#define HOTTER_FACTOR 1.25
#define HOTTER_COUNT  2.0
#define MAX_UNIT      1e30

// A place in one of several buffers.
typedef struct place {
    uint32_t piece;
    uint64_t offset;
} place;

typedef struct pool {
    GPtrArray *pieces;  // of vlm_buffer
    GArray *bytes;      // of uint64_t: of each piece, before they are made
} pool;

typedef struct slot {
    place at;
    uint64_t bytes;
    uint32_t block;  // NONE: empty
} slot;

struct vlm_expert_store {
    vlm_device *dev;  // not owned
    uint32_t n_layer, n_expert, n_block, n_slot, max_ids;
    uint64_t *block_bytes;  // [n_layer]
    place *homes;           // [n_block]
    slot *slots;            // [n_slot]
    uint64_t *sizes;        // [n_size] of blocks, each once
    uint32_t n_size;
    uint32_t *slot_of;  // [n_block] NONE: it is read at home
    pool home, device;
    vlm_buffer *table;    // u64 [n_block]: what kernels look up
    vlm_buffer *wanted;   // the same as it should be, mapped, and a serial number behind it
    vlm_buffer *chosen;   // u32 [n_layer][n_id] and the serial number of the step that made them
    gboolean table_old;   // `table` is not what is wanted
    double *heat;         // [n_block] counts, each in units of its time
    double unit;          // of a choice now: it grows where counts would fade
    uint32_t *seen;       // [n_block] the last step that chose it
    uint64_t serial;      // of the step recorded last
    uint32_t n_id;        // of that step, in each layer
    gboolean recorded;    // there is such a step, not looked at yet
    uint64_t miss_bytes;  // that the step before read at home
    uint32_t moved[MAX_MOVES], n_moved;  // slots that the recorded step fills
    gsize hits, misses, moves;           // atomic
    uint64_t home_bytes, slot_bytes;     // in all
};

// ------------------------------------------------------------------------------ memory

static void pool_init(pool *p)
{
    p->pieces = g_ptr_array_new_with_free_func((GDestroyNotify) vlm_buffer_destroy);
    p->bytes = g_array_new(FALSE, TRUE, sizeof(uint64_t));
}

static void pool_clear(pool *p)
{
    g_clear_pointer(&p->pieces, g_ptr_array_unref);
    g_clear_pointer(&p->bytes, g_array_unref);
}

static place pool_add(pool *p, uint64_t bytes)
{
    const uint64_t zero = 0;

    if (p->bytes->len == 0 || g_array_index(p->bytes, uint64_t, p->bytes->len - 1) + bytes > PIECE)
        g_array_append_val(p->bytes, zero);
    uint64_t *last = &g_array_index(p->bytes, uint64_t, p->bytes->len - 1);
    const place at = { p->bytes->len - 1, *last };
    *last += bytes;
    return at;
}

static gboolean pool_make(pool *p, vlm_device *dev, vlm_memory_use use, GError **error)
{
    for (guint i = 0; i < p->bytes->len; i++) {
        vlm_buffer *piece =
            vlm_buffer_create(dev, (size_t) g_array_index(p->bytes, uint64_t, i), use, error);
        if (!piece)
            return FALSE;
        g_ptr_array_add(p->pieces, piece);
    }
    return TRUE;
}

static vlm_buffer *piece_of(const pool *p, const place *at)
{
    return g_ptr_array_index(p->pieces, at->piece);
}

static uint64_t bytes_of(const vlm_expert_store *store, uint32_t block)
{
    return store->block_bytes[block / store->n_expert];
}

// Blocks of one size share their slots, whatever their layer: each size gets its share of the
// memory, and what is left goes to whoever fits.
static void lay_out_slots(vlm_expert_store *store, uint64_t slot_bytes)
{
    g_autoptr(GArray) slots = g_array_new(FALSE, FALSE, sizeof(slot));
    g_autofree uint32_t *n_left = g_new0(uint32_t, store->n_layer);
    uint64_t left = slot_bytes;

    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t il = 0; il < store->n_layer; il++) {
            const uint64_t bytes = store->block_bytes[il];
            if (bytes == 0)
                continue;
            // (in the first pass a layer's share stands for that of its size)
            if (pass == 0)
                n_left[il] = store->n_expert;
            const double share = (double) bytes * store->n_expert / (double) store->home_bytes;
            uint64_t n = pass == 0 ? (uint64_t) (share * (double) slot_bytes / (double) bytes)
                                   : left / bytes;
            n = MIN(MIN(n, left / bytes), n_left[il]);
            n_left[il] -= (uint32_t) n;
            left -= n * bytes;
            for (uint64_t i = 0; i < n; i++) {
                const slot s = { pool_add(&store->device, bytes), bytes, NONE };
                g_array_append_val(slots, s);
            }
        }
    }
    store->n_slot = slots->len;
    store->slot_bytes = slot_bytes - left;
    store->slots = g_memdup2(slots->data, slots->len * sizeof(slot));
}

static void find_sizes(vlm_expert_store *store)
{
    store->sizes = g_new0(uint64_t, store->n_layer);
    for (uint32_t il = 0; il < store->n_layer; il++) {
        uint32_t i = 0;
        while (i < store->n_size && store->sizes[i] != store->block_bytes[il])
            i++;
        if (i == store->n_size && store->block_bytes[il] > 0)
            store->sizes[store->n_size++] = store->block_bytes[il];
    }
}

uint64_t vlm_expert_store_overhead(uint32_t n_layer, uint32_t n_expert, uint32_t max_ids)
{
    return 2 * (uint64_t) n_layer * n_expert * 8 + 8 + (uint64_t) n_layer * max_ids * 4 + 8
           + 3 * (uint64_t) VLM_GUARD_BYTES;
}

vlm_expert_store *vlm_expert_store_new(vlm_device *dev, const vlm_expert_store_params *params,
                                       GError **error)
{
    g_autoptr(vlm_expert_store) store = g_new0(vlm_expert_store, 1);
    const uint32_t n_block = params->n_layer * params->n_expert;

    store->dev = dev;
    store->n_layer = params->n_layer;
    store->n_expert = params->n_expert;
    store->n_block = n_block;
    store->max_ids = params->max_ids;
    store->unit = 1;
    store->block_bytes =
        g_memdup2(params->block_bytes, params->n_layer * sizeof *params->block_bytes);
    store->homes = g_new0(place, n_block);
    store->slot_of = g_new(uint32_t, n_block);
    store->heat = g_new0(double, n_block);
    store->seen = g_new0(uint32_t, n_block);
    pool_init(&store->home);
    pool_init(&store->device);
    for (uint32_t i = 0; i < n_block; i++) {
        store->slot_of[i] = NONE;
        store->homes[i] = pool_add(&store->home, bytes_of(store, i));
        store->home_bytes += bytes_of(store, i);
    }
    find_sizes(store);
    lay_out_slots(store, params->slot_bytes);
    if (!pool_make(&store->home, dev, VLM_MEMORY_HOST, error)
        || !pool_make(&store->device, dev, VLM_MEMORY_WEIGHTS, error)
        || !(store->table = vlm_buffer_create(dev, 8 * (size_t) n_block, VLM_MEMORY_WEIGHTS, error))
        || !(store->wanted =
                 vlm_buffer_create(dev, 8 * (size_t) n_block + 8, VLM_MEMORY_UPLOAD, error))
        || !(store->chosen =
                 vlm_buffer_create(dev, 4 * (size_t) params->n_layer * params->max_ids + 8,
                                   VLM_MEMORY_READBACK, error)))
        return NULL;
    memset(store->chosen->host, 0, store->chosen->bytes);
    return g_steal_pointer(&store);
}

void vlm_expert_store_free(vlm_expert_store *store)
{
    if (!store)
        return;
    pool_clear(&store->home);
    pool_clear(&store->device);
    vlm_buffer_destroy(store->table);
    vlm_buffer_destroy(store->wanted);
    vlm_buffer_destroy(store->chosen);
    g_free(store->block_bytes);
    g_free(store->homes);
    g_free(store->slots);
    g_free(store->sizes);
    g_free(store->slot_of);
    g_free(store->heat);
    g_free(store->seen);
    g_free(store);
}

void *vlm_expert_store_home(const vlm_expert_store *store, uint32_t layer, uint32_t expert)
{
    const place *at = &store->homes[layer * store->n_expert + expert];

    return (char *) piece_of(&store->home, at)->host + at->offset;
}

uint64_t vlm_expert_store_table(const vlm_expert_store *store, uint32_t layer)
{
    return store->table->addr + 8 * (uint64_t) layer * store->n_expert;
}

// ------------------------------------------------------------------------------ moves

// Writes down where `block` is to be read from now on.
static void set_place(vlm_expert_store *store, uint32_t block)
{
    const uint32_t s = store->slot_of[block];
    const pool *p = s == NONE ? &store->home : &store->device;
    const place *at = s == NONE ? &store->homes[block] : &store->slots[s].at;

    ((uint64_t *) store->wanted->host)[block] = piece_of(p, at)->addr + at->offset;
    store->table_old = TRUE;
}

static void empty_slot(vlm_expert_store *store, uint32_t s)
{
    const uint32_t block = store->slots[s].block;

    if (block == NONE)
        return;
    store->slots[s].block = NONE;
    store->slot_of[block] = NONE;
    set_place(store, block);
}

// Records the copy of a block from home into slot `s`, whose block goes home.
static void move_in(vlm_expert_store *store, vlm_cmd *cmd, uint32_t block, uint32_t s)
{
    const place *home = &store->homes[block], *to = &store->slots[s].at;

    empty_slot(store, s);
    store->slots[s].block = block;
    store->slot_of[block] = s;
    set_place(store, block);
    vlm_cmd_copy(cmd, piece_of(&store->device, to), to->offset, piece_of(&store->home, home),
                 home->offset, bytes_of(store, block));
}

static void record_table(vlm_expert_store *store, vlm_cmd *cmd)
{
    if (store->table_old)
        vlm_cmd_copy(cmd, store->table, 0, store->wanted, 0, store->table->bytes);
}

gboolean vlm_expert_store_fill(vlm_expert_store *store, GError **error)
{
    g_autoptr(vlm_cmd) cmd = vlm_cmd_create(store->dev, 4096, error);
    uint64_t copied = 0;
    uint32_t block = 0;

    if (!cmd || !vlm_cmd_begin(cmd, error))
        return FALSE;
    for (uint32_t i = 0; i < store->n_block; i++) {
        // expert by expert, and in each all layers
        block = i % store->n_layer * store->n_expert + i / store->n_layer;
        uint32_t s = 0;
        while (
            s < store->n_slot
            && (store->slots[s].block != NONE || store->slots[s].bytes != bytes_of(store, block)))
            s++;
        if (bytes_of(store, block) == 0 || s == store->n_slot) {
            set_place(store, block);
            continue;
        }
        move_in(store, cmd, block, s);
        copied += bytes_of(store, block);
        if (copied > FILL_BYTES) {
            if (!vlm_cmd_run(cmd, error) || !vlm_cmd_begin(cmd, error))
                return FALSE;
            copied = 0;
        }
    }
    record_table(store, cmd);
    store->table_old = FALSE;
    return vlm_cmd_run(cmd, error);
}

// Counts what the last step chose. It has been run: the serial number behind it says so.
static void count(vlm_expert_store *store)
{
    const uint32_t *ids = store->chosen->host;
    const uint32_t step = (uint32_t) store->serial;
    gsize hits = 0, misses = 0;

    store->miss_bytes = 0;
    store->unit /= DECAY;
    for (uint32_t il = 0; il < store->n_layer; il++) {
        if (store->block_bytes[il] == 0)
            continue;
        for (uint32_t i = 0; i < store->n_id; i++) {
            const uint32_t expert = MIN(ids[(size_t) il * store->n_id + i], store->n_expert - 1);
            const uint32_t block = il * store->n_expert + expert;
            store->heat[block] += store->unit;
            if (store->seen[block] == step)
                continue;
            store->seen[block] = step;
            if (store->slot_of[block] != NONE) {
                hits++;
            } else {
                misses++;
                store->miss_bytes += store->block_bytes[il];
            }
        }
    }
    g_atomic_pointer_add(&store->hits, (gssize) hits);
    g_atomic_pointer_add(&store->misses, (gssize) misses);
    if (store->unit < MAX_UNIT)
        return;
    for (uint32_t i = 0; i < store->n_block; i++)
        store->heat[i] /= store->unit;
    store->unit = 1;
}

// Looks at what became of the step that was recorded last.
static void finish_step(vlm_expert_store *store)
{
    uint64_t serial;

    if (!store->recorded)
        return;
    store->recorded = FALSE;
    memcpy(&serial, (char *) store->chosen->host + store->chosen->bytes - 8, 8);
    if (serial == store->serial) {
        g_atomic_pointer_add(&store->moves, (gssize) store->n_moved);
        store->table_old = FALSE;
        count(store);
    } else {
        // It was not run, or not to its end: who knows what is in these slots.
        for (uint32_t i = 0; i < store->n_moved; i++)
            empty_slot(store, store->moved[i]);
        store->table_old = TRUE;
        store->miss_bytes = 0;
    }
    store->n_moved = 0;
}

// The hottest block at home of a size; NONE: none of them was ever chosen.
static uint32_t find_hottest(const vlm_expert_store *store, uint64_t bytes)
{
    uint32_t best = NONE;

    for (uint32_t i = 0; i < store->n_block; i++)
        if (store->slot_of[i] == NONE && store->heat[i] > 0 && bytes_of(store, i) == bytes
            && (best == NONE || store->heat[i] > store->heat[best]))
            best = i;
    return best;
}

// An empty slot of a size, or else the one with the coldest block; NONE: there is none.
static uint32_t find_coldest(const vlm_expert_store *store, uint64_t bytes)
{
    uint32_t best = NONE;

    for (uint32_t s = 0; s < store->n_slot; s++) {
        const slot *at = &store->slots[s];
        if (at->bytes != bytes)
            continue;
        if (at->block == NONE)
            return s;
        if (best == NONE || store->heat[at->block] < store->heat[store->slots[best].block])
            best = s;
    }
    return best;
}

static gboolean is_worth_it(const vlm_expert_store *store, uint32_t block, uint32_t s)
{
    const uint32_t old = store->slots[s].block;

    return old == NONE
           || store->heat[block] > HOTTER_FACTOR * store->heat[old] + HOTTER_COUNT * store->unit;
}

static void record_moves(vlm_expert_store *store, vlm_cmd *cmd)
{
    uint64_t left = MIN(store->miss_bytes / 4, MAX_MOVE_BYTES);

    if (store->miss_bytes == 0)
        return;
    for (uint32_t i = 0; i < store->n_size; i++) {
        // (each size comes first at times)
        const uint64_t bytes = store->sizes[(i + store->serial) % store->n_size];
        while (store->n_moved < MAX_MOVES && (store->n_moved == 0 || bytes <= left)) {
            const uint32_t block = find_hottest(store, bytes);
            const uint32_t s = block == NONE ? NONE : find_coldest(store, bytes);
            if (s == NONE || !is_worth_it(store, block, s))
                break;
            move_in(store, cmd, block, s);
            store->moved[store->n_moved++] = s;
            left -= MIN(left, bytes);
        }
    }
}

void vlm_expert_store_begin(vlm_expert_store *store, vlm_cmd *cmd)
{
    finish_step(store);
    record_moves(store, cmd);
    store->serial++;
    store->n_id = 0;
    store->recorded = TRUE;
    memcpy((char *) store->wanted->host + store->wanted->bytes - 8, &store->serial, 8);
    if (!store->table_old)
        return;
    record_table(store, cmd);
    vlm_cmd_barrier(cmd);
}

void vlm_expert_store_end(vlm_expert_store *store, vlm_cmd *cmd, const vlm_buffer *ids,
                          size_t offset, uint32_t n_id)
{
    store->n_id = n_id <= store->max_ids ? n_id : 0;
    if (store->n_id > 0)
        vlm_cmd_copy(cmd, store->chosen, 0, ids, offset, 4 * (size_t) store->n_layer * n_id);
    vlm_cmd_copy(cmd, store->chosen, store->chosen->bytes - 8, store->wanted,
                 store->wanted->bytes - 8, 8);
}

void vlm_expert_store_stats(vlm_expert_store *store, vlm_expert_stats *stats)
{
    *stats = (vlm_expert_stats){
        .host_bytes = store->home_bytes,
        .slot_bytes = store->slot_bytes,
        .n_hit = (uint64_t) g_atomic_pointer_get(&store->hits),
        .n_miss = (uint64_t) g_atomic_pointer_get(&store->misses),
        .n_moved = (uint64_t) g_atomic_pointer_get(&store->moves),
    };
}
